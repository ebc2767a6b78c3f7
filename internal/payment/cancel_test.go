package payment_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/ledger"
	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
)

// How a pay and its cancel look to each other, whoever comes first.

// families are one order and its cancel, as each version says them.
var families = map[string]struct{ pay, cancel func(*world) outcome.Answer }{
	"v1": {func(w *world) outcome.Answer { return w.pay("b1", 100) }, func(w *world) outcome.Answer { return w.cancel("b1") }},
	"v2": {func(w *world) outcome.Answer { return w.payV2("b1", 100) }, func(w *world) outcome.Answer { return w.refund("r1", "b1", 100) }},
}

// sufferPay lets the first attempt of every pay go wrong, and nothing else.
func (w *world) sufferPay(kind string) {
	w.weChat.Misbehave(func(c simulator.Call) simulator.Fault {
		if c.API.Cancel != nil && c.Attempt == 1 {
			return simulator.Fault{Kind: kind}
		}
		return simulator.Fault{}
	})
}

// However long the cancel is remembered.
func TestAPayThatIsCancelledWhileItIsInFlightIsNotSaidToBeApplied(t *testing.T) {
	for _, kept := range []time.Duration{replay, time.Second, 0} {
		for _, wait := range []time.Duration{0, 1500 * time.Millisecond} {
			t.Run(fmt.Sprint(kept, wait), func(t *testing.T) {
				inFakeTime(t, func(t *testing.T, w *world) {
					w.processor.Replay = kept
					w.sufferPay("hang_after")
					var callers sync.WaitGroup
					var inFlight, joined outcome.Answer
					callers.Go(func() { inFlight = w.pay("b1", 100) })
					time.Sleep(time.Second)
					require.Equal(t, outcome.Applied, w.cancel("b1").Outcome)
					time.Sleep(wait)
					callers.Go(func() { joined = w.pay("b1", 100) })
					callers.Wait()
					require.Equal(t, outcome.Duplicate, inFlight.Outcome)
					require.Equal(t, outcome.Duplicate, joined.Outcome)
				})
			})
		}
	}
}

func TestACancelIsRememberedThoughItsPayIsForgotten(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.pay("b1", 100).Outcome)
		time.Sleep(w.processor.Replay + time.Minute)
		require.Equal(t, outcome.Applied, w.cancel("b1").Outcome)
		w.suffer("lost_before")
		require.Equal(t, outcome.Duplicate, w.pay("b1", 100).Outcome)
	})
}

func TestEqualCancelsAtOnceAreOne(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.pay("b1", 100).Outcome)
		w.suffer("lost_after")
		began := time.Now()
		var callers sync.WaitGroup
		for range 10 {
			callers.Go(func() {
				if answer := w.cancel("b1"); answer.Outcome != outcome.AlreadyApplied {
					t.Errorf("%s: %s", answer.Outcome, answer.Body)
				}
			})
		}
		callers.Wait()
		require.Less(t, time.Since(began), time.Second)
		require.Equal(t, 2, w.weChat.Attempts(wechat.CancelPay, simulator.OrderID{AppID: appID, Environment: wechat.Official, BillNo: "b1"}))
	})
}

func TestARepeatWhileAnOrderIsTakenBackGetsItsEnd(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.processor.CancelUnknown = true
		w.weChat.Misbehave(func(c simulator.Call) simulator.Fault {
			if c.API == wechat.Pay || c.Attempt == 1 {
				return simulator.Fault{Kind: "hang_after"}
			}
			return simulator.Fault{}
		})
		var callers sync.WaitGroup
		for _, wait := range []time.Duration{0, 5 * time.Second, 5500 * time.Millisecond, 1500 * time.Millisecond, time.Minute} {
			time.Sleep(wait)
			callers.Go(func() {
				if answer := w.pay("b1", 100); answer.ErrorCode != outcome.TakenBack {
					t.Errorf("%s: %s", answer.Outcome, answer.Body)
				}
			})
		}
		callers.Wait()
		require.True(t, w.order("b1").Returned)
	})
}

func TestACancelThatWasRefusedBeforeThePayWasSentDoesNotProveThatItNeverWas(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.processor.CancelUnknown = true
		w.processor.Deadline, w.processor.AttemptTimeout = time.Minute, time.Minute
		w.processor.Jitter = func(time.Duration) time.Duration { return time.Hour } // one attempt
		w.weChat.Misbehave(func(c simulator.Call) simulator.Fault {
			switch {
			case c.API == wechat.Pay:
				return simulator.Fault{Kind: "lost_after"}
			case c.Attempt == 1:
				return simulator.Fault{Kind: "drip_after"} // refused at once, told after seconds
			}
			return simulator.Fault{}
		})
		var callers sync.WaitGroup
		var early outcome.Answer
		callers.Go(func() { early = w.cancel("b1") })
		time.Sleep(time.Second)
		require.Equal(t, outcome.TakenBack, w.pay("b1", 100).ErrorCode)
		require.True(t, w.order("b1").Returned)
		callers.Wait()
		require.Equal(t, wechat.NoSuchOrder, early.Errcode)
	})
}

func TestAnOrderThatThisCallDidNotMakeIsNotTakenBack(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.processor.CancelUnknown = true
		elsewhere := *w.processor
		elsewhere.Ledger = ledger.New() // another sidecar
		body := w.request(wechat.At(wechat.Pay, wechat.Official), `{"openid":"`+player+`","amt":100,"bill_no":"b1"}`)
		require.Equal(t, outcome.Applied, elsewhere.Process(context.Background(), body, w.credentials).Outcome)

		require.Equal(t, outcome.Duplicate, w.pay("b1", 100).Outcome)
		w.suffer("lost_before")
		require.Equal(t, outcome.Duplicate, w.pay("b1", 100).Outcome, "though an attempt of this call was lost")
		w.weChat.Misbehave(func(c simulator.Call) simulator.Fault {
			if c.API == wechat.Pay {
				return simulator.Fault{Kind: "lost_before"}
			}
			return simulator.Fault{}
		})
		require.Equal(t, outcome.Unknown, w.pay("b1", 100).Outcome)
		require.False(t, w.order("b1").Returned)
	})
}

func TestACancelIsTheSameHoweverMuchElseItSays(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.processor.CancelUnknown = true
		w.weChat.Misbehave(func(simulator.Call) simulator.Fault { return simulator.Fault{Kind: "lost_after"} })
		pay := w.request(wechat.At(wechat.Pay, wechat.Official), `{"openid":"`+player+`","amt":100,"bill_no":"b1","pay_item":"sword","user_ip":"203.0.113.7"}`)
		require.Equal(t, outcome.Unknown, w.processor.Process(context.Background(), pay, w.credentials).Outcome)

		w.weChat.Forget()
		require.Equal(t, outcome.AlreadyApplied, w.cancel("b1").Outcome, "and no conflict with our own")
	})
}

func TestANumberThatAPresentUsesProvesNothingAboutAPay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simulator.Options{})
		require.Equal(t, outcome.Applied, w.pay("b1", 100).Outcome)
		w.weChat.Misbehave(func(c simulator.Call) simulator.Fault {
			if c.Attempt == 1 {
				return simulator.Fault{Kind: "lost_before"}
			}
			return simulator.Fault{}
		})
		require.Equal(t, outcome.Duplicate, w.present("b1", 5).Outcome)
	})
}

func TestARepeatWhileAnOrderIsLookedForToTakeItBackSendsNothing(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.processor.CancelUnknown = true
		w.weChat.Misbehave(func(c simulator.Call) simulator.Fault {
			if c.API == wechat.Pay && time.Since(epoch) < 10*time.Second || c.API == wechat.CancelPay && c.Attempt == 1 {
				return simulator.Fault{Kind: "hang_before"}
			}
			return simulator.Fault{}
		})
		var callers sync.WaitGroup
		for _, wait := range []time.Duration{0, 11 * time.Second} {
			time.Sleep(wait)
			callers.Go(func() {
				if answer := w.pay("b1", 100); answer.Outcome != outcome.Rejected || answer.Errcode != wechat.NoSuchOrder {
					t.Errorf("%s: %s", answer.Outcome, answer.Body)
				}
			})
		}
		callers.Wait()
		require.Zero(t, w.order("b1").Applied)
	})
}

// epoch is when every bubble of testing/synctest begins.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func TestACallAfterACancelDoesNotShareTheAnswerOfThePayBeforeIt(t *testing.T) {
	for _, kept := range []time.Duration{replay, 0} {
		inFakeTime(t, func(t *testing.T, w *world) {
			w.processor.Replay = kept
			w.processor.Deadline, w.processor.AttemptTimeout = time.Minute, time.Minute
			w.sufferPay("drip_after") // applied at once, told after seconds
			var callers sync.WaitGroup
			var slow, after outcome.Answer
			callers.Go(func() { slow = w.pay("b1", 100) })
			time.Sleep(time.Second)
			require.Equal(t, outcome.Applied, w.cancel("b1").Outcome)
			callers.Go(func() { after = w.pay("b1", 100) })
			callers.Wait()
			require.Equal(t, outcome.Applied, slow.Outcome)
			require.Equal(t, outcome.Duplicate, after.Outcome)
		})
	}
}

func TestACancelOfNoSuchOrderOfWhichAnAttemptWasLostMayLandYet(t *testing.T) {
	for name, family := range families {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, w *world) {
				w.weChat.Misbehave(func(c simulator.Call) simulator.Fault {
					if c.API.Cancels() && c.Attempt == 1 {
						return simulator.Fault{Kind: "late", Delay: time.Minute}
					}
					return simulator.Fault{}
				})
				answer := family.cancel(w)
				require.Equal(t, outcome.Rejected, answer.Outcome)
				require.Equal(t, wechat.NoSuchOrder, answer.Errcode)
				require.Equal(t, outcome.Applied, family.pay(w).Outcome)
				time.Sleep(time.Minute)
				require.EqualValues(t, coins, w.balance(), "it has landed")
				require.Equal(t, outcome.Duplicate, family.pay(w).Outcome)
			})
		})
	}
}

func TestARefundThatWasRefusedMaySayItsOrderRight(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.payV2("b1", 100).Outcome)
		w.suffer("lost_before")
		require.Equal(t, outcome.Rejected, w.refund("r1", "b2", 40).Outcome)
		require.Equal(t, outcome.Applied, w.refund("r1", "b1", 40).Outcome, "and no conflict")
	})
}

func TestACancelIsRememberedAsLongAsItsPay(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.processor.Deadline, w.processor.AttemptTimeout = time.Minute, time.Minute
		w.sufferPay("drip_after") // applied at once, told after seconds
		var callers sync.WaitGroup
		callers.Go(func() {
			if answer := w.pay("b1", 100); answer.Outcome != outcome.Applied {
				t.Errorf("%s: %s", answer.Outcome, answer.Body)
			}
		})
		time.Sleep(time.Second)
		require.Equal(t, outcome.Applied, w.cancel("b1").Outcome)
		cancelled := time.Now()
		callers.Wait()
		require.NotEqual(t, cancelled, time.Now())

		time.Sleep(time.Until(cancelled.Add(w.processor.Replay)))
		require.Equal(t, outcome.Duplicate, w.pay("b1", 100).Outcome)
	})
}

func TestAPayThatWasCancelledAndCannotBeSentAgainIsNotInDoubt(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.pay("b1", 100).Outcome)
		require.Equal(t, outcome.Applied, w.cancel("b1").Outcome)
		w.store.forget("app")
		w.reload()
		require.Equal(t, outcome.NotSent, w.pay("b1", 100).Outcome)
	})
}
