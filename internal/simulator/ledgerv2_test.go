package simulator

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/wechat"
)

func TestAV2PayTakesCoinsOnceAndSaysWhatIsLeft(t *testing.T) {
	w := newWorld(t)
	require.JSONEq(t, `{"errcode":0,"errmsg":"ok","bill_no":"gift","balance":10020}`,
		w.signed(presentPathV2, map[string]any{"bill_no": "gift", "amount": int64(20)}).text)
	require.JSONEq(t, `{"errcode":0,"errmsg":"ok","bill_no":"b1","balance":9990,"used_present_amount":20}`, w.payV2("b1", 30).text)
	require.Equal(t, 90012, w.payV2("b1", 31).Errcode)
	require.Equal(t, 90012, w.signed(presentPathV2, map[string]any{"bill_no": "b1", "amount": int64(1)}).Errcode)
	order, _ := w.sim.Order(inZone("b1"))
	require.Equal(t, 1, order.Applied)
	require.JSONEq(t, `{"errcode":0,"errmsg":"ok","balance":9990,"present_balance":0,"sum_save":10000,"sum_present":20,
		"sum_balance":10020,"sum_cost":30,"first_save":false}`, w.signed(balancePathV2, nil).text)
	require.JSONEq(t, `{"errcode":0,"errmsg":"ok","balance":0,"present_balance":0,"sum_save":0,"sum_present":0,
		"sum_balance":0,"sum_cost":0,"first_save":true}`, w.signed(balancePathV2, map[string]any{"coin_type": int64(1)}).text)
}

// A v2 bill_no is a player's in a zone and environment; a v1 one is the app's. They
// share the purse and nothing else.
func TestTheSameNumberIsAnotherOrderElsewhere(t *testing.T) {
	w := newWorld(t, func(s *State) {
		s.Apps[appID].Players["friend"] = &Player{SessionKey: Demo().Apps[appID].Players[openID].SessionKey, Official: Purse{Balance: 100}}
	})
	pay := func(own map[string]any) answer {
		own["bill_no"], own["amount"] = "b1", int64(1)
		return w.signed(payPathV2, own)
	}
	require.Zero(t, w.pay("b1", 1).Errcode)
	require.Zero(t, pay(map[string]any{}).Errcode)
	require.Zero(t, pay(map[string]any{"zone_id": "1_7"}).Errcode)
	require.Zero(t, pay(map[string]any{"env": int64(1)}).Errcode)
	require.Zero(t, pay(map[string]any{"openid": "friend"}).Errcode)
	require.Equal(t, int64(9997), w.purse().Balance)
	require.Equal(t, int64(9999), w.sim.Purse(appID, openID, wechat.Sandbox).Balance)
	require.Equal(t, int64(99), w.sim.Purse(appID, "friend", wechat.Official).Balance)

	require.Zero(t, w.cancel("b1").Errcode)
	order, _ := w.sim.Order(inZone("b1"))
	require.Zero(t, order.Refunded)
	require.Equal(t, 1, w.sim.Attempts(wechat.PayV2, inZone("b1")))
	require.Equal(t, 1, w.sim.Attempts(wechat.Pay, official("b1")))
}

func TestAnOrderIsGivenBackInPartsUntilNothingIsLeft(t *testing.T) {
	w := newWorld(t)
	require.Zero(t, w.payV2("b1", 100).Errcode)
	require.JSONEq(t, `{"errcode":0,"errmsg":"ok","bill_no":"r1","balance":9940,"used_present_amount":0}`, w.refund("r1", "b1", 40).text)
	require.Equal(t, 90012, w.refund("r1", "b1", 40).Errcode, "the refund's own number")
	require.Equal(t, 90012, w.refund("b1", "b1", 1).Errcode, "which is not the order's")
	require.Zero(t, w.refund("r2", "b1", 40).Errcode, "another of the same size")

	tooMuch := w.refund("r3", "b1", 21)
	require.Equal(t, 90018, tooMuch.Errcode)
	require.Contains(t, tooMuch.Errmsg, "amount: must be at most what was paid and is not yet given back")
	w.requireLogged("100 coins were paid and 80 given back")
	order, _ := w.sim.Order(inZone("b1"))
	require.Equal(t, int64(80), order.Refunded)
	require.False(t, order.Returned)

	require.Zero(t, w.refund("r3", "b1", 20).Errcode, "a number that was refused is free")
	require.Equal(t, 90018, w.refund("r4", "b1", 1).Errcode)
	order, _ = w.sim.Order(inZone("b1"))
	require.Equal(t, int64(100), order.Refunded)
	require.True(t, order.Returned)
	require.Equal(t, Purse{Balance: 10000}, w.purse())
	require.Equal(t, 90012, w.payV2("b1", 100).Errcode, "an order that was given back stays an order")

	refund, _ := w.sim.Order(inZone("r1"))
	require.Equal(t, Order{API: "cancelpay", OpenID: openID, Amount: 40, Time: refund.Time, Applied: 1, Of: "b1"}, refund)
}

func TestOnlyAPayOfThePlayerInTheZoneIsGivenBack(t *testing.T) {
	w := newWorld(t)
	require.Zero(t, w.payV2("b1", 100).Errcode)
	require.Zero(t, w.refund("r1", "b1", 1).Errcode)
	require.Zero(t, w.pay("v1", 100).Errcode)
	require.Zero(t, w.signed(presentPathV2, map[string]any{"bill_no": "gift", "amount": int64(5)}).Errcode)
	for _, of := range []string{"never", "gift", "r1", "v1"} {
		require.Equal(t, 90000, w.refund("r2", of, 1).Errcode, of)
	}
	for _, elsewhere := range []map[string]any{{"zone_id": "2"}, {"env": int64(1)}} {
		elsewhere["bill_no"], elsewhere["pay_bill_no"], elsewhere["amount"] = "r2", "b1", int64(1)
		require.Equal(t, 90000, w.signed(cancelPathV2, elsewhere).Errcode)
	}
}

func TestGiftCoinsComeBackLast(t *testing.T) {
	w := newWorld(t)
	require.Zero(t, w.present("gift", 50).Errcode)
	require.Zero(t, w.payV2("b1", 80).Errcode)
	require.Contains(t, w.refund("r1", "b1", 20).text, `"used_present_amount":0`)
	require.Contains(t, w.refund("r2", "b1", 20).text, `"used_present_amount":10`)
	require.Equal(t, Purse{Balance: 10010, GenBalance: 10, CostSum: 40, GenCostSum: 40}, w.purse())
	require.Contains(t, w.refund("r3", "b1", 40).text, `"used_present_amount":40`)
	require.Equal(t, Purse{Balance: 10050, GenBalance: 50}, w.purse())
}

// After 48 hours a number is forgotten: what is then done again under it is counted.
func TestAV2OrderIsForgottenAfter48Hours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		require.Zero(t, w.payV2("b1", 30).Errcode)
		time.Sleep(48*time.Hour - time.Second)
		require.Equal(t, 90012, w.payV2("b1", 30).Errcode)
		require.Zero(t, w.refund("r1", "b1", 10).Errcode)
		time.Sleep(time.Second)
		require.Equal(t, 90000, w.refund("r2", "b1", 10).Errcode)
		require.Zero(t, w.payV2("b1", 30).Errcode)
		order, _ := w.sim.Order(inZone("b1"))
		require.Equal(t, 2, order.Applied)
		require.Zero(t, order.Refunded)

		time.Sleep(48*time.Hour - time.Second)
		require.Zero(t, w.refund("r1", "b1", 10).Errcode)
		refund, _ := w.sim.Order(inZone("r1"))
		require.Equal(t, 2, refund.Applied, "a refund that was made twice shows")
		require.Equal(t, int64(9960), w.purse().Balance)
	})
}

func TestAnOrderIsFound(t *testing.T) {
	w := newWorld(t)
	query := func(no string, biz int64) answer {
		return w.signed(queryPathV2, map[string]any{"out_trade_no": no, "biz_id": biz})
	}
	require.Zero(t, w.payV2("b1", 5).Errcode)
	require.Zero(t, w.pay("v1", 5).Errcode)
	order, _ := w.sim.Order(inZone("b1"))
	require.JSONEq(t, fmt.Sprintf(`{"errcode":0,"errmsg":"ok","product_id":"","pay_state":2,"deliver_state":2,"pay_finish_time":%d,
		"out_trade_no":"b1","mch_order_no":"","transaction_id":""}`, order.Time.Unix()), query("b1", 1).text)
	require.Equal(t, 90019, query("b1", 2).Errcode, "there are no goods")
	require.Equal(t, 90019, query("never", 1).Errcode)
	require.Equal(t, 90019, query("v1", 1).Errcode)
	require.Equal(t, wechat.Refused, wechat.QueryOrderInfo.Explain(90019).Action)
}

func TestThePurseIsCheckedFirstInV2Too(t *testing.T) {
	w := newWorldWith(t, Options{BalanceFirst: true})
	require.Zero(t, w.payV2("b1", 10000).Errcode)
	require.Equal(t, 90013, w.payV2("b1", 10000).Errcode)

	w = newWorld(t)
	require.Zero(t, w.payV2("b1", 10000).Errcode)
	require.Equal(t, 90012, w.payV2("b1", 10000).Errcode)
	w.sim.Misbehave(always("balance_first"))
	require.Equal(t, 90013, w.payV2("b1", 10000).Errcode)
}

// Both families on one purse, in whatever order: coins only move by what the answers
// say, and the state can always be read back.
func TestCoinsAreConservedAcrossTheFamilies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		random := rand.New(rand.NewPCG(3, 4))
		want := int64(10000)
		paid := make(map[string]int64)
		for i := range 1500 {
			no, amount := fmt.Sprint("b", random.IntN(15)), random.Int64N(1500)+1
			switch random.IntN(5) {
			case 0:
				if w.signed(presentPathV2, map[string]any{"bill_no": "p" + no, "amount": amount}).Errcode == 0 {
					want += amount
				}
			case 1, 2:
				if w.refund(fmt.Sprint("r", random.IntN(200)), no, amount/3+1).Errcode == 0 {
					want += amount/3 + 1
				}
			case 3:
				if w.payV2(no, amount).Errcode == 0 {
					want -= amount
				}
			default:
				if w.pay(no, amount).Errcode == 0 {
					want, paid[no] = want-amount, amount
				}
				if i%3 == 0 && w.cancel(no).Errcode == 0 {
					want += paid[no]
				}
			}
			time.Sleep(time.Duration(random.IntN(90)) * time.Minute)
			w.sim.state.Tokens[appID].Issued[0].Expires = time.Now().Add(1000 * time.Hour)
			require.Equal(t, want, w.purse().Balance)
		}
		before := w.sim.State()
		require.NoError(t, before.check())
		text, err := before.encode()
		require.NoError(t, err)
		after, err := parseState(text)
		require.NoError(t, err)
		require.Equal(t, before, after)
	})
}
