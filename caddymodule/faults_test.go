package caddymodule_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
)

// faulty is an upstream that gives out tokens and otherwise does what its payment
// func says.
func faulty(t *testing.T, payment http.HandlerFunc) string {
	t.Helper()
	weChat, err := simulator.New(simulator.Demo(), simulator.Options{})
	require.NoError(t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == wechat.StableTokenPath {
			weChat.ServeHTTP(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body) // only then does a server see that its client left
		payment(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// before runs a sidecar that sends to the upstream and logs to a file.
func before(t *testing.T, upstream, more string) (w *world, log func() string) {
	t.Helper()
	w = &world{t: t, keys: filepath.Join(t.TempDir(), "keys.json")}
	w.store(demoKeys)
	file := filepath.Join(t.TempDir(), "log")
	w.load(`{
		admin off
		persist_config off
		log {
			output file ` + file + `
			level DEBUG
		}
		servers {
			trace
		}
		midas {
			secrets file ` + w.keys + `
			upstream ` + upstream + `
			app ` + appID + ` {
				offer_id 12345678
			}
			` + more + `
		}
	}
	http://127.0.0.1:0 {
		bind 127.0.0.1
		log
		midas
	}`)
	return w, func() string {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		return string(text)
	}
}

func TestAnAnswerThatIsLostIsUnknown(t *testing.T) {
	for name, payment := range map[string]http.HandlerFunc{
		"reset": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"truncated": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "99")
			_, _ = w.Write([]byte(`{"errcode":0`))
		},
		"HTML":     func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"empty":    func(http.ResponseWriter, *http.Request) {},
		"5xx":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
		"redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"timeout":  func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := before(t, faulty(t, payment), "deadline 300ms\n attempt_timeout 100ms\n replay 0")
			a := w.post("/cgi-bin/midas/pay", pay("b1", 1))
			require.Equal(t, http.StatusGatewayTimeout, a.status)
			require.Equal(t, "outcome_unknown", a.Error)
			require.Equal(t, "unknown", a.header.Get("Midas-Outcome"))
			require.NotEqual(t, "0", a.header.Get("Midas-Attempts"))
			require.Equal(t, -1, a.Errcode)
			require.Equal(t, "b1", a.BillNo)
		})
	}
}

func TestABusySystemsOwnWordsReachTheCaller(t *testing.T) {
	const busy = `{"errcode":-1, "errmsg":"system busy"}`
	w, _ := before(t, faulty(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = w.Write([]byte(busy))
	}), "deadline 300ms\n attempt_timeout 100ms")
	a := w.post("/cgi-bin/midas/pay", pay("b1", 1))
	require.Equal(t, busy, a.body)
	require.Equal(t, "application/json; charset=utf-8", a.header.Get("Content-Type"))
	require.Equal(t, "unknown", a.header.Get("Midas-Outcome"))
	require.Empty(t, a.header.Get("Midas-Error"))
}

func TestWithoutAConnectionNothingWasSent(t *testing.T) {
	w, _ := before(t, unreachable(t), "")
	a := w.post("/cgi-bin/midas/pay", pay("b1", 1))
	require.Equal(t, "token_unavailable", a.Error, "no token can be had either")

	keys := maps.Clone(demoKeys)
	keys["token"] = map[string]string{"access_token": "T"}
	w, _ = before(t, unreachable(t), "app wx2 {\n offer_id 2\n secret midas/"+appID+"\n session midas/"+appID+"/sessions/{openid}\n access_token secret token\n }\n deadline 300ms\n attempt_timeout 100ms")
	w.store(keys)
	a = w.post("/cgi-bin/midas/pay", `{"appid":"wx2","openid":"`+player+`","amt":1,"bill_no":"b1"}`)
	require.Equal(t, http.StatusBadGateway, a.status)
	require.Equal(t, "upstream_unreachable", a.Error)
	require.Equal(t, "not_sent", a.header.Get("Midas-Outcome"))
	require.Equal(t, "0", a.header.Get("Midas-Attempts"))
}

func TestACallerThatHangsUpDoesNotUndoItsOrder(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	weChat, err := simulator.New(simulator.Demo(), simulator.Options{})
	require.NoError(t, err)
	done := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != wechat.StableTokenPath {
			close(arrived)
			<-release
			defer close(done)
		}
		weChat.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	w, log := before(t, server.URL, "")

	ctx, hangUp := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.sidecar+"/cgi-bin/midas/pay", strings.NewReader(pay("b1", 1)))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	failed := make(chan error)
	go func() { _, err := http.DefaultTransport.RoundTrip(req); failed <- err }()

	<-arrived
	hangUp()
	require.Error(t, <-failed)
	close(release)
	<-done
	require.Equal(t, int64(9999), weChat.Purse(appID, player, wechat.Official).Balance)
	require.Eventually(t, func() bool { return strings.Contains(log(), `"outcome":"applied"`) }, 5*time.Second, 5*time.Millisecond)
}

// The one line of an order, and no secret anywhere, whatever Caddy is told to log.
func TestAnOrderIsLoggedOnceAndWithoutSecrets(t *testing.T) {
	var sent string
	w, log := before(t, faulty(t, func(rw http.ResponseWriter, r *http.Request) {
		sent = r.URL.RawQuery
		rw.WriteHeader(http.StatusInternalServerError)
	}), "deadline 300ms\n attempt_timeout 100ms")
	w.post("/cgi-bin/midas/pay", pay("b1", 1))

	var lines []map[string]any
	for line := range strings.Lines(log()) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &fields))
		if fields["msg"] == "order" {
			lines = append(lines, fields)
		}
	}
	require.Len(t, lines, 1)
	line := lines[0]
	require.Equal(t, "http.handlers.midas", line["logger"])
	require.Equal(t, appID, line["appid"])
	require.Equal(t, "pay", line["api"])
	require.Equal(t, "official", line["environment"])
	require.Equal(t, "b1", line["bill_no"])
	require.Equal(t, "unknown", line["outcome"])
	require.EqualValues(t, -1, line["errcode"])
	require.NotZero(t, line["attempts"])
	require.Contains(t, line, "duration")

	token := strings.TrimPrefix(sent, "access_token=")
	require.NotEmpty(t, token)
	for _, secret := range []string{token, demoKeys["midas/"+appID]["midas_key"], demoKeys["midas/"+appID]["app_secret"], "V7Q38/i2KXaqrQyl2Yx9Hg=="} {
		require.NotContains(t, log(), secret)
	}
}

// unreachable returns an address that refuses connections.
func unreachable(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return "http://" + listener.Addr().String()
}

// A caller that never finishes its body has no order, and must not keep the process
// from ending.
func TestABodyThatDoesNotComeIsGivenUp(t *testing.T) {
	w, _ := before(t, unreachable(t), "deadline 200ms\n attempt_timeout 100ms")
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.sidecar, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = conn.Write([]byte("POST /cgi-bin/midas/pay HTTP/1.1\r\nHost: " + conn.RemoteAddr().String() + "\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\r\n{"))
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = res.Body.Close() })
	require.Equal(t, http.StatusBadRequest, res.StatusCode)
	require.Equal(t, "not_sent", res.Header.Get("Midas-Outcome"))
}

func TestAnAnswerWhoseHeaderHasNoEndIsLost(t *testing.T) {
	w, _ := before(t, faulty(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", 65<<10))
		_, _ = w.Write([]byte(`{"errcode":0}`))
	}), "deadline 1s\n attempt_timeout 500ms\n replay 0")
	require.Equal(t, "unknown", w.post("/cgi-bin/midas/pay", pay("b1", 1)).header.Get("Midas-Outcome"))
}
