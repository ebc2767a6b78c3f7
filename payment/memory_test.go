package payment

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

	"midas-sidecar/wechat"
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
	m := NewMemory()
	for n := range maxRemembered + 10 {
		r, turn, _ := m.begin(orderNumbered(t, n))
		require.Equal(t, first, turn)
		m.settle(r, Answer{Outcome: Applied}, time.Hour)
	}
	require.EqualValues(t, maxRemembered, m.settled.count)
	_, turn, _ := m.begin(orderNumbered(t, 10))
	require.Equal(t, again, turn)
	_, turn, _ = m.begin(orderNumbered(t, 9))
	require.Equal(t, first, turn)
}

func refundNumbered(t *testing.T, n int) wechat.Request {
	t.Helper()
	return decoded(t, wechat.CancelPayV2, `{"openid":"o1","amount":1,"bill_no":"r%d","pay_bill_no":"b1"}`, n)
}

// refunded is the pay that the refunds are of.
func refunded(t *testing.T) digest {
	t.Helper()
	return undoingOf(refundNumbered(t, 0)).id
}

func TestACancelThatMayHaveBeenDoneIsRememberedOfItsPay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for answer, remembered := range map[Outcome]bool{Applied: true, Duplicate: true, Unknown: true, Rejected: false, NotSent: false} {
			m := NewMemory()
			r, _, _ := m.begin(refundNumbered(t, 0))
			require.Contains(t, m.cancelling[refunded(t)], r)
			m.settle(r, Answer{Outcome: answer}, time.Minute)
			require.Empty(t, m.cancelling)
			known, ok := m.settled.get(refunded(t))
			require.Equal(t, remembered, ok, answer)
			require.Equal(t, remembered, known.past.cancelled, answer)

			time.Sleep(time.Hour)
			m.begin(orderNumbered(t, 1))
			require.Zero(t, m.settled.count)
			require.Empty(t, m.givenBack)
			require.Len(t, m.flights, 1)
		}
	})
}

func TestRefundsAreAddedUpUntilThePayIsReturned(t *testing.T) {
	m := NewMemory()
	pay := refunded(t)
	for n, c := range []struct {
		outcome  Outcome
		returned bool
	}{{Applied, false}, {AlreadyApplied, false}, {Duplicate, false}, {Unknown, false}, {Applied, true}} {
		r, _, _ := m.begin(refundNumbered(t, n))
		require.False(t, m.returned(pay, 3))
		m.settle(r, Answer{Outcome: c.outcome}, time.Hour)
		require.Equal(t, c.returned, m.returned(pay, 3), "%d %s", n, c.outcome)
	}
	_, turn, _ := m.begin(refundNumbered(t, 2))
	require.Equal(t, first, turn)
	require.False(t, m.returned(pay, 4), "what is sent again has not been answered")
	require.False(t, m.returned(idOf(refundNumbered(t, 0)), 0))
}

func TestACancelOfV1ThatWasDoneBeforeGaveAllBack(t *testing.T) {
	m := NewMemory()
	f, _, _ := m.begin(cancelNumbered(t, 1))
	require.False(t, m.returned(idOf(orderNumbered(t, 1)), 1))
	m.settle(f, Answer{Outcome: Duplicate}, time.Hour)
	require.True(t, m.returned(idOf(orderNumbered(t, 1)), 1))
}

// refundOf is the refund r1 of that pay.
func refundOf(t *testing.T, pay string) wechat.Request {
	t.Helper()
	return decoded(t, wechat.CancelPayV2, `{"openid":"o1","amount":1,"bill_no":"r1","pay_bill_no":%q}`, pay)
}

func TestRefundsThatShareANumberAreAllRemembered(t *testing.T) {
	m := NewMemory()
	for range 3 {
		for n, pay := range []string{"b1", "b2", "b3"} {
			f, turn, before := m.begin(refundOf(t, pay))
			require.Equal(t, first, turn)
			m.settle(f, Answer{Outcome: Duplicate}, time.Minute)
			known, _ := m.settled.get(f.undoes.id)
			require.True(t, known.past.cancelled)
			require.False(t, before.doubt)
			require.Equal(t, before.known, m.settled.count > 2, n)
		}
	}
	require.EqualValues(t, 4, m.settled.count, "the number's and the pays'")
}

func TestTheDoubtAboutARefundIsNotThatOfAnotherOfItsNumber(t *testing.T) {
	m := NewMemory()
	for _, c := range []struct {
		pay     string
		outcome Outcome
	}{{"b1", Unknown}, {"b1", Rejected}, {"b2", NotSent}, {"b3", NotSent}} {
		f, turn, before := m.begin(refundOf(t, c.pay))
		require.Equal(t, first, turn, c)
		require.Equal(t, c.outcome == Rejected, before.doubt, c)
		m.settle(f, Answer{Outcome: c.outcome, Errcode: wechat.NoSuchOrder}, time.Minute)
	}
}

func TestACancelIsForgottenNoSoonerForItsPay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		cancel, _, _ := m.begin(refundOf(t, "b1"))
		m.settle(cancel, Answer{Outcome: Applied}, time.Hour)
		f, _, _ := m.begin(decoded(t, wechat.PayV2, `{"openid":"o1","amount":1,"bill_no":"b1"}`))
		m.settle(f, Answer{Outcome: Applied}, time.Minute)

		time.Sleep(time.Minute)
		_, turn, _ := m.begin(refundOf(t, "b1"))
		require.Equal(t, again, turn)
	})
}

func TestWhatEarlierCallsWereToldAddsUp(t *testing.T) {
	m := NewMemory()
	pay := refunded(t)
	told := past{}
	for _, c := range []struct {
		outcome Outcome
		told    past
	}{
		{Unknown, past{doubt: true}},
		{NotSent, past{doubt: true}},
		{Duplicate, past{known: true}},
		{NotSent, past{known: true}},
		{Unknown, past{doubt: true, known: true}},
		{NotSent, past{doubt: true, known: true}},
		{Rejected, past{known: true}},
	} {
		r, turn, before := m.begin(refundNumbered(t, 0))
		require.Equal(t, first, turn)
		require.Equal(t, told, before)
		m.settle(r, Answer{Outcome: c.outcome}, time.Hour)
		require.False(t, m.returned(pay, 1), "that its number is in use and may be ours proves nothing")
		told = c.told
	}
	_, _, before := m.begin(refundNumbered(t, 0))
	require.Equal(t, told, before)
}

func TestAnOrderInFlightIsNeverForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		flying, _, _ := m.begin(orderNumbered(t, 0))
		time.Sleep(time.Hour)
		_, turn, _ := m.begin(orderNumbered(t, 0))
		require.Equal(t, shared, turn)
		m.settle(flying, Answer{Outcome: Applied}, time.Minute)
	})
}

func TestAShorterReplayIsKeptBehindALongerOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		long, _, _ := m.begin(orderNumbered(t, 0))
		m.settle(long, Answer{Outcome: Applied}, time.Hour)
		short, _, _ := m.begin(orderNumbered(t, 1))
		m.settle(short, Answer{Outcome: Applied}, time.Minute)

		time.Sleep(time.Minute)
		_, turn, before := m.begin(orderNumbered(t, 1))
		require.Equal(t, first, turn)
		require.Equal(t, past{}, before)
		_, turn, _ = m.begin(orderNumbered(t, 0))
		require.Equal(t, again, turn)
	})
}

func TestAnAnswerIsGivenAgainAsItWasHoweverItIsKept(t *testing.T) {
	m := NewMemory()
	answers := []Answer{
		{Outcome: Applied, Attempts: 1, Status: 200, ContentType: "application/json; encoding=utf-8", Body: []byte(`{"errcode":0,"errmsg":"ok"}`)},
		{Outcome: AlreadyApplied, Attempts: 3, Errcode: 90012, Status: 503, ContentType: "text/plain", Body: bytes.Repeat([]byte("a"), 10_000)},
		Own(TakenBack, Detail{Message: "the end was unknown", BillNo: "b2", Attempts: 4, Cause: errors.New("reset")}),
	}
	for n, answer := range answers {
		f, _, _ := m.begin(orderNumbered(t, n))
		m.settle(f, answer, time.Hour)
		require.Equal(t, answer, f.answer, "whoever waits gets it, too")
	}
	for n, answer := range answers {
		for range 2 {
			f, turn, _ := m.begin(orderNumbered(t, n))
			require.Equal(t, again, turn)
			require.Equal(t, answer, f.answer)
		}
	}
}

func TestOfAnAnswerThatIsNotGivenAgainOnlyTheOutcomeIsKept(t *testing.T) {
	m := NewMemory()
	for n, outcome := range []Outcome{Duplicate, Unknown} {
		f, _, _ := m.begin(orderNumbered(t, n))
		m.settle(f, Own(OutcomeUnknown, Detail{Outcome: outcome, Attempts: 7, Cause: errors.New("reset")}), time.Hour)
		known, ok := m.settled.get(f.id)
		require.True(t, ok)
		require.Equal(t, Answer{Outcome: outcome}, known.answer)
		require.Equal(t, outcome, f.answer.Outcome)
		require.NotEmpty(t, f.answer.Body, "for whoever waits")
	}
}

func TestAnOrderThatIsSettledAgainIsTheLastToBeForgotten(t *testing.T) {
	m := NewMemory()
	settle := func(n int, outcome Outcome) {
		f, turn, _ := m.begin(orderNumbered(t, n))
		require.Equal(t, first, turn)
		m.settle(f, Answer{Outcome: outcome}, time.Hour)
	}
	settle(0, Unknown)
	for n := range maxRemembered - 1 {
		settle(n+1, Applied)
	}
	settle(0, Applied)
	require.EqualValues(t, maxRemembered, m.settled.count, "it is not remembered twice")
	settle(maxRemembered, Applied)
	_, turn, _ := m.begin(orderNumbered(t, 0))
	require.Equal(t, again, turn)
	_, turn, _ = m.begin(orderNumbered(t, 1))
	require.Equal(t, first, turn)
}

func TestAReplayWithoutEndIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		time.Sleep(time.Hour)
		f, _, _ := m.begin(orderNumbered(t, 0))
		m.settle(f, Answer{Outcome: Applied}, math.MaxInt64)
		time.Sleep(time.Hour)
		_, turn, _ := m.begin(orderNumbered(t, 0))
		require.Equal(t, again, turn)
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
				m := NewMemory()
				before := heap()
				for n := range maxRemembered {
					f, _, _ := m.begin(numbered(t, n))
					m.settle(f, Answer{Outcome: Applied}, time.Hour)
				}
				require.EqualValues(t, maxRemembered, m.settled.count)
				require.Greater(t, heap()-before, int64(10<<20))
				time.Sleep(time.Hour)
				m.begin(orderNumbered(t, 0))
				require.Less(t, heap()-before, int64(1<<20))
				runtime.KeepAlive(m)
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
	request := func(api *wechat.API, env wechat.Environment, body string) digest {
		r, err := wechat.Decode(wechat.At(api, env), []byte(body))
		require.NoError(t, err)
		return idOf(r)
	}
	const v1 = `{"appid":"wx1","openid":"o1","amt":1,"bill_no":"b1"}`
	v2 := func(openid, zone, billNo string) string {
		return fmt.Sprintf(`{"appid":"wx1","openid":%q,"zone_id":%q,"amount":1,"bill_no":%q}`, openid, zone, billNo)
	}
	ids := []digest{
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
