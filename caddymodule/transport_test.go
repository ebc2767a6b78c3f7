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

	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
)

// Whatever WeChat does to an order, over whichever transport: what the caller is told
// is in WeChat's books.
func TestTheWholeTableOfFaultsOverEachTransport(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		for _, transport := range []string{"http", "midas"} {
			t.Run(transport+" over "+scheme, func(t *testing.T) {
				newStorm(t, transport, scheme).strike()
			})
		}
	}
}

// bodies are orders of a player under a number. One of v2's cancelpay gives back a part.
var bodies = map[*wechat.API]string{
	wechat.Pay:         `{"openid":%q,"bill_no":%q,"amt":1}`,
	wechat.CancelPay:   `{"openid":%q,"bill_no":%q}`,
	wechat.Present:     `{"openid":%q,"bill_no":%q,"present_counts":1}`,
	wechat.PayV2:       `{"openid":%q,"bill_no":%q,"amount":1}`,
	wechat.CancelPayV2: `{"openid":%q,"bill_no":%[2]q,"amount":1,"pay_bill_no":"%[2]s-paid"}`,
	wechat.PresentV2:   `{"openid":%q,"bill_no":%q,"amount":1}`,
}

// struck is an order that meets a fault.
type struck struct {
	api    *wechat.API
	billNo string
	kind   string
	always bool // in all attempts, not in the first alone
}

func (o struck) String() string {
	often := "once"
	if o.always {
		often = "always"
	}
	return fmt.Sprintf("%s %s, %s %s", o.api.Family.Name, o.api, o.kind, often)
}

// paid is the number of the pay that a cancelpay takes back.
func (o struck) paid() string {
	if o.api == wechat.CancelPayV2 {
		return o.billNo + "-paid"
	}
	return o.billNo
}

// storm is a sidecar whose every order meets a fault.
type storm struct {
	*world
	orders map[string]struck // by bill_no
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
	s := &storm{w, map[string]struck{}}
	for api := range bodies {
		for _, kind := range simulator.Kinds() {
			if kind.API != "" && kind.API != api.Name || kind.Family != "" && kind.Family != api.Family.Name {
				continue
			}
			for _, always := range []bool{false, true} {
				billNo := fmt.Sprint("b", len(s.orders))
				s.orders[billNo] = struck{api, billNo, kind.Name, always}
			}
		}
	}
	return s
}

func (s *storm) call(o struck) answer {
	return s.post(wechat.At(o.api, wechat.Official).Path, fmt.Sprintf(bodies[o.api], player, o.billNo))
}

// strike makes all orders at once and judges their answers.
func (s *storm) strike() {
	for _, o := range s.orders {
		switch o.api {
		case wechat.CancelPay:
			require.Equal(s.t, "applied", s.post("/cgi-bin/midas/pay", pay(o.paid(), 1)).header.Get("Midas-Outcome"))
		case wechat.CancelPayV2:
			require.Equal(s.t, "applied", s.post("/wxa/game/pay", pay2(o.paid(), 3)).header.Get("Midas-Outcome"))
		}
	}
	s.weChat.Misbehave(func(c simulator.Call) simulator.Fault {
		o := s.orders[c.BillNo]
		if c.API != o.api || !o.always && c.Attempt > 1 {
			return simulator.Fault{}
		}
		return simulator.Fault{Kind: o.kind}
	})
	var mu sync.Mutex
	var calls errgroup.Group
	calls.SetLimit(80)
	answers := map[string]answer{}
	call := func(o struck) {
		a := s.call(o)
		mu.Lock()
		defer mu.Unlock()
		answers[o.billNo] = a
	}
	// What is wrong with the token is wrong for all.
	alone := func(o struck) bool { return strings.HasPrefix(o.kind, "token_") }
	for _, o := range s.orders {
		if !alone(o) {
			calls.Go(func() error { call(o); return nil })
		}
	}
	_ = calls.Wait()
	for _, o := range s.orders {
		if alone(o) {
			call(o)
		}
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(s.t, s.weChat.Settle(ctx))
	require.Len(s.t, answers, len(s.orders))
	for billNo, a := range answers {
		s.judge(s.orders[billNo], a)
	}
}

// judge holds an answer against the books.
func (s *storm) judge(o struck, a answer) {
	order, done := s.booked(o, o.billNo)
	require.LessOrEqual(s.t, order.Applied, 1, o)
	switch o.api {
	case wechat.CancelPay:
		done = order.Returned
	case wechat.CancelPayV2:
		paid, _ := s.booked(o, o.paid())
		require.EqualValues(s.t, order.Applied, paid.Refunded, "%s: coins given back", o)
		require.Equal(s.t, done, order.Of == o.paid(), o)
	}
	switch outcome := a.header.Get("Midas-Outcome"); outcome {
	case "applied", "already_applied", "duplicate":
		require.True(s.t, done, "%s: %s", o, outcome)
	case "rejected", "not_sent":
		require.False(s.t, done, "%s: %s", o, outcome)
	default:
		require.Equal(s.t, "unknown", outcome, o)
	}
}

// booked returns an order of the same family and player.
func (s *storm) booked(o struck, billNo string) (order simulator.Order, done bool) {
	id := simulator.OrderID{AppID: appID, Environment: wechat.Official, BillNo: billNo}
	if o.api.Family == wechat.V2 {
		id.OpenID, id.ZoneID = player, "1"
	}
	return s.weChat.Order(id)
}
