package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/wechat"
)

// decoded is an official order of that API.
func decoded(t *testing.T, api *wechat.API, format string, values ...any) wechat.Request {
	t.Helper()
	r, err := wechat.Decode(wechat.At(api, wechat.Official), fmt.Appendf(nil, format, values...))
	require.NoError(t, err)
	return r
}

func orderNumbered(t *testing.T, n int) wechat.Request {
	t.Helper()
	return decoded(t, wechat.Pay, `{"openid":"o1","amt":1,"bill_no":"b%d"}`, n)
}

func TestTheOldestOrdersAreForgottenForNewOnes(t *testing.T) {
	l := New()
	for n := range maxCompleted + 10 {
		r, admission := l.Begin(orderNumbered(t, n))
		require.Equal(t, Proceed, admission)
		l.End(r, outcome.Answer{Outcome: outcome.Applied}, false, time.Hour)
	}
	require.Equal(t, maxCompleted, l.completed.len())
	_, admission := l.Begin(orderNumbered(t, 10))
	require.Equal(t, Replay, admission)
	_, admission = l.Begin(orderNumbered(t, 9))
	require.Equal(t, Proceed, admission)
}

func refundNumbered(t *testing.T, n int) wechat.Request {
	t.Helper()
	return decoded(t, wechat.CancelPayV2, `{"openid":"o1","amount":1,"bill_no":"r%d","pay_bill_no":"b1"}`, n)
}

// refunded is the pay that the refunds are of.
func refunded(t *testing.T) hash {
	t.Helper()
	return cancelTargetOf(refundNumbered(t, 0)).id
}

func TestACancelThatMayHaveBeenDoneIsRememberedOfItsPay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for answer, remembered := range map[outcome.Outcome]bool{
			outcome.Applied: true, outcome.Duplicate: true, outcome.Unknown: true, outcome.Rejected: false, outcome.NotSent: false,
		} {
			l := New()
			r, _ := l.Begin(refundNumbered(t, 0))
			require.Contains(t, l.cancels[refunded(t)], r)
			l.End(r, outcome.Answer{Outcome: answer}, false, time.Minute)
			require.Empty(t, l.cancels)
			known, ok := l.completed.get(refunded(t))
			require.Equal(t, remembered, ok, answer)
			require.Equal(t, remembered, known.facts.maybeCanceled, answer)

			time.Sleep(time.Hour)
			l.Begin(orderNumbered(t, 1))
			require.Zero(t, l.completed.len())
			require.Empty(t, l.returned)
			require.Len(t, l.pending, 1)
		}
	})
}

func TestRefundsAreAddedUpUntilThePayIsReturned(t *testing.T) {
	l := New()
	pay := refunded(t)
	for n, c := range []struct {
		outcome  outcome.Outcome
		returned bool
	}{{outcome.Applied, false}, {outcome.AlreadyApplied, false}, {outcome.Duplicate, false}, {outcome.Unknown, false}, {outcome.Applied, true}} {
		r, _ := l.Begin(refundNumbered(t, n))
		require.False(t, l.isReturned(pay, 3))
		l.End(r, outcome.Answer{Outcome: c.outcome}, false, time.Hour)
		require.Equal(t, c.returned, l.isReturned(pay, 3), "%d %s", n, c.outcome)
	}
	_, admission := l.Begin(refundNumbered(t, 2))
	require.Equal(t, Proceed, admission)
	require.False(t, l.isReturned(pay, 4), "what is sent again has not been answered")
	require.False(t, l.isReturned(keyOf(refundNumbered(t, 0)).id(), 0))
}

func TestACancelOfV1ThatWasDoneBeforeGaveAllBack(t *testing.T) {
	l := New()
	f, _ := l.Begin(cancelNumbered(t, 1))
	require.False(t, l.isReturned(keyOf(orderNumbered(t, 1)).id(), 1))
	l.End(f, outcome.Answer{Outcome: outcome.Duplicate}, false, time.Hour)
	require.True(t, l.isReturned(keyOf(orderNumbered(t, 1)).id(), 1))
}

// refundOf is the refund r1 of that pay.
func refundOf(t *testing.T, pay string) wechat.Request {
	t.Helper()
	return decoded(t, wechat.CancelPayV2, `{"openid":"o1","amount":1,"bill_no":"r1","pay_bill_no":%q}`, pay)
}

func TestRefundsThatShareANumberAreAllRemembered(t *testing.T) {
	l := New()
	for range 3 {
		for n, pay := range []string{"b1", "b2", "b3"} {
			f, admission := l.Begin(refundOf(t, pay))
			require.Equal(t, Proceed, admission)
			before := f.facts
			l.End(f, outcome.Answer{Outcome: outcome.Duplicate}, false, time.Minute)
			known, _ := l.completed.get(f.cancel.id)
			require.True(t, known.facts.maybeCanceled)
			require.False(t, before.maybeApplied)
			require.Equal(t, before.confirmedApplied, l.completed.len() > 2, n)
		}
	}
	require.Equal(t, 4, l.completed.len(), "the number's and the pays'")
}

func TestTheDoubtAboutARefundIsNotThatOfAnotherOfItsNumber(t *testing.T) {
	l := New()
	for _, c := range []struct {
		pay     string
		outcome outcome.Outcome
	}{{"b1", outcome.Unknown}, {"b1", outcome.Rejected}, {"b2", outcome.NotSent}, {"b3", outcome.NotSent}} {
		f, admission := l.Begin(refundOf(t, c.pay))
		require.Equal(t, Proceed, admission, c)
		require.Equal(t, c.outcome == outcome.Rejected, f.facts.maybeApplied, c)
		l.End(f, outcome.Answer{Outcome: c.outcome, Errcode: wechat.NoSuchOrder}, false, time.Minute)
	}
}

func TestACancelIsForgottenNoSoonerForItsPay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New()
		cancel, _ := l.Begin(refundOf(t, "b1"))
		l.End(cancel, outcome.Answer{Outcome: outcome.Applied}, false, time.Hour)
		f, _ := l.Begin(decoded(t, wechat.PayV2, `{"openid":"o1","amount":1,"bill_no":"b1"}`))
		l.End(f, outcome.Answer{Outcome: outcome.Applied}, false, time.Minute)

		time.Sleep(time.Minute)
		_, admission := l.Begin(refundOf(t, "b1"))
		require.Equal(t, Replay, admission)
	})
}

func TestWhatEarlierCallsWereToldAddsUp(t *testing.T) {
	l := New()
	pay := refunded(t)
	told := facts{}
	for _, c := range []struct {
		outcome outcome.Outcome
		told    facts
	}{
		{outcome.Unknown, facts{maybeApplied: true}},
		{outcome.NotSent, facts{maybeApplied: true}},
		{outcome.Duplicate, facts{confirmedApplied: true}},
		{outcome.NotSent, facts{confirmedApplied: true}},
		{outcome.Unknown, facts{maybeApplied: true, confirmedApplied: true}},
		{outcome.NotSent, facts{maybeApplied: true, confirmedApplied: true}},
		{outcome.Rejected, facts{confirmedApplied: true}},
	} {
		r, admission := l.Begin(refundNumbered(t, 0))
		require.Equal(t, Proceed, admission)
		require.Equal(t, told, r.facts)
		l.End(r, outcome.Answer{Outcome: c.outcome}, false, time.Hour)
		require.False(t, l.isReturned(pay, 1), "that its number is in use and may be ours proves nothing")
		told = c.told
	}
	r, _ := l.Begin(refundNumbered(t, 0))
	require.Equal(t, told, r.facts)
}

func TestAnOrderInFlightIsNeverForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New()
		flying, _ := l.Begin(orderNumbered(t, 0))
		time.Sleep(time.Hour)
		_, admission := l.Begin(orderNumbered(t, 0))
		require.Equal(t, Join, admission)
		l.End(flying, outcome.Answer{Outcome: outcome.Applied}, false, time.Minute)
	})
}

func TestAShorterReplayIsKeptBehindALongerOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New()
		long, _ := l.Begin(orderNumbered(t, 0))
		l.End(long, outcome.Answer{Outcome: outcome.Applied}, false, time.Hour)
		short, _ := l.Begin(orderNumbered(t, 1))
		l.End(short, outcome.Answer{Outcome: outcome.Applied}, false, time.Minute)

		time.Sleep(time.Minute)
		e, admission := l.Begin(orderNumbered(t, 1))
		require.Equal(t, Proceed, admission)
		require.Equal(t, facts{}, e.facts)
		_, admission = l.Begin(orderNumbered(t, 0))
		require.Equal(t, Replay, admission)
	})
}

func TestAnAnswerIsGivenAgainAsItWasHoweverItIsKept(t *testing.T) {
	l := New()
	answers := []outcome.Answer{
		{Outcome: outcome.Applied, Attempts: 1, Status: 200, ContentType: "application/json; encoding=utf-8", Body: []byte(`{"errcode":0,"errmsg":"ok"}`)},
		{Outcome: outcome.AlreadyApplied, Attempts: 3, Errcode: 90012, Status: 503, ContentType: "text/plain", Body: bytes.Repeat([]byte("a"), 10_000)},
		outcome.NewErrorAnswer(outcome.TakenBack, outcome.ErrorDetail{Message: "the end was unknown", BillNo: "b2", Attempts: 4, Cause: errors.New("reset")}),
	}
	for n, answer := range answers {
		f, _ := l.Begin(orderNumbered(t, n))
		l.End(f, answer, false, time.Hour)
		require.Equal(t, answer, f.answer, "whoever waits gets it, too")
	}
	for n, answer := range answers {
		for range 2 {
			f, admission := l.Begin(orderNumbered(t, n))
			require.Equal(t, Replay, admission)
			require.Equal(t, answer, f.answer)
		}
	}
}

func TestOfAnAnswerThatIsNotGivenAgainOnlyTheOutcomeIsKept(t *testing.T) {
	l := New()
	for n, told := range []outcome.Outcome{outcome.Duplicate, outcome.Unknown} {
		f, _ := l.Begin(orderNumbered(t, n))
		l.End(f, outcome.NewErrorAnswer(outcome.OutcomeUnknown, outcome.ErrorDetail{Outcome: told, Attempts: 7, Cause: errors.New("reset")}), false, time.Hour)
		known, ok := l.completed.get(f.id)
		require.True(t, ok)
		require.Equal(t, outcome.Answer{Outcome: told}, known.answer)
		require.Equal(t, told, f.answer.Outcome)
		require.NotEmpty(t, f.answer.Body, "for whoever waits")
	}
}

func TestAnOrderThatIsSettledAgainIsTheLastToBeForgotten(t *testing.T) {
	l := New()
	settle := func(n int, told outcome.Outcome) {
		f, admission := l.Begin(orderNumbered(t, n))
		require.Equal(t, Proceed, admission)
		l.End(f, outcome.Answer{Outcome: told}, false, time.Hour)
	}
	settle(0, outcome.Unknown)
	for n := range maxCompleted - 1 {
		settle(n+1, outcome.Applied)
	}
	settle(0, outcome.Applied)
	require.Equal(t, maxCompleted, l.completed.len(), "it is not remembered twice")
	settle(maxCompleted, outcome.Applied)
	_, admission := l.Begin(orderNumbered(t, 0))
	require.Equal(t, Replay, admission)
	_, admission = l.Begin(orderNumbered(t, 1))
	require.Equal(t, Proceed, admission)
}

func TestAReplayWithoutEndIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New()
		time.Sleep(time.Hour)
		f, _ := l.Begin(orderNumbered(t, 0))
		l.End(f, outcome.Answer{Outcome: outcome.Applied}, false, math.MaxInt64)
		time.Sleep(time.Hour)
		_, admission := l.Begin(orderNumbered(t, 0))
		require.Equal(t, Replay, admission)
	})
}

func cancelNumbered(t *testing.T, n int) wechat.Request {
	t.Helper()
	return decoded(t, wechat.CancelPay, `{"openid":"o1","bill_no":"b%d"}`, n)
}

func TestAFullMemoryIsGivenBackOnceAllIsForgotten(t *testing.T) {
	for name, numbered := range map[string]func(*testing.T, int) wechat.Request{"pays": orderNumbered, "cancels": cancelNumbered} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := New()
				before := heap()
				for n := range maxCompleted {
					f, _ := l.Begin(numbered(t, n))
					l.End(f, outcome.Answer{Outcome: outcome.Applied}, false, time.Hour)
				}
				require.Equal(t, maxCompleted, l.completed.len())
				require.Greater(t, heap()-before, int64(10<<20))
				time.Sleep(time.Hour)
				l.Begin(orderNumbered(t, 0))
				require.Less(t, heap()-before, int64(1<<20))
				runtime.KeepAlive(l)
			})
		})
	}
}

// heap returns how many bytes are in use.
func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func TestOrdersThatDifferInAnythingThatNumbersGoByAreTold(t *testing.T) {
	request := func(api *wechat.API, env wechat.Environment, body string) hash {
		r, err := wechat.Decode(wechat.At(api, env), []byte(body))
		require.NoError(t, err)
		return keyOf(r).id()
	}
	const v1 = `{"appid":"wx1","openid":"o1","amt":1,"bill_no":"b1"}`
	v2 := func(openid, zone, billNo string) string {
		return fmt.Sprintf(`{"appid":"wx1","openid":%q,"zone_id":%q,"amount":1,"bill_no":%q}`, openid, zone, billNo)
	}
	ids := []hash{
		request(wechat.Pay, wechat.Official, v1),
		request(wechat.Pay, wechat.Sandbox, v1),
		request(wechat.Pay, wechat.Official, `{"appid":"wx2","openid":"o1","amt":1,"bill_no":"b1"}`),
		request(wechat.Pay, wechat.Official, `{"appid":"wx1","openid":"o1","amt":1,"bill_no":"b2"}`),
		request(wechat.Present, wechat.Official, `{"appid":"wx1","openid":"o1","present_counts":1,"bill_no":"b1"}`),
		request(wechat.CancelPay, wechat.Official, `{"appid":"wx1","openid":"o1","bill_no":"b1"}`),
		request(wechat.PayV2, wechat.Official, v2("o1", "1", "1b")),
		request(wechat.PayV2, wechat.Official, v2("o1", "11", "b")),
		request(wechat.PayV2, wechat.Official, v2("o11", "1", "b")),
		request(wechat.PresentV2, wechat.Official, v2("o1", "1", "1b")),
	}
	for i, id := range ids {
		require.NotContains(t, ids[:i], id, i)
	}
	require.Equal(t, ids[0], request(wechat.Pay, wechat.Official, `{"appid":"wx1","openid":"o2","amt":2,"bill_no":"b1"}`),
		"in v1 a number is one for all players")
}
