package payment_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/credentials"
	"midas-sidecar/internal/ledger"
	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/upstream"
	"midas-sidecar/internal/wechat"
)

// What v2 has that v1 has not: refunds in part under numbers of their own, and numbers
// that are one player's in one zone.

func (w *world) v2(api *wechat.API, members string) outcome.Answer {
	order := w.request(wechat.At(api, wechat.Official), fmt.Sprintf(`{"openid":%q,%s}`, player, members))
	return w.processor.Process(context.Background(), order, w.credentials)
}

func (w *world) payV2(billNo string, amount int) outcome.Answer {
	return w.v2(wechat.PayV2, fmt.Sprintf(`"bill_no":%q,"amount":%d`, billNo, amount))
}

func (w *world) refund(billNo, pay string, amount int) outcome.Answer {
	return w.v2(wechat.CancelPayV2, fmt.Sprintf(`"bill_no":%q,"pay_bill_no":%q,"amount":%d`, billNo, pay, amount))
}

func idV2(billNo string) simulator.OrderID {
	return simulator.OrderID{AppID: appID, Environment: wechat.Official, BillNo: billNo, OpenID: player, ZoneID: "1"}
}

func (w *world) orderV2(billNo string) simulator.Order {
	order, _ := w.weChat.Order(idV2(billNo))
	return order
}

func (w *world) balance() int64 { return w.weChat.Purse(appID, player, wechat.Official).Balance }

func TestAPayOfV2IsPursuedThroughLostAnswersAndRotations(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.payV2("b0", 1).Outcome)
		time.Sleep(time.Minute)
		w.logIn()
		w.rotateMidasKey()
		// The first two attempts are signed with the old keys.
		w.suffer("none", "none", "token_40001_replaced", "lost_after", "busy_before")
		answer := w.payV2("b1", 100)
		require.Equal(t, outcome.AlreadyApplied, answer.Outcome, "%s", answer.Body)
		require.Equal(t, 6, answer.Attempts)
		require.Equal(t, 1, w.orderV2("b1").Applied)
		require.True(t, w.payV2("b1", 100).Replayed)
		require.Equal(t, outcome.BillNoConflict, w.payV2("b1", 99).ErrorCode)
	})
}

func TestTheSameNumberInAnotherZoneIsAnotherOrder(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.payV2("b1", 100).Outcome)
		there := w.v2(wechat.PayV2, `"bill_no":"b1","amount":50,"zone_id":"2"`)
		require.Equal(t, outcome.Applied, there.Outcome, "%s", there.Body)
		require.Equal(t, outcome.Rejected, w.v2(wechat.CancelPayV2, `"bill_no":"r1","pay_bill_no":"b1","amount":100,"zone_id":"2"`).Outcome)
		require.True(t, w.payV2("b1", 100).Replayed, "what is taken back there is not taken back here")
		require.EqualValues(t, coins-150, w.balance())
	})
}

func TestAPayOfWhichAPartIsGivenBackIsNoLongerSaidToBeApplied(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.payV2("b1", 100).Outcome)
		require.Equal(t, outcome.Applied, w.refund("r1", "b1", 40).Outcome)
		require.Equal(t, outcome.Duplicate, w.payV2("b1", 100).Outcome)
		w.suffer("lost_before")
		require.Equal(t, outcome.Duplicate, w.payV2("b1", 100).Outcome, "though an attempt was lost")
	})
}

func TestARefundThatWasRefusedLeavesThePayAsItIs(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.payV2("b1", 100).Outcome)
		require.Equal(t, outcome.Rejected, w.refund("r1", "b1", 101).Outcome)
		require.True(t, w.payV2("b1", 100).Replayed)
	})
}

func TestAPayIsReturnedOnceItsRefundsAddUpToIt(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.payV2("b1", 100).Outcome)
		require.Equal(t, outcome.Applied, w.refund("r1", "b1", 40).Outcome)
		token := w.store.secrets["app"]["midas_key"]
		w.store.forget("app")
		w.reload()
		require.Equal(t, outcome.Unknown, w.payV2("b1", 100).Outcome, "60 coins are still deducted")

		w.store.put("app", "midas_key", token.Reveal())
		w.store.put("app", "app_secret", w.weChat.State().Apps[appID].Secret)
		w.reload()
		require.Equal(t, outcome.Applied, w.refund("r2", "b1", 60).Outcome)
		w.store.forget("app")
		w.reload()
		require.Equal(t, outcome.NotSent, w.payV2("b1", 100).Outcome)
		require.EqualValues(t, coins, w.balance())
	})
}

func TestARefundSaidTwiceGivesBackOnce(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.payV2("b1", 100).Outcome)
		w.suffer("lost_after")
		var callers sync.WaitGroup
		for range 10 {
			callers.Go(func() {
				if answer := w.refund("r1", "b1", 40); answer.Outcome != outcome.AlreadyApplied {
					t.Errorf("%s: %s", answer.Outcome, answer.Body)
				}
			})
		}
		callers.Wait()
		require.Equal(t, 2, w.weChat.Attempts(wechat.CancelPayV2, idV2("r1")))
		require.True(t, w.refund("r1", "b1", 40).Replayed)
		require.Equal(t, outcome.BillNoConflict, w.refund("r1", "b1", 41).ErrorCode)
		require.Equal(t, outcome.BillNoConflict, w.refund("r1", "b2", 40).ErrorCode)
		require.EqualValues(t, coins-60, w.balance())
	})
}

func TestRefundsAtOnceGiveBackNoMoreThanWasPaid(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.payV2("b1", 100).Outcome)
		w.suffer("lost_after", "lost_after")
		var callers sync.WaitGroup
		answers := make([]outcome.Answer, 5)
		for i := range answers {
			callers.Go(func() { answers[i] = w.refund(fmt.Sprint("r", i), "b1", 40) })
		}
		callers.Wait()
		given := 0
		for i, answer := range answers {
			applied := w.orderV2(fmt.Sprint("r", i)).Applied
			given += applied
			require.Equal(t, applied == 1, answer.Outcome == outcome.AlreadyApplied, "%s", answer.Body)
		}
		require.Equal(t, 2, given)
		require.EqualValues(t, 80, w.orderV2("b1").Refunded)
	})
}

func TestANumberThatIsInUseSaysNothingAboutARefund(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.payV2("b1", 100).Outcome)
		require.Equal(t, outcome.Applied, w.presentV2("g1", 5).Outcome)
		w.weChat.Misbehave(func(c simulator.Call) simulator.Fault {
			if c.Attempt == 1 {
				return simulator.Fault{Kind: "lost_before"}
			}
			return simulator.Fault{}
		})
		require.Equal(t, outcome.Duplicate, w.refund("g1", "b1", 100).Outcome, "the number is a present's")
		w.store.forget("app")
		w.reload()
		require.Equal(t, outcome.Unknown, w.payV2("b1", 100).Outcome, "nothing of it is known to be given back")
	})
}

func TestARefundThatMayHaveBeenDoneIsNotForgottenForAnotherOfItsNumber(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.payV2("b0", 100).Outcome)
		w.suffer(slices.Repeat([]string{"lost_before"}, 100)...)
		require.Equal(t, outcome.Unknown, w.payV2("b1", 1).Outcome)
		w.suffer("lost_after")
		require.Equal(t, outcome.Duplicate, w.refund("b1", "b0", 40).Outcome, "the number may be the pay's")
		require.EqualValues(t, 40, w.orderV2("b0").Refunded)

		for range 2 {
			require.Equal(t, outcome.Duplicate, w.refund("b1", "b2", 60).Outcome)
			require.Equal(t, outcome.Duplicate, w.payV2("b0", 100).Outcome, "of which a part was given back")
			require.Equal(t, outcome.Duplicate, w.refund("b1", "b0", 40).Outcome)
		}
	})
}

func TestANumberThatIsInUseStaysSoThoughAnotherRefundOfItIsRefused(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		exists := says(90012, "order exists")
		w.processor.Sender = plays(exists, says(wechat.NoSuchOrder, "order not exist"), upstream.Exchange{Sent: true, Err: io.EOF}, exists)
		require.Equal(t, outcome.Duplicate, w.refund("r1", "b1", 40).Outcome)
		require.Equal(t, outcome.Rejected, w.refund("r1", "b2", 40).Outcome)
		require.Equal(t, outcome.Duplicate, w.refund("r1", "b1", 40).Outcome, "which was not done by the attempt that was lost")
	})
}

func TestALostRefundOfNoSuchOrderMayHaveUsedItsNumber(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		lost, exists := upstream.Exchange{Sent: true, Err: io.EOF}, says(90012, "order exists")
		w.processor.Sender = plays(lost, says(wechat.NoSuchOrder, "order not exist"), lost, exists)
		require.Equal(t, outcome.Rejected, w.refund("r1", "b2", 40).Outcome)
		require.Equal(t, outcome.Duplicate, w.refund("r1", "b1", 40).Outcome)
	})
}

func TestANumberThatARefundUsesProvesNothingAboutAPay(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.payV2("b1", 100).Outcome)
		require.Equal(t, outcome.Applied, w.refund("r1", "b1", 40).Outcome)
		w.suffer("lost_before")
		require.Equal(t, outcome.Duplicate, w.payV2("r1", 100).Outcome)
	})
}

func TestANumberThatAReturnedPayUsedProvesNothingAboutARefund(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		require.Equal(t, outcome.Applied, w.payV2("b0", 100).Outcome)
		w.suffer("hang_after", "busy_currency")
		var callers sync.WaitGroup
		callers.Go(func() {
			if answer := w.payV2("b1", 100); answer.Outcome != outcome.Rejected {
				t.Errorf("%s: %s", answer.Outcome, answer.Body)
			}
		})
		time.Sleep(time.Second)
		w.weChat.Forget()
		require.Equal(t, outcome.Applied, w.refund("r1", "b1", 100).Outcome)
		w.suffer("busy_currency")
		callers.Wait()

		w.suffer("lost_before")
		require.Equal(t, outcome.Duplicate, w.refund("b1", "b0", 40).Outcome)
		require.Zero(t, w.orderV2("b0").Refunded)
	})
}

func TestAPayThatIsGivenBackInPartWhileItIsInFlightIsNotSaidToBeApplied(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.sufferPay("hang_after")
		var callers sync.WaitGroup
		var inFlight, joined outcome.Answer
		callers.Go(func() { inFlight = w.payV2("b1", 100) })
		time.Sleep(time.Second)
		require.Equal(t, outcome.Applied, w.refund("r1", "b1", 40).Outcome)
		callers.Go(func() { joined = w.payV2("b1", 100) })
		callers.Wait()
		require.Equal(t, outcome.Duplicate, inFlight.Outcome)
		require.Equal(t, outcome.Duplicate, joined.Outcome)
	})
}

// losePays lets no answer to a pay come back, and everything else go well.
func (w *world) losePays(kind string) {
	w.processor.CancelUnknown = true
	w.weChat.Misbehave(func(c simulator.Call) simulator.Fault {
		if c.API.Cancel != nil {
			return simulator.Fault{Kind: kind}
		}
		return simulator.Fault{}
	})
}

func TestAnUnknownOrderOfV2IsTakenBackAsAWhole(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.losePays("lost_after")
		answer := w.payV2("b1", 100)
		require.Equal(t, outcome.Rejected, answer.Outcome)
		require.Equal(t, outcome.TakenBack, answer.ErrorCode)
		require.Equal(t, 90015, answer.Errcode)
		require.True(t, w.orderV2("b1").Returned)
		require.EqualValues(t, coins, w.balance())

		w.weChat.Forget()
		again := w.payV2("b1", 100)
		require.Equal(t, outcome.TakenBack, again.ErrorCode, "its number is used up")
		require.True(t, again.Replayed)
	})
}

func TestAnUnknownOrderIsTakenBackOnceHoweverManySidecarsDoSo(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.losePays("lost_after")
		require.Equal(t, outcome.TakenBack, w.payV2("b1", 100).ErrorCode)
		elsewhere := *w.processor
		elsewhere.Ledger = ledger.New()
		w.processor = &elsewhere
		require.Equal(t, outcome.TakenBack, w.payV2("b1", 100).ErrorCode)
		require.EqualValues(t, coins, w.balance())
		require.EqualValues(t, 100, w.orderV2("b1").Refunded)
	})
}

func TestAnUnknownOrderOfV2ThatNeverWasIsRejected(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.losePays("lost_before")
		answer := w.payV2("b1", 100)
		require.Equal(t, outcome.Rejected, answer.Outcome)
		require.Equal(t, wechat.NoSuchOrder, answer.Errcode)

		w.suffer("busy_currency")
		answer = w.payV2("b1", 100)
		require.Equal(t, outcome.Rejected, answer.Outcome, "%s", answer.Body)
		require.Equal(t, 1, answer.Attempts, "and there is no doubt")
		w.weChat.Forget()
		require.Equal(t, outcome.Applied, w.payV2("b1", 200).Outcome, "and its number is free")
	})
}

func TestAnUnknownOrderThatItsCallerGaveBackIsTakenBack(t *testing.T) {
	for part, want := range map[int]outcome.Outcome{100: outcome.Rejected, 40: outcome.Unknown} {
		inFakeTime(t, func(t *testing.T, w *world) {
			w.losePays("hang_after")
			var callers sync.WaitGroup
			var answer outcome.Answer
			callers.Go(func() { answer = w.payV2("b1", 100) })
			time.Sleep(5 * time.Second)
			require.Equal(t, outcome.Applied, w.refund("r1", "b1", part).Outcome)
			callers.Wait()
			require.Equal(t, want, answer.Outcome, "%s", answer.Body)
			require.Equal(t, want == outcome.Rejected, answer.ErrorCode == outcome.TakenBack)
			require.EqualValues(t, part, w.orderV2("b1").Refunded)
		})
	}
}

func TestV2IsSignedForThePlayerAlsoWhereV1IsNot(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.credentials = credentials.NewCache(w.store, credentials.Options{
			Ages: secrets.Ages{Fresh: 5 * time.Minute, Stale: 24 * time.Hour}, Sessions: 100, Log: slog.New(slog.DiscardHandler),
		}).Of(credentials.App{AppID: appID, Secret: "app", Session: "{openid}"}, w.client)
		require.Equal(t, outcome.Applied, w.payV2("b1", 1).Outcome)
		w.logIn()
		answer := w.payV2("b2", 1)
		require.Equal(t, outcome.Applied, answer.Outcome)
		require.Equal(t, 2, answer.Attempts)

		w.suffer("session_90010")
		require.Equal(t, outcome.SessionMissing, w.payV2("b3", 1).ErrorCode)
	})
}

func TestV2SignsWithItsOwnMidasKeyInBothEnvironments(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w *world) {
		w.store.put("app", "midas_key_v2", "v2 official")
		w.store.put("app", "midas_key_v2_sandbox", "v2 sandbox")
		require.NoError(t, w.weChat.Edit(func(s *simulator.State) {
			s.Apps[appID].MidasKey, s.Apps[appID].MidasKeySandbox = "v2 official", "v2 sandbox"
		}))
		pays := func(api *wechat.API, e wechat.Environment, body string) outcome.Answer {
			return w.processor.Process(context.Background(), w.request(wechat.At(api, e), body), w.credentials)
		}
		for env, number := range map[wechat.Environment]int{wechat.Official: 0, wechat.Sandbox: 1} {
			v2 := pays(wechat.PayV2, env, fmt.Sprintf(`{"openid":%q,"bill_no":"b1","amount":1,"env":%d}`, player, number))
			require.Equal(t, outcome.Applied, v2.Outcome, "%s", v2.Body)
			require.Equal(t, 1, v2.Attempts)
			v1 := pays(wechat.Pay, env, fmt.Sprintf(`{"openid":%q,"bill_no":"b1","amt":1}`, player))
			require.Equal(t, outcome.Rejected, v1.Outcome)
			require.Equal(t, 90011, v1.Errcode, "v1 has the other key")
		}
	})
}
