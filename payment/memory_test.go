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
