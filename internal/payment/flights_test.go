package payment_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/ledger"
	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
)

// What orders that are in flight at once mean for each other, and who waits for whom.

func TestACancelAfterThePayDoesNotShareTheRefusalOfOneBeforeIt(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.weChat.Misbehave(func(c simulator.Call) simulator.Fault {
			if c.API == wechat.CancelPay && c.Attempt == 1 {
				return simulator.Fault{Kind: "drip_after", Delay: 20 * time.Millisecond} // refused at once, told a second later
			}
			return simulator.Fault{}
		})
		var callers sync.WaitGroup
		callers.Go(func() { w.cancel("b1") })
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, outcome.Applied, w.pay("b1", 100).Outcome)
		answer := w.cancel("b1")
		callers.Wait()
		require.Equal(t, outcome.Applied, answer.Outcome, "%s", answer.Body)
	})
}

func TestARefundAfterThePayDoesNotShareTheRefusalOfOneBeforeIt(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.weChat.Misbehave(func(c simulator.Call) simulator.Fault {
			if c.API == wechat.CancelPayV2 && c.Attempt == 1 {
				return simulator.Fault{Kind: "drip_after", Delay: 20 * time.Millisecond}
			}
			if c.API == wechat.PayV2 {
				return simulator.Fault{Kind: "lost_after"}
			}
			return simulator.Fault{}
		})
		w.processor.Deadline = 500 * time.Millisecond
		slow := *w.processor
		slow.Deadline = 10 * time.Second
		var callers sync.WaitGroup
		callers.Go(func() {
			r := w.request(wechat.At(wechat.CancelPayV2, wechat.Official), fmt.Sprintf(`{"openid":%q,"bill_no":"r1","pay_bill_no":"b1","amount":100}`, player))
			slow.Process(context.Background(), r, w.credentials)
		})
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, outcome.Unknown, w.payV2("b1", 100).Outcome)
		answer := w.refund("r1", "b1", 100)
		callers.Wait()
		require.NotEqual(t, outcome.Rejected, answer.Outcome, "%s", answer.Body)
	})
}

func TestRepeatsOfACancelledPayShareOneFlight(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.pay("b1", 100).Outcome)
		require.Equal(t, outcome.Applied, w.cancel("b1").Outcome)
		w.weChat.Misbehave(func(simulator.Call) simulator.Fault { return simulator.Fault{Kind: "hang_before"} })
		began := time.Now()
		var callers sync.WaitGroup
		for range 10 {
			callers.Go(func() { w.pay("b1", 100) })
		}
		callers.Wait()
		require.LessOrEqual(t, time.Since(began), 2*w.processor.Deadline)
	})
}

func TestTakingBackEndsInTimeWhateverOthersCancel(t *testing.T) {
	for cancels := range 3 {
		inFakeTime(t, func(t *testing.T, w *world) {
			w.processor.CancelUnknown = true
			w.weChat.Misbehave(func(simulator.Call) simulator.Fault { return simulator.Fault{Kind: "hang_before"} })
			var callers sync.WaitGroup
			callers.Go(func() {
				time.Sleep(w.processor.Deadline / 2)
				for range cancels {
					w.cancel("b1")
				}
			})
			began := time.Now()
			require.Equal(t, outcome.Unknown, w.pay("b1", 100).Outcome)
			require.LessOrEqual(t, time.Since(began), 2*w.processor.Deadline)
			callers.Wait()
		})
	}
}

// quick is a processor that shares the memory and waits for no slow answer.
func (w *world) quick(call func(w *world) outcome.Answer) func() outcome.Answer {
	others := *w
	processor := *w.processor
	others.processor = &processor
	w.processor.Deadline, w.processor.AttemptTimeout = time.Minute, time.Minute
	return func() outcome.Answer { return call(&others) }
}

// firstAttempts lets the first attempt of each call of an API suffer.
func (w *world) firstAttempts(kinds map[*wechat.API]string) {
	w.weChat.Misbehave(func(c simulator.Call) simulator.Fault {
		if c.Attempt > 1 {
			return simulator.Fault{}
		}
		return simulator.Fault{Kind: kinds[c.API]}
	})
}

func TestAPayThatBeganDuringItsCancelIsNotSharedAfterThat(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		cancel := w.quick(func(w *world) outcome.Answer { return w.cancel("b1") })
		// The pay is applied at once, and told after seconds.
		w.firstAttempts(map[*wechat.API]string{wechat.CancelPay: "hang_before", wechat.Pay: "drip_after"})
		var callers sync.WaitGroup
		var before, after outcome.Answer
		callers.Go(func() {
			time.Sleep(time.Second)
			before = w.pay("b1", 100)
		})
		require.Equal(t, outcome.Applied, cancel().Outcome)
		callers.Go(func() { after = w.pay("b1", 100) })
		callers.Wait()
		require.Equal(t, outcome.Applied, before.Outcome)
		require.Equal(t, outcome.Duplicate, after.Outcome)
	})
}

// Whoever hangs up on a pay and cancels it must not be charged after he was told that there
// is no such order.
func TestACancelThatComesTooEarlyForItsPayIsSentAgain(t *testing.T) {
	for name, family := range families {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, w *world) {
				w.firstAttempts(map[*wechat.API]string{wechat.Pay: "hang_before", wechat.PayV2: "hang_before"})
				var callers sync.WaitGroup
				callers.Go(func() {
					if answer := family.pay(w); !slices.Contains([]outcome.Outcome{outcome.Applied, outcome.Duplicate}, answer.Outcome) {
						t.Errorf("%s: %s", answer.Outcome, answer.Body)
					}
				})
				time.Sleep(time.Second)
				answer := family.cancel(w)
				callers.Wait()
				require.Equal(t, outcome.Applied, answer.Outcome, "%s", answer.Body)
				require.EqualValues(t, coins, w.balance())
				require.True(t, family.cancel(w).Replayed)
			})
		})
	}
}

func TestACancelOfWhatNeverLandsIsRefusedWhenThePayIsOver(t *testing.T) {
	for name, family := range families {
		for _, cancelUnknown := range []bool{false, true} {
			t.Run(fmt.Sprint(name, cancelUnknown), func(t *testing.T) {
				inFakeTime(t, func(t *testing.T, w *world) {
					w.losePays("hang_before")
					w.processor.CancelUnknown = cancelUnknown
					began := time.Now()
					var callers sync.WaitGroup
					callers.Go(func() { family.pay(w) })
					time.Sleep(w.processor.Deadline / 2)
					answer := family.cancel(w)
					over := time.Since(began) - w.processor.Deadline
					callers.Wait()
					require.Equal(t, outcome.Rejected, answer.Outcome, "%s", answer.Body)
					require.Equal(t, wechat.NoSuchOrder, answer.Errcode)
					require.InDelta(t, w.processor.AttemptTimeout, over, float64(2*time.Second), "from the end of the pay")
				})
			})
		}
	}
}

func TestACancelThatHasNoTimeToWaitForItsPayIsUnknown(t *testing.T) {
	for name, family := range families {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, w *world) {
				w.losePays("hang_before")
				cancel := w.quick(family.cancel)
				var callers sync.WaitGroup
				callers.Go(func() { family.pay(w) })
				time.Sleep(time.Second)
				answer := cancel()
				callers.Wait()
				require.Equal(t, outcome.Unknown, answer.Outcome, "%s", answer.Body)
				require.Contains(t, string(answer.Body), `"upstream_errcode":90000`)
			})
		})
	}
}

// The cancel was refused at once, and is told after seconds, when the order is there.
func TestACancelThatCameTooEarlyIsSentAgainForAllWhoAsk(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		pay := w.quick(func(w *world) outcome.Answer { return w.pay("b1", 100) })
		w.firstAttempts(map[*wechat.API]string{wechat.CancelPay: "drip_after", wechat.Pay: "hang_before"})
		var callers sync.WaitGroup
		callers.Go(func() {
			time.Sleep(time.Second)
			if answer := w.cancel("b1"); answer.Outcome != outcome.Applied {
				t.Errorf("%s: %s", answer.Outcome, answer.Body)
			}
		})
		require.Equal(t, outcome.Applied, pay().Outcome)
		callers.Go(func() {
			if answer := w.cancel("b1"); answer.Outcome != outcome.Applied {
				t.Errorf("%s: %s", answer.Outcome, answer.Body)
			}
		})
		callers.Wait()
	})
}

func TestACancelOfAPaySpendsItsNumberForAPresentInFlight(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.pay("b1", 100).Outcome)
		w.processor.Ledger = ledger.New()
		w.firstAttempts(map[*wechat.API]string{wechat.Present: "hang_before"})
		var callers sync.WaitGroup
		var present outcome.Answer
		callers.Go(func() { present = w.present("b1", 5) })
		time.Sleep(time.Second)
		require.Equal(t, outcome.Applied, w.cancel("b1").Outcome)
		callers.Wait()
		require.Equal(t, outcome.Duplicate, present.Outcome)
	})
}

func TestWhatIsInFlightSpendsANumberToo(t *testing.T) {
	for _, c := range []struct {
		name  string
		other func(w *world) outcome.Answer
		order func(w *world) outcome.Answer
	}{
		{"a pay, that of a present", func(w *world) outcome.Answer { return w.pay("b1", 100) }, func(w *world) outcome.Answer { return w.present("b1", 5) }},
		{"a cancel, that of its pay", func(w *world) outcome.Answer { return w.cancel("b0") }, func(w *world) outcome.Answer { return w.pay("b0", 100) }},
		{"a cancel, that of a present", func(w *world) outcome.Answer { return w.cancel("b0") }, func(w *world) outcome.Answer { return w.present("b0", 5) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, w *world) {
				require.Equal(t, outcome.Applied, w.pay("b0", 100).Outcome)
				w.processor.Ledger = ledger.New()
				order := w.quick(c.order)
				orders := 0
				w.weChat.Misbehave(func(simulator.Call) simulator.Fault {
					switch orders++; orders {
					case 1:
						return simulator.Fault{Kind: "drip_after"} // of the other
					case 2:
						return simulator.Fault{Kind: "lost_before"}
					}
					return simulator.Fault{}
				})
				var callers sync.WaitGroup
				callers.Go(func() { c.other(w) })
				time.Sleep(time.Second)
				require.Equal(t, outcome.Duplicate, order().Outcome)
				callers.Wait()
			})
		})
	}
}

func TestAPayIsNotReplayedWhileItsCancelIsInFlight(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		pay := w.quick(func(w *world) outcome.Answer { return w.pay("b1", 100) })
		require.Equal(t, outcome.Applied, pay().Outcome)
		w.firstAttempts(map[*wechat.API]string{wechat.CancelPay: "drip_after"})
		var callers sync.WaitGroup
		callers.Go(func() { w.cancel("b1") })
		time.Sleep(time.Second)
		require.True(t, w.order("b1").Returned)
		require.Equal(t, outcome.Duplicate, pay().Outcome)
		callers.Wait()
	})
}

func TestAPayWhoseCancelMayLandYetIsNotShared(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		cancel := w.quick(func(w *world) outcome.Answer { return w.cancel("b1") })
		w.weChat.Misbehave(func(c simulator.Call) simulator.Fault {
			switch {
			case c.API == wechat.Pay:
				return simulator.Fault{Kind: "drip_after"} // applied at once, told after seconds
			case c.Attempt == 1:
				return simulator.Fault{Kind: "late", Delay: 3 * time.Second}
			}
			return simulator.Fault{}
		})
		require.Equal(t, outcome.Rejected, cancel().Outcome)
		var callers sync.WaitGroup
		var before, after outcome.Answer
		callers.Go(func() { before = w.pay("b1", 100) })
		time.Sleep(4 * time.Second)
		require.True(t, w.order("b1").Returned)
		callers.Go(func() { after = w.pay("b1", 100) })
		callers.Wait()
		require.Equal(t, outcome.Applied, before.Outcome)
		require.Equal(t, outcome.Duplicate, after.Outcome)
	})
}

// What lands even later than we wait for it.
func TestACancelOfAPayThatMayLandYetIsNotShared(t *testing.T) {
	for _, begins := range []time.Duration{500 * time.Millisecond, 2 * time.Second} { // during the pay, and after it
		t.Run(begins.String(), func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, w *world) {
				pay := w.quick(func(w *world) outcome.Answer {
					w.processor.Deadline = time.Second
					return w.pay("b1", 100)
				})
				w.processor.AttemptTimeout = 3 * time.Second
				w.processor.Jitter = func(time.Duration) time.Duration { return 100 * time.Millisecond }
				believed := epoch.Add(max(begins, time.Second) + w.processor.AttemptTimeout)
				w.weChat.Misbehave(func(c simulator.Call) simulator.Fault {
					switch {
					case c.API == wechat.Pay:
						return simulator.Fault{Kind: "late", Delay: 5 * time.Second}
					case !time.Now().Before(believed) && time.Since(epoch) < 6*time.Second:
						return simulator.Fault{Kind: "drip_after", Delay: 35 * time.Millisecond} // refused at once, told after seconds
					}
					return simulator.Fault{}
				})
				var callers sync.WaitGroup
				var before, after outcome.Answer
				callers.Go(func() {
					time.Sleep(begins)
					before = w.cancel("b1")
				})
				require.Equal(t, outcome.Unknown, pay().Outcome)
				time.Sleep(time.Until(epoch.Add(6500 * time.Millisecond)))
				require.Equal(t, 1, w.order("b1").Applied)
				callers.Go(func() { after = w.cancel("b1") })
				callers.Wait()
				require.Equal(t, outcome.Rejected, before.Outcome)
				require.Equal(t, outcome.Applied, after.Outcome)
			})
		})
	}
}

func TestACancelIsBelievedInTimeHoweverLongAnAttemptMayTake(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.processor.AttemptTimeout = w.processor.Deadline
		w.losePays("hang_before")
		w.processor.CancelUnknown = false
		require.Equal(t, outcome.Unknown, w.pay("b1", 100).Outcome)
		answer := w.cancel("b1")
		require.Equal(t, outcome.Rejected, answer.Outcome, "%s", answer.Body)
		require.Equal(t, wechat.NoSuchOrder, answer.Errcode)
	})
}

// WeChat needs a little longer than we wait for it.
func TestAPayThatLandsSoonAfterItsEndIsTakenBack(t *testing.T) {
	for name, family := range families {
		for _, cancelUnknown := range []bool{false, true} {
			t.Run(fmt.Sprint(name, cancelUnknown), func(t *testing.T) {
				inFakeTime(t, func(t *testing.T, w *world) {
					w.processor.CancelUnknown = cancelUnknown
					w.weChat.Misbehave(func(c simulator.Call) simulator.Fault {
						switch {
						case c.API.Cancel == nil:
							return simulator.Fault{}
						case c.Attempt == 1:
							return simulator.Fault{Kind: "late", Delay: 200 * time.Millisecond}
						}
						return simulator.Fault{Kind: "clock_behind"} // refused, which ends it
					})
					pay := family.pay(w)
					if cancelUnknown {
						require.Equal(t, outcome.TakenBack, pay.ErrorCode, "%s", pay.Body)
					} else {
						require.Equal(t, outcome.Unknown, pay.Outcome)
						require.Equal(t, outcome.Applied, family.cancel(w).Outcome)
					}
					require.EqualValues(t, coins, w.balance())
				})
			})
		}
	}
}

func TestTakingBackWaitsForACancelThatSaysSomethingElse(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.processor.CancelUnknown = true
		w.weChat.Misbehave(func(c simulator.Call) simulator.Fault {
			switch {
			case c.API == wechat.Pay:
				return simulator.Fault{Kind: "lost_after"}
			case c.Attempt == 1:
				return simulator.Fault{Kind: "hang_after"}
			}
			return simulator.Fault{}
		})
		var callers sync.WaitGroup
		var cancelled outcome.Answer
		callers.Go(func() {
			time.Sleep(w.processor.Deadline - time.Second)
			cancelled = w.cancel("b1")
		})
		pay := w.request(wechat.At(wechat.Pay, wechat.Official), fmt.Sprintf(`{"openid":%q,"amt":100,"bill_no":"b1","zone_id":"2"}`, player))
		answer := w.processor.Process(context.Background(), pay, w.credentials)
		callers.Wait()
		require.Equal(t, outcome.AlreadyApplied, cancelled.Outcome)
		require.Equal(t, outcome.TakenBack, answer.ErrorCode, "%s", answer.Body)
	})
}

func TestPaysAndCancelsAtOnceDoNotWaitForEachOtherForEver(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.weChat.Misbehave(func(simulator.Call) simulator.Fault { return simulator.Fault{Kind: "hang_before"} })
		began := time.Now()
		var callers sync.WaitGroup
		for range 8 {
			callers.Go(func() { w.pay("b1", 100) })
			callers.Go(func() { w.cancel("b1") })
		}
		callers.Wait()
		require.LessOrEqual(t, time.Since(began), w.processor.Deadline)
	})
}

func TestACallThatWaitedHasTheTimeThatIsLeft(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.weChat.Misbehave(func(simulator.Call) simulator.Fault { return simulator.Fault{Kind: "hang_before"} })
		var callers sync.WaitGroup
		callers.Go(func() { w.pay("b1", 100) })
		callers.Go(func() { w.cancel("b1") })
		time.Sleep(5 * time.Second)
		began := time.Now()
		require.Equal(t, outcome.Unknown, w.pay("b1", 100).Outcome)
		require.LessOrEqual(t, time.Since(began), w.processor.Deadline)
		callers.Wait()
	})
}
