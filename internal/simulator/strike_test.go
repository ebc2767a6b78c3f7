package simulator

import (
	"compress/gzip"
	"io"
	"net/http/httptrace"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/wechat"
)

// What takes its place in TestEachKindDoesWhatItsRowSays is tested there; here is
// what one call does not show.

func TestATokenIsRefusedAndStays(t *testing.T) {
	for kind, code := range map[string]int{"token_40001": 40001, "token_42001": 42001} {
		w := newWorld(t)
		w.sim.Misbehave(first(kind))
		require.Equal(t, code, w.pay("b1", 5).Errcode)
		require.Equal(t, theToken, w.stableToken(false).AccessToken)
		require.Zero(t, w.pay("b1", 5).Errcode)
	}
}

func TestATokenIsReplaced(t *testing.T) {
	for kind, code := range map[string]int{"token_40001_replaced": 40001, "token_42001_replaced": 42001} {
		w := newWorld(t)
		w.sim.Misbehave(first(kind))
		require.Equal(t, code, w.pay("b1", 5).Errcode)
		require.Equal(t, code, w.pay("b1", 5).Errcode, "the old one is dead")
		fresh := w.stableToken(false).AccessToken
		require.NotEqual(t, theToken, fresh)
		w.sim.Forget()
		require.Zero(t, w.try(fresh))
	}
}

func TestABusinessReasonIsInTheErrmsg(t *testing.T) {
	w := newWorld(t)
	w.sim.Misbehave(always("busy_balance"))
	require.Regexp(t, `^1034-131-0 `, w.pay("b1", 5).Errmsg)
	w.sim.Misbehave(always("busy_currency"))
	require.Regexp(t, `^1021-1021-0 `, w.pay("b1", 5).Errmsg)
}

func TestTheClockIsOff(t *testing.T) {
	w := newWorldWith(t, Options{Tolerance: time.Hour})
	w.sim.Misbehave(always("clock_behind"))
	require.Contains(t, w.pay("b1", 5).Errmsg, "ts: is in the future")
	w.sim.Misbehave(always("clock_ahead"))
	require.Contains(t, w.pay("b1", 5).Errmsg, "ts: is too old")
}

func TestTheBalanceMayBeCheckedFirstForOneCall(t *testing.T) {
	w := newWorld(t)
	require.Zero(t, w.pay("b1", 10000).Errcode)
	w.sim.Misbehave(first("balance_first"))
	require.Equal(t, 90013, w.pay("b1", 10000).Errcode)
	require.Equal(t, 90012, w.pay("b1", 10000).Errcode)
}

// After the order is applied its true answer is spoilt, which may be a refusal.
func TestARefusalIsSpoiltToo(t *testing.T) {
	s := newSite(t)
	require.Zero(t, s.payOnce("b1").answered(t).Errcode)
	s.sim.Misbehave(always("truncated_after"))
	require.Regexp(t, `^{"errcode":90012,"errmsg":"ord[^}]*$`, s.payOnce("b1").text)
	s.sim.Misbehave(always("codeless_after"))
	require.JSONEq(t, `{"errmsg":"order already exists"}`, s.payOnce("b1").text)
}

func TestGzipComesUnasked(t *testing.T) {
	s := newSite(t)
	s.transport.DisableCompression = true
	s.sim.Misbehave(always("gzip_after"))
	x := s.payOnce("b1")
	require.Equal(t, "gzip", x.header.Get("Content-Encoding"))
	plain, err := gzip.NewReader(strings.NewReader(x.text))
	require.NoError(t, err)
	text, err := io.ReadAll(plain)
	require.NoError(t, err)
	require.JSONEq(t, `{"errcode":0,"errmsg":"ok","bill_no":"b1","balance":9995,"used_gen_amt":0}`, string(text))
}

func TestAnAnswerDrips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.sim.Misbehave(func(Call) Fault { return Fault{Kind: "drip_after", Delay: time.Second} })
		begin := time.Now()
		answer := w.pay("b1", 5)
		require.Zero(t, answer.Errcode)
		require.Equal(t, time.Duration(len(answer.text))*time.Second, time.Since(begin))

		go func() {
			time.Sleep(3500 * time.Millisecond)
			w.sim.Forget()
		}()
		begin = time.Now()
		require.Equal(t, 90012, w.pay("b1", 5).Errcode)
		require.Equal(t, 3500*time.Millisecond, time.Since(begin), "without faults the rest comes at once")
	})
}

// The client trusts its connection with another pay, and loses both: WeChat has
// seen nothing of the pay, which the client cannot know.
func TestADeadConnectionTakesTheNextRequestWithIt(t *testing.T) {
	s := newSite(t)
	s.sim.Misbehave(first("dead_connection_after"))
	require.Zero(t, s.payOnce("b1").answered(t).Errcode)

	reused := false
	watched := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
	})
	require.Error(t, s.send(watched, s.payFor("b2")).err)
	require.True(t, reused)
	require.Zero(t, s.sim.Attempts(wechat.Pay, official("b2")))
	require.False(t, s.paid("b2"))

	require.Zero(t, s.send(watched, s.payFor("b2")).answered(t).Errcode)
	require.False(t, reused)
}
