package caddymodule_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"midas-sidecar/simulator"
	"midas-sidecar/wechat"
)

// Whatever WeChat does to an order, over whichever transport: what the caller is told
// is in WeChat's books.
func TestTheWholeTableOfFaultsOverEachTransport(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		for _, transport := range []string{"http", "direct"} {
			t.Run(transport+" over "+scheme, func(t *testing.T) {
				newStorm(t, transport, scheme).strike()
			})
		}
	}
}

// bodies are orders of a player under a number.
var bodies = map[string]string{
	"pay":       `{"openid":%q,"bill_no":%q,"amt":1}`,
	"cancelpay": `{"openid":%q,"bill_no":%q}`,
	"present":   `{"openid":%q,"bill_no":%q,"present_counts":1}`,
}

// storm is a sidecar whose every order meets a fault.
type storm struct {
	*world
	faults map[string]string // by bill_no, of the first attempt or, with "!" at its end, of all
}

func newStorm(t *testing.T, transport, scheme string) *storm {
	t.Helper()
	weChat, err := simulator.New(simulator.Demo(), simulator.Options{})
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(weChat)
	start, trust := server.Start, ""
	if scheme == "https" {
		start, trust = server.StartTLS, " {\n tls_trust_pool file "+filepath.Join(t.TempDir(), "ca.pem")+"\n}"
	}
	start()
	t.Cleanup(server.Close)
	t.Cleanup(weChat.Forget)
	if scheme == "https" {
		ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		require.NoError(t, os.WriteFile(strings.Fields(trust)[3], ca, 0o600))
	}
	w, _ := before(t, server.URL, "deadline 3s\n attempt_timeout 1s\n transport "+transport+trust)
	w.weChat = weChat
	require.Equal(t, "applied", w.post("/cgi-bin/midas/pay", pay("warm", 1)).header.Get("Midas-Outcome"))
	s := &storm{w, map[string]string{}}
	for _, api := range []string{"pay", "cancelpay", "present"} {
		for _, kind := range simulator.Kinds() {
			for _, often := range []string{"", "!"} {
				s.faults[fmt.Sprintf("%s-%d", api, len(s.faults))] = kind.Name + often
			}
		}
	}
	return s
}

// strike makes all orders at once and judges their answers.
func (s *storm) strike() {
	for billNo := range s.faults {
		if strings.HasPrefix(billNo, "cancelpay") {
			require.Equal(s.t, "applied", s.post("/cgi-bin/midas/pay", pay(billNo, 1)).header.Get("Midas-Outcome"))
		}
	}
	s.weChat.Misbehave(func(c simulator.Call) simulator.Fault {
		kind, always := strings.CutSuffix(s.faults[c.BillNo], "!")
		if !always && c.Attempt > 1 || c.API.Name == "pay" && strings.HasPrefix(c.BillNo, "cancelpay") {
			kind = "none"
		}
		return simulator.Fault{Kind: kind}
	})
	var mu sync.Mutex
	var calls errgroup.Group
	calls.SetLimit(40)
	answers := map[string]answer{}
	call := func(billNo string) {
		api, _, _ := strings.Cut(billNo, "-")
		a := s.post("/cgi-bin/midas/"+api, fmt.Sprintf(bodies[api], player, billNo))
		mu.Lock()
		defer mu.Unlock()
		answers[billNo] = a
	}
	// What is wrong with the token is wrong for all.
	alone := func(billNo string) bool { return strings.HasPrefix(s.faults[billNo], "token_") }
	for billNo := range s.faults {
		if !alone(billNo) {
			calls.Go(func() error { call(billNo); return nil })
		}
	}
	_ = calls.Wait()
	for billNo := range s.faults {
		if alone(billNo) {
			call(billNo)
		}
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(s.t, s.weChat.Settle(ctx))
	require.Len(s.t, answers, len(s.faults))
	for billNo, a := range answers {
		s.judge(billNo, a)
	}
}

// judge holds an answer against the books.
func (s *storm) judge(billNo string, a answer) {
	api, _, _ := strings.Cut(billNo, "-")
	fault := api + " " + s.faults[billNo]
	order, done := s.weChat.Order(simulator.OrderID{AppID: appID, Environment: wechat.Official, BillNo: billNo})
	require.LessOrEqual(s.t, order.Applied, 1, fault)
	if api == "cancelpay" {
		done = order.Returned
	}
	switch outcome := a.header.Get("Midas-Outcome"); outcome {
	case "applied", "already_applied", "duplicate":
		require.True(s.t, done, "%s: %s", fault, outcome)
	case "rejected", "not_sent":
		require.False(s.t, done, "%s: %s", fault, outcome)
	default:
		require.Equal(s.t, "unknown", outcome, fault)
	}
}
