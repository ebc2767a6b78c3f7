package caddymodule_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/wechat"
)

func TestTheSameOrderAgainGetsTheSameAnswer(t *testing.T) {
	w := newWorld(t, "", "")
	first := w.post("/cgi-bin/midas/pay", pay("b1", 1))
	again := w.post("/cgi-bin/midas/pay", pay("b1", 1))
	require.Equal(t, first.body, again.body)
	require.Equal(t, "true", again.header.Get("Midas-Replayed"))
	require.Empty(t, first.header.Get("Midas-Replayed"))
	require.Equal(t, "applied", again.header.Get("Midas-Outcome"))
	require.Equal(t, 1, w.hits.payments())
}

func TestAnotherOrderUnderTheSameNumberIsAConflict(t *testing.T) {
	w := newWorld(t, "", "")
	w.post("/cgi-bin/midas/pay", pay("b1", 1))
	a := w.post("/cgi-bin/midas/pay", pay("b1", 2))
	require.Equal(t, http.StatusConflict, a.status)
	require.Equal(t, "bill_no_conflict", a.Error)
	require.Equal(t, 90018, a.Errcode)
	require.Equal(t, "not_sent", a.header.Get("Midas-Outcome"))
	require.Equal(t, 1, w.hits.payments())
	require.Equal(t, int64(9999), w.balance(wechat.Official))

	require.Equal(t, "applied", w.post("/cgi-bin/midas/sandbox/pay", pay("b1", 2)).header.Get("Midas-Outcome"), "the sandbox has its own numbers")
}

func TestTwoHandlersAndAChangedConfigShareOneMemory(t *testing.T) {
	w := newWorld(t, "", "@ingame header X-Caller ingame\n midas @ingame {\n max_amount 5\n }\n midas")
	w.post("/cgi-bin/midas/pay", pay("b1", 1))
	a := w.do(http.MethodPost, "/cgi-bin/midas/pay", pay("b1", 1), "Content-Type", "application/json", "X-Caller", "ingame")
	require.Equal(t, "true", a.header.Get("Midas-Replayed"))

	w.reload(strings.Replace(w.config, "secrets file", "deadline 9s\n secrets file", 1))
	a = w.post("/cgi-bin/midas/pay", pay("b1", 1))
	require.Equal(t, "true", a.header.Get("Midas-Replayed"))
	require.Equal(t, 1, w.hits.payments())
}

func TestAnOrderInFlightOutlivesAChangeOfTheConfig(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	w, _ := before(t, faulty(t, func(rw http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		_, _ = rw.Write([]byte(`{"errcode":0,"errmsg":"ok"}`))
	}), "")

	answers := make(chan answer, 2)
	old := *w
	go func() { answers <- old.post("/cgi-bin/midas/pay", pay("b1", 1)) }()
	<-arrived
	w.reload(strings.Replace(w.config, "secrets file", "deadline 9s\n secrets file", 1))
	go func() { answers <- w.post("/cgi-bin/midas/pay", pay("b1", 1)) }()
	close(release)
	for range 2 {
		require.Equal(t, "applied", (<-answers).header.Get("Midas-Outcome"))
	}
}
