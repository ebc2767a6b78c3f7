package payment_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/payment"
	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/upstream"
	"midas-sidecar/internal/wechat"
)

func (w *world) pay(billNo string, amount int) outcome.Answer {
	body := fmt.Sprintf(`{"openid":%q,"amt":%d,"bill_no":%q}`, player, amount, billNo)
	return w.processor.Process(context.Background(), w.request(wechat.At(wechat.Pay, wechat.Official), body), w.credentials)
}

func (w *world) cancel(billNo string) outcome.Answer {
	body := fmt.Sprintf(`{"openid":%q,"bill_no":%q}`, player, billNo)
	return w.processor.Process(context.Background(), w.request(wechat.At(wechat.CancelPay, wechat.Official), body), w.credentials)
}

// suffer lets the attempts of every order go wrong in turn, each as its kind says.
func (w *world) suffer(kinds ...string) {
	w.weChat.Misbehave(func(c simulator.Call) simulator.Fault {
		if c.Attempt > len(kinds) {
			return simulator.Fault{}
		}
		return simulator.Fault{Kind: kinds[c.Attempt-1]}
	})
}

func (w *world) order(billNo string) simulator.Order {
	order, _ := w.weChat.Order(simulator.OrderID{AppID: appID, Environment: wechat.Official, BillNo: billNo})
	return order
}

func inFakeTime(t *testing.T, test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t, simulator.Options{})) })
}

func TestAHundredCallersOfOneOrderShareOneEffectAndOneAnswer(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.suffer("lost_after", "busy_before")
		var callers sync.WaitGroup
		answers := make([]outcome.Answer, 100)
		for i := range answers {
			callers.Go(func() { answers[i] = w.pay("b1", 100) })
		}
		callers.Wait()
		for _, answer := range answers {
			require.Equal(t, outcome.AlreadyApplied, answer.Outcome)
			require.Equal(t, answers[0].Body, answer.Body)
			require.Equal(t, 3, answer.Attempts)
		}
		require.Equal(t, 1, w.order("b1").Applied)
		require.Equal(t, 3, w.weChat.Attempts(wechat.Pay, simulator.OrderID{AppID: appID, Environment: wechat.Official, BillNo: "b1"}))
		require.Equal(t, int64(coins-100), w.weChat.Purse(appID, player, wechat.Official).Balance)
	})
}

func TestAHundredCallersWithADeadTokenFetchOne(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.pay("b0", 1).Outcome)
		time.Sleep(time.Minute)
		require.NoError(t, w.weChat.Edit(func(s *simulator.State) {
			for _, token := range s.Tokens[appID].Issued {
				token.Revoked = true
			}
		}))
		fetched := len(w.weChat.State().Tokens[appID].Issued)

		var callers sync.WaitGroup
		for i := range 100 {
			callers.Go(func() {
				if answer := w.pay(fmt.Sprint("b1-", i), 1); answer.Outcome != outcome.Applied {
					t.Errorf("%s: %s", answer.Outcome, answer.Body)
				}
			})
		}
		callers.Wait()
		require.Len(t, w.weChat.State().Tokens[appID].Issued, fetched+1)
	})
}

func TestASessionKeyThatChangedIsReadAgainAndSignedWith(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.pay("b1", 1).Outcome)
		w.logIn()
		answer := w.pay("b2", 1)
		require.Equal(t, outcome.Applied, answer.Outcome)
		require.Equal(t, 2, answer.Attempts)
	})
}

func TestAMidasKeyThatChangedIsReadAgainAndSignedWith(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.pay("b1", 1).Outcome)
		w.rotateMidasKey()
		answer := w.pay("b2", 1)
		require.Equal(t, outcome.Applied, answer.Outcome)
		require.Equal(t, 2, answer.Attempts)
	})
}

func TestWhatIsRefusedAndHasNotChangedIsNotSentAgain(t *testing.T) {
	for kind, problem := range map[string]outcome.ErrorCode{
		"session_90009": outcome.SessionMissing, "session_90010": outcome.SessionMissing, "key_90011": "", "token_40001": "",
	} {
		t.Run(kind, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, w *world) {
				w.suffer(kind)
				answer := w.pay("b1", 1)
				require.Equal(t, outcome.Rejected, answer.Outcome)
				require.Equal(t, problem, answer.ErrorCode)
				require.Equal(t, 1, answer.Attempts)
				require.Zero(t, w.order("b1").Applied)
			})
		})
	}
}

func TestEachAttemptHasATimeOfItsOwn(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		// The simulator refuses a ts that is more than five minutes old.
		w.processor.Deadline, w.processor.AttemptTimeout = 20*time.Minute, 6*time.Minute
		w.suffer("hang_before", "hang_before")
		answer := w.pay("b1", 1)
		require.Equal(t, outcome.Applied, answer.Outcome)
		require.Equal(t, 3, answer.Attempts)
	})
}

func TestABalanceThatIsShortAfterALostAnswerProvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simulator.Options{BalanceFirst: true})
		w.suffer("lost_after")
		answer := w.pay("b1", coins) // the lost attempt takes the last coins
		require.Equal(t, outcome.Unknown, answer.Outcome)
		require.Equal(t, outcome.OutcomeUnknown, answer.ErrorCode)
		require.Contains(t, string(answer.Body), `"upstream_errcode":90013`)
		require.Equal(t, 1, w.order("b1").Applied)
	})
}

func TestABusinessReasonInABusyAnswerIsARefusal(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.suffer("busy_balance")
		answer := w.pay("b1", 1)
		require.Equal(t, outcome.Rejected, answer.Outcome)
		require.Equal(t, 1, answer.Attempts)
		require.Contains(t, string(answer.Body), "1034-131-0")
	})
}

func TestABusySystemsWordsReachTheCallerWhenTheTimeIsUp(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.weChat.Misbehave(func(simulator.Call) simulator.Fault { return simulator.Fault{Kind: "busy_after"} })
		began := time.Now()
		answer := w.pay("b1", 1)
		require.Equal(t, outcome.Unknown, answer.Outcome)
		require.Empty(t, answer.ErrorCode)
		require.Contains(t, string(answer.Body), `"errcode":-1`)
		require.LessOrEqual(t, time.Since(began), w.processor.Deadline)
		require.Greater(t, answer.Attempts, 5)
	})
}

func TestAnUnknownOrderIsTakenBackWhereThatIsWanted(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.processor.CancelUnknown = true
		w.weChat.Misbehave(func(c simulator.Call) simulator.Fault {
			if c.API == wechat.Pay {
				return simulator.Fault{Kind: "lost_after"}
			}
			return simulator.Fault{}
		})
		answer := w.pay("b1", 100)
		require.Equal(t, outcome.Rejected, answer.Outcome)
		require.Equal(t, outcome.TakenBack, answer.ErrorCode)
		require.Equal(t, 409, answer.Status)
		require.Equal(t, 90015, answer.Errcode)
		require.True(t, w.order("b1").Returned)

		w.weChat.Forget()
		again := w.pay("b1", 100)
		require.Equal(t, outcome.TakenBack, again.ErrorCode, "its number is used up")
		require.True(t, again.Replayed)
	})
}

func TestAnUnknownOrderThatNeverWasIsRejectedWhereItWouldBeTakenBack(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.processor.CancelUnknown = true
		w.weChat.Misbehave(func(c simulator.Call) simulator.Fault {
			if c.API == wechat.Pay {
				return simulator.Fault{Kind: "lost_before"}
			}
			return simulator.Fault{}
		})
		answer := w.pay("b1", 100)
		require.Equal(t, outcome.Rejected, answer.Outcome)
		require.Equal(t, 90000, answer.Errcode)
	})
}

func TestAPayThatWasCancelledIsNoLongerSaidToBeApplied(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.pay("b1", 100).Outcome)
		require.Equal(t, outcome.Applied, w.cancel("b1").Outcome)
		require.Equal(t, outcome.Duplicate, w.pay("b1", 100).Outcome)
		w.suffer("lost_before")
		require.Equal(t, outcome.Duplicate, w.pay("b1", 100).Outcome, "though an attempt was lost")
	})
}

func TestWithoutAConnectionTheNextHostIsTriedAndNothingIsCounted(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		refused := 0
		w.refuseDial = func() bool { refused++; return refused == 2 } // the first fetches the token
		answer := w.pay("b1", 1)
		require.Equal(t, outcome.Applied, answer.Outcome)
		require.Equal(t, 1, answer.Attempts)
	})
}

func TestAnOrderIsForgottenAfterAWhile(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.pay("b1", 1)
		time.Sleep(w.processor.Replay - time.Second)
		require.True(t, w.pay("b1", 1).Replayed)
		time.Sleep(time.Second)
		answer := w.pay("b1", 1)
		require.False(t, answer.Replayed)
		require.Equal(t, outcome.Duplicate, answer.Outcome)
	})
}

func TestWhatWasUnknownIsSentAgainAndFound(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.weChat.Misbehave(func(simulator.Call) simulator.Fault { return simulator.Fault{Kind: "lost_after"} })
		require.Equal(t, outcome.Unknown, w.pay("b1", 100).Outcome)
		require.Equal(t, outcome.BillNoConflict, w.pay("b1", 99).ErrorCode)

		// While it is unknown, even a call that cannot be sent must not say that
		// nothing happened.
		w.store.forget("app")
		w.reload()
		answer := w.pay("b1", 100)
		require.Equal(t, outcome.Unknown, answer.Outcome)
		require.Zero(t, answer.Attempts)
	})
}

// With one attempt in twenty going wrong, nearly every order ends definite and
// hardly any more is sent than has to be.
func TestNearlyAllOrdersEndDefiniteWithFewAttempts(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		unknown, attempts := w.payMany(manyOrders, 0.05)
		t.Logf("%d orders: %d attempts, %d unknown", manyOrders, attempts, unknown)
		require.LessOrEqual(t, unknown, manyOrders/1000)
		require.LessOrEqual(t, float64(attempts), 1.1*manyOrders)
	})
}

func TestNoGoroutineIsLeftAfterManyOrdersThatWentWrong(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		synctest.Wait()
		before := goroutines(t)
		unknown, attempts := w.payMany(manyOrders, 0.5)
		t.Logf("%d orders: %d attempts, %d unknown", manyOrders, attempts, unknown)

		require.NoError(t, w.weChat.Settle(context.Background()))
		w.hangUp()
		synctest.Wait()
		require.Len(t, goroutines(t), len(before))
	})
}

// goroutines are the stacks of those of this test. runtime.NumGoroutine counts the
// runtime's own now and then, and those that have ended until they are off their threads.
func goroutines(t *testing.T) (stacks []string) {
	t.Helper()
	all := make([]byte, 1<<20)
	n := runtime.Stack(all, true)
	require.Less(t, n, len(all), "not all stacks fit")
	for stack := range strings.SplitSeq(string(all[:n]), "\n\n") {
		if state, _, _ := strings.Cut(stack, "\n"); strings.Contains(state, "synctest bubble") {
			stacks = append(stacks, stack)
		}
	}
	require.NotEmpty(t, stacks)
	return stacks
}

// payMany pays n orders, of whose attempts a share goes wrong in any way.
func (w *world) payMany(n int, share float64) (unknown, attempts int) {
	require.NoError(w.t, w.weChat.Edit(func(s *simulator.State) { s.Apps[appID].Players[player].Official.Balance = 1 << 30 }))
	kinds := simulator.Kinds()
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(1, 2))
	w.weChat.Misbehave(func(simulator.Call) simulator.Fault {
		mu.Lock()
		defer mu.Unlock()
		if random.Float64() >= share {
			return simulator.Fault{}
		}
		return simulator.Fault{Kind: kinds[random.IntN(len(kinds))].Name}
	})
	for i := range n {
		answer := w.pay(fmt.Sprint("b", i), 1)
		attempts += answer.Attempts
		if answer.Outcome == outcome.Unknown {
			unknown++
		}
	}
	return unknown, attempts
}

func TestAnAnswerThatIsNotWeChatsNamesTheOrder(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.weChat.Misbehave(func(simulator.Call) simulator.Fault { return simulator.Fault{Kind: "html_before"} })
		answer := w.pay("b1", 1)
		require.True(t, strings.HasSuffix(string(answer.Body), `"bill_no":"b1"}`), "%s", answer.Body)
		require.Equal(t, 504, answer.Status)
	})
}

func TestACallerThatHangsUpDoesNotEndItsOrder(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.suffer("hang_before", "lost_before")
		ctx, hangUp := context.WithTimeout(context.Background(), time.Second)
		defer hangUp()
		answer := w.processor.Process(ctx, w.request(wechat.At(wechat.Pay, wechat.Official), `{"openid":"`+player+`","amt":1,"bill_no":"b1"}`), w.credentials)
		require.Error(t, ctx.Err())
		require.Equal(t, outcome.Applied, answer.Outcome)
		require.Equal(t, 3, answer.Attempts)
	})
}

func TestPausesAreRandomBelowABoundThatDoublesUpToASecond(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		var bounds []time.Duration
		w.processor.Jitter = func(bound time.Duration) time.Duration {
			bounds = append(bounds, bound)
			return bound / 2
		}
		w.weChat.Misbehave(func(simulator.Call) simulator.Fault { return simulator.Fault{Kind: "busy_before"} })
		w.pay("b1", 1)
		const ms = time.Millisecond
		require.Equal(t, []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, 1000 * ms, 1000 * ms, 1000 * ms}, bounds[:7])
	})
}

func TestWhatIsRefusedTwiceIsNotSentAThirdTime(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.pay("b0", 1).Outcome)
		w.weChat.Misbehave(func(simulator.Call) simulator.Fault {
			w.logIn() // so that each time there is another key to sign with
			time.Sleep(2 * time.Second)
			return simulator.Fault{Kind: "session_90010"}
		})
		answer := w.pay("b1", 1)
		require.Equal(t, outcome.Rejected, answer.Outcome)
		require.Equal(t, 2, answer.Attempts)
	})
}

func TestTheNextHostIsTriedAfterAFailureToGetAnAnswerAndOnlyThen(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.pay("b0", 1).Outcome)
		time.Sleep(time.Minute) // or the token would be too new to be asked for again
		w.suffer("lost_before", "busy_before", "http_502_before", "token_40001_replaced")
		hosts := &recording{Sender: w.processor.Sender}
		w.processor.Sender = hosts
		require.Equal(t, outcome.Applied, w.pay("b1", 1).Outcome)
		require.Equal(t, []int{0, 1, 1, 2, 2}, hosts.used)
	})
}

// recording keeps which hosts were sent to.
type recording struct {
	payment.Sender
	used []int
}

func (r *recording) Send(ctx context.Context, host int, message wechat.Outbound) upstream.Exchange {
	r.used = append(r.used, host)
	return r.Sender.Send(ctx, host, message)
}

func TestTheCauseIsWhatBecameOfWhatWasSent(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		sent := false
		w.weChat.Misbehave(func(c simulator.Call) simulator.Fault {
			sent = sent || c.API == wechat.Pay
			return simulator.Fault{Kind: "html_before"}
		})
		w.refuseDial = func() bool { return sent }
		answer := w.pay("b1", 1)
		require.Equal(t, outcome.Unknown, answer.Outcome)
		require.NotContains(t, answer.Cause.Error(), "connection refused")
	})
}
