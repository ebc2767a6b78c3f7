package payment

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/wechat"
)

func orderNumbered(t *testing.T, n int) wechat.Request {
	t.Helper()
	r, err := wechat.Decode(wechat.At(wechat.Pay, wechat.Official), fmt.Appendf(nil, `{"openid":"o1","amt":1,"bill_no":"b%d"}`, n))
	require.NoError(t, err)
	return r
}

func TestTheOldestOrdersAreForgottenForNewOnes(t *testing.T) {
	m := NewMemory()
	for n := range maxRemembered + 10 {
		r, turn, _ := m.begin(orderNumbered(t, n))
		require.Equal(t, first, turn)
		m.settle(r, Answer{Outcome: Applied}, time.Hour)
	}
	require.Len(t, m.orders, maxRemembered)
	_, turn, _ := m.begin(orderNumbered(t, 10))
	require.Equal(t, again, turn)
	_, turn, _ = m.begin(orderNumbered(t, 9))
	require.Equal(t, first, turn)
}

func refundNumbered(t *testing.T, n int) wechat.Request {
	t.Helper()
	r, err := wechat.Decode(wechat.At(wechat.CancelPayV2, wechat.Official), fmt.Appendf(nil, `{"openid":"o1","amount":1,"bill_no":"r%d","pay_bill_no":"b1"}`, n))
	require.NoError(t, err)
	return r
}

func TestWhatIsForgottenOfACancelIsForgottenOfItsPay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		pay := *cancelledBy(refundNumbered(t, 0))
		for n, answer := range []Answer{{Outcome: Applied}, {Outcome: Rejected}, {Outcome: Unknown}, {Outcome: NotSent}} {
			r, _, _ := m.begin(refundNumbered(t, n))
			require.Contains(t, m.cancels[pay], r, "though it is in flight")
			m.settle(r, answer, time.Duration(n+1)*time.Minute)
		}
		require.Len(t, m.cancels[pay], 2, "that of which nothing is to be known is not remembered")
		r, turn, _ := m.begin(refundNumbered(t, 2))
		require.Equal(t, first, turn)
		require.Len(t, m.cancels[pay], 2, "nor one twice")
		m.settle(r, Answer{Outcome: Rejected}, time.Minute)
		require.Len(t, m.cancels[pay], 1)

		time.Sleep(time.Hour)
		m.begin(orderNumbered(t, 1))
		require.Empty(t, m.cancels)
		require.Len(t, m.orders, 1)
	})
}

func TestRefundsAreAddedUpUntilThePayIsReturned(t *testing.T) {
	m := NewMemory()
	pay := *cancelledBy(refundNumbered(t, 0))
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
