package payment_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
)

// What one order means for another, also after one of them is forgotten.

func (w *world) presentV2(billNo string, amount int) outcome.Answer {
	return w.v2(wechat.PresentV2, fmt.Sprintf(`"bill_no":%q,"amount":%d`, billNo, amount))
}

func (w *world) present(billNo string, amount int) outcome.Answer {
	body := fmt.Sprintf(`{"openid":%q,"present_counts":%d,"bill_no":%q}`, player, amount, billNo)
	return w.processor.Process(context.Background(), w.request(wechat.At(wechat.Present, wechat.Official), body), w.credentials)
}

func TestAPayThatIsTakenBackIsNotSaidToBeAppliedHoweverShortItsCancelIsRemembered(t *testing.T) {
	for _, replay := range []time.Duration{0, time.Minute} {
		t.Run(replay.String(), func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, w *world) {
				require.Equal(t, outcome.Applied, w.pay("b1", 100).Outcome)
				w.processor.Replay = replay
				w.reload()
				require.Equal(t, outcome.Applied, w.cancel("b1").Outcome)
				time.Sleep(replay)
				w.suffer("lost_before")
				require.Equal(t, outcome.Duplicate, w.pay("b1", 100).Outcome)
			})
		})
	}
}

func TestThatANumberIsSpentIsRememberedAsLongAsTheDoubt(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		lost := slices.Repeat([]string{"lost_before"}, 200)
		w.suffer(lost...)
		require.Equal(t, outcome.Unknown, w.pay("b1", 100).Outcome)
		w.weChat.Forget()
		require.Equal(t, outcome.Applied, w.present("b1", 5).Outcome)
		time.Sleep(9 * time.Minute)
		w.suffer(lost...)
		require.Equal(t, outcome.Unknown, w.pay("b1", 100).Outcome)
		w.weChat.Forget()
		time.Sleep(2 * time.Minute)
		answer := w.pay("b1", 100)
		require.Equal(t, "present", w.order("b1").API)
		require.Equal(t, outcome.Duplicate, answer.Outcome)
	})
}

func TestARefundInDoubtOutlivesNoOrderThatTookItsNumber(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.payV2("b1", 100).Outcome)
		w.suffer(slices.Repeat([]string{"lost_before"}, 200)...)
		require.Equal(t, outcome.Unknown, w.refund("r1", "b1", 40).Outcome)
		w.weChat.Forget()
		require.Equal(t, outcome.Applied, w.presentV2("r1", 5).Outcome)
		time.Sleep(9 * time.Minute)
		require.Equal(t, outcome.Duplicate, w.payV2("b1", 100).Outcome)
		time.Sleep(2 * time.Minute)
		answer := w.refund("r1", "b1", 40)
		require.Zero(t, w.orderV2("b1").Refunded)
		require.Equal(t, outcome.Duplicate, answer.Outcome)
	})
}

func TestACancelThatIsForgottenWhileItsPayIsInFlightCountsForIt(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.pay("b1", 100).Outcome)
		time.Sleep(w.processor.Replay + time.Minute)
		require.Equal(t, outcome.Applied, w.cancel("b1").Outcome)
		time.Sleep(w.processor.Replay - time.Second)
		w.sufferPay("hang_before")
		var callers sync.WaitGroup
		var answer outcome.Answer
		callers.Go(func() { answer = w.pay("b1", 100) })
		time.Sleep(2 * time.Second)
		w.present("other", 1)
		callers.Wait()
		require.Equal(t, outcome.Duplicate, answer.Outcome)
	})
}

func TestAPayStaysTakenBackThoughAnotherCancelOfItIsRefused(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.pay("b1", 100).Outcome)
		w.processor.Replay = time.Minute
		require.Equal(t, outcome.Applied, w.cancel("b1").Outcome)
		time.Sleep(2 * time.Minute)
		w.weChat.Misbehave(func(simulator.Call) simulator.Fault { return simulator.Fault{Kind: "session_90009"} })
		require.Equal(t, outcome.Rejected, w.cancel("b1").Outcome)
		w.weChat.Forget()
		require.Equal(t, outcome.Duplicate, w.pay("b1", 100).Outcome)
	})
}

func TestWithoutAMemoryAPresentStillSpendsTheNumberOfAPayInFlight(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.processor.Replay = 0
		w.sufferPay("hang_before")
		var callers sync.WaitGroup
		var answer outcome.Answer
		callers.Go(func() { answer = w.pay("b1", 100) })
		time.Sleep(time.Second)
		require.Equal(t, outcome.Applied, w.present("b1", 5).Outcome)
		callers.Wait()
		require.Equal(t, outcome.Duplicate, answer.Outcome)
	})
}

func TestTheRefundOfAnotherAmountDoesNotProveThatAPayIsTakenBack(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.payV2("b1", 100).Outcome)
		time.Sleep(w.processor.Replay)
		w.losePays("lost_before")
		require.Equal(t, outcome.TakenBack, w.payV2("b1", 40).ErrorCode)
		time.Sleep(w.processor.Replay)
		answer := w.payV2("b1", 100)
		require.EqualValues(t, coins-60, w.balance())
		require.NotEqual(t, outcome.Rejected, answer.Outcome, "%s", answer.Body)
	})
}

func TestACancelWithoutAMemoryCountsForAPayThatHasOne(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.processor.Deadline, w.processor.AttemptTimeout = time.Minute, time.Minute
		w.sufferPay("drip_after")
		old := *w.processor
		var callers sync.WaitGroup
		callers.Go(func() {
			r := w.request(wechat.At(wechat.Pay, wechat.Official), fmt.Sprintf(`{"openid":%q,"amt":100,"bill_no":"b1"}`, player))
			old.Process(context.Background(), r, w.credentials)
		})
		time.Sleep(time.Second)
		w.processor.Replay = 0
		require.Equal(t, outcome.Applied, w.cancel("b1").Outcome)
		callers.Wait()
		require.Equal(t, outcome.Duplicate, w.pay("b1", 100).Outcome)
	})
}

func TestAPresentThatIsNotRememberedSpendsTheNumberOfAPayInDoubt(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.suffer(slices.Repeat([]string{"lost_before"}, 100)...)
		require.Equal(t, outcome.Unknown, w.pay("b1", 100).Outcome)
		w.weChat.Forget()
		replay := w.processor.Replay
		w.processor.Replay = 0
		require.Equal(t, outcome.Applied, w.present("b1", 5).Outcome)
		w.processor.Replay = replay
		require.Equal(t, outcome.Duplicate, w.pay("b1", 100).Outcome)
	})
}

func TestAPayWithoutAMemoryIsKnownToBeTakenBackAsLongAsItsCancelIs(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		cancel := w.quick(func(w *world) outcome.Answer { return w.cancel("b1") })
		replay := w.processor.Replay
		w.processor.Replay = 0
		w.firstAttempts(map[*wechat.API]string{wechat.Pay: "drip_after"})
		var callers sync.WaitGroup
		callers.Go(func() { w.pay("b1", 100) })
		time.Sleep(time.Second)
		require.Equal(t, outcome.Applied, cancel().Outcome)
		callers.Wait()
		w.processor.Replay = replay
		w.suffer("lost_before")
		require.Equal(t, outcome.Duplicate, w.pay("b1", 100).Outcome)
	})
}

func TestACallWithoutAMemoryForgetsNothing(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.pay("b1", 100).Outcome)
		require.Equal(t, outcome.Applied, w.cancel("b1").Outcome)
		replay := w.processor.Replay
		w.processor.Replay = 0
		require.Equal(t, outcome.Duplicate, w.pay("b1", 100).Outcome)
		w.processor.Replay = replay
		w.suffer("lost_before")
		require.Equal(t, outcome.Duplicate, w.pay("b1", 100).Outcome)
	})
}

func TestAPayThatWasTakenBackAndIsRefusedNowHasSpentItsNumber(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.payV2("b0", 100).Outcome)
		w.suffer(slices.Repeat([]string{"lost_after"}, 100)...)
		require.Equal(t, outcome.Unknown, w.payV2("b1", 100).Outcome)
		w.weChat.Forget()
		require.Equal(t, outcome.Applied, w.refund("r1", "b1", 100).Outcome)

		w.weChat.Misbehave(func(c simulator.Call) simulator.Fault {
			switch {
			case c.Attempt == 1:
				return simulator.Fault{Kind: "hang_before"}
			case c.API == wechat.PayV2:
				return simulator.Fault{Kind: "busy_currency"}
			}
			return simulator.Fault{}
		})
		var callers sync.WaitGroup
		var pay outcome.Answer
		callers.Go(func() { pay = w.payV2("b1", 100) })
		time.Sleep(time.Second)
		require.Equal(t, outcome.Duplicate, w.refund("b1", "b0", 40).Outcome)
		callers.Wait()
		require.Equal(t, outcome.Rejected, pay.Outcome)
	})
}

func TestACancelThatIsRefusedForGoodLeavesThePayAsItIs(t *testing.T) {
	s := plays(says(0, "ok"), answers(502, ""), says(90014, "confirmed"))
	p := through(s)
	p.Replay = time.Hour
	require.Equal(t, outcome.Applied, p.Process(t.Context(), anOrder(t, wechat.Pay), wallet{}).Outcome)
	require.Equal(t, outcome.Rejected, p.Process(t.Context(), anOrder(t, wechat.CancelPay), wallet{}).Outcome)
	require.True(t, p.Process(t.Context(), anOrder(t, wechat.Pay), wallet{}).Replayed)
}
