package simulator

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/wechat"
)

func TestAFaultStrikesOnlyWhatIsSignedWell(t *testing.T) {
	s := newSite(t)
	s.sim.Misbehave(always("lost_after"))
	unsigned := s.payFor("b1")
	unsigned.fields["sig"] = "0"
	unsigned.fields["mp_sig"] = "0"
	require.Equal(t, 90009, s.send(t.Context(), unsigned).answered(t).Errcode)
	require.Equal(t, 1, s.sim.Attempts(wechat.Pay, official("b1")))

	s.sim.Misbehave(always("reset_reading"))
	resetAtOnce(t, s.send(t.Context(), unsigned))
}

func TestAFunctionSeesTheCallAndItsAttempt(t *testing.T) {
	w := newWorld(t)
	var calls []Call
	w.sim.Misbehave(func(c Call) Fault {
		calls = append(calls, c)
		return Fault{}
	})
	w.pay("b1", 5)
	w.pay("b1", 5)
	w.cancel("b1")
	w.signed(balancePath, nil)
	w.signed(balancePath, nil)
	w.signed(payPath, map[string]any{"bill_no": "b|1", "amt": int64(5)})
	w.signed(payPath, map[string]any{"bill_no": "b1", "amt": int64(5), "appid": "wx9"})

	pay, cancel := wechat.At(wechat.Pay, wechat.Official), wechat.At(wechat.CancelPay, wechat.Official)
	balance := wechat.At(wechat.GetBalance, wechat.Official)
	require.Equal(t, []Call{
		{pay, appID, openID, "", "b1", 1},
		{pay, appID, openID, "", "b1", 2},
		{cancel, appID, openID, "", "b1", 1},
		{balance, appID, openID, "", "", 1},
		{balance, appID, openID, "", "", 2},
	}, calls, "and no call of a bill_no or an app that cannot be")
	require.Equal(t, 2, w.sim.Attempts(wechat.Pay, official("b1")))
	require.Equal(t, 1, w.sim.Attempts(wechat.CancelPay, official("b1")))
}

func TestAttemptsAreCountedAnewForNewFaults(t *testing.T) {
	w := newWorld(t)
	for range 2 {
		w.sim.Misbehave(first("busy_before"))
		require.Equal(t, -1, w.pay("b1", 5).Errcode)
	}
	require.Zero(t, w.pay("b1", 5).Errcode)
	require.Equal(t, 3, w.sim.Attempts(wechat.Pay, official("b1")))
}

// The function may use the simulator: here the player logs in on another phone
// while the call is on its way.
func TestAFunctionMayChangeTheWorld(t *testing.T) {
	w := newWorld(t)
	w.sim.Misbehave(func(Call) Fault {
		_, err := w.sim.Login(appID, openID)
		require.NoError(t, err)
		return Fault{}
	})
	require.Equal(t, 90009, w.pay("b1", 5).Errcode)
}

func TestAKindThatDoesNotExistPanics(t *testing.T) {
	w := newWorld(t)
	w.sim.Misbehave(always("lost"))
	require.PanicsWithValue(t, "simulator: no kind of fault is called lost", func() { w.pay("b1", 5) })
}

func TestALatePayLandsOnlyOnceItsClientHasLeft(t *testing.T) {
	s := newSite(t)
	struck := make(chan struct{})
	s.sim.Misbehave(func(Call) Fault {
		defer close(struck)
		return Fault{Kind: "late"}
	})
	patience, leave := context.WithCancel(t.Context())
	client := make(chan seen)
	go func() { client <- s.send(patience, s.payFor("b1")) }()
	<-struck
	require.Error(t, s.sim.Settle(ended()))
	require.False(t, s.paid("b1"))

	leave()
	gaveUp(t, <-client)
	require.NoError(t, s.sim.Settle(t.Context()))
	require.True(t, s.paid("b1"))
	s.requireLogged("carried out late: 5 coins taken, 9995 left")
}

func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// abandoned serves a pay whose client leaves at once.
func (w *world) abandoned(billNo string) {
	w.t.Helper()
	d := w.payment(with("bill_no", billNo))
	r := httptest.NewRequestWithContext(ended(), d.method, d.path+"?access_token="+d.token, strings.NewReader(d.body()))
	r.Header.Set("Content-Type", d.contentType)
	require.PanicsWithValue(w.t, http.ErrAbortHandler, func() { w.sim.ServeHTTP(httptest.NewRecorder(), r) })
}

func TestALatePayMayTakeItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.sim.Misbehave(func(Call) Fault { return Fault{Kind: "late", Delay: time.Minute} })
		go w.abandoned("b1")
		time.Sleep(time.Minute - time.Second)
		require.False(t, w.paid("b1"))
		require.NoError(t, w.sim.Settle(t.Context()))
		require.True(t, w.paid("b1"))

		go w.abandoned("b2")
		synctest.Wait()
		require.False(t, w.paid("b2"))
		w.sim.Forget()
		synctest.Wait()
		require.True(t, w.paid("b2"), "without faults nothing waits")
	})
}

func TestALatePayFindsTheWorldAsItIsThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.sim.Misbehave(func(Call) Fault { return Fault{Kind: "late", Delay: time.Minute} })
		go w.abandoned("b1")
		synctest.Wait()
		require.NoError(t, w.sim.Edit(func(s *State) { s.Apps[appID].Players = nil }))
		require.NoError(t, w.sim.Settle(t.Context()))
		w.requireLogged("carried out late: the player is gone since")
	})
}

func TestHangingCallsEndWhenTheFaultsDo(t *testing.T) {
	s := newSite(t)
	for _, end := range map[string]func(){
		"cleared":  s.sim.Forget,
		"replaced": func() { s.sim.Misbehave(always("hang_before")) },
	} {
		s.sim.Misbehave(func(Call) Fault {
			go end()
			return Fault{Kind: "hang_before"}
		})
		require.ErrorIs(t, s.payOnce("b1").err, io.EOF)
	}
}

func TestSettleGivesUpWithItsContext(t *testing.T) {
	s := newSite(t)
	struck := make(chan struct{})
	s.sim.Misbehave(func(Call) Fault {
		close(struck)
		return Fault{Kind: "hang_after"}
	})
	client := make(chan seen)
	go func() { client <- s.payOnce("b1") }()
	<-struck
	require.ErrorIs(t, s.sim.Settle(ended()), context.Canceled)
	s.sim.Forget()
	noAnswer(t, <-client)
	require.NoError(t, s.sim.Settle(ended()), "nobody is there to wait for")
}
