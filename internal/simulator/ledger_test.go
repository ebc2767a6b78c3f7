package simulator

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/wechat"
)

func TestPayTakesCoinsOnceAndSaysWhatIsLeft(t *testing.T) {
	w := newWorld(t)
	answer := w.pay("b1", 30)
	require.JSONEq(t, `{"errcode":0,"errmsg":"ok","bill_no":"b1","balance":9970,"used_gen_amt":0}`, answer.text)

	again := w.pay("b1", 30)
	require.Equal(t, 90012, again.Errcode)
	require.Equal(t, int64(9970), w.purse().Balance)
	order, known := w.sim.Order(official("b1"))
	require.True(t, known)
	require.Equal(t, 1, order.Applied)
}

// WeChat knows an order by its number: neither the amount nor the player counts.
func TestARepeatIsARepeatWhateverElseItSays(t *testing.T) {
	w := newWorld(t, func(s *State) {
		s.Apps[appID].Players["friend"] = &Player{SessionKey: Demo().Apps[appID].Players[openID].SessionKey, Official: Purse{Balance: 100}}
	})
	require.Zero(t, w.pay("b1", 30).Errcode)
	require.Equal(t, 90012, w.pay("b1", 31).Errcode)
	require.Equal(t, 90012, w.present("b1", 5).Errcode)
	require.Equal(t, 90012, w.signed(payPath, map[string]any{"bill_no": "b1", "amt": int64(1), "openid": "friend"}).Errcode)
	w.requireLogged("for another player")
	require.Equal(t, int64(9970), w.purse().Balance)
	require.Equal(t, int64(100), w.sim.Purse(appID, "friend", wechat.Official).Balance)
}

func TestGiftCoinsAreSpentFirstAndComeBackAsGifts(t *testing.T) {
	w := newWorld(t)
	answer := w.present("gift", 50)
	require.JSONEq(t, `{"errcode":0,"errmsg":"ok","bill_no":"gift","balance":10050}`, answer.text)

	require.Equal(t, int64(20), w.pay("b1", 20).UsedGenAmt)
	require.Equal(t, int64(30), w.pay("b2", 100).UsedGenAmt)
	require.Equal(t, Purse{Balance: 9930, CostSum: 120, GenCostSum: 50}, w.purse())

	require.JSONEq(t, `{"errcode":0,"errmsg":"ok","bill_no":"b2"}`, w.cancel("b2").text)
	require.Equal(t, Purse{Balance: 10030, GenBalance: 30, CostSum: 20, GenCostSum: 20}, w.purse())
	require.JSONEq(t, `{"errcode":0,"errmsg":"ok","balance":10030,"gen_balance":30,"first_save":0,
		"save_amt":10000,"save_sum":10050,"cost_sum":20,"present_sum":50}`, w.signed(balancePath, nil).text)
}

func TestWhoHasBoughtNothingIsToldSo(t *testing.T) {
	w := newWorld(t, func(s *State) { s.Apps[appID].Players[openID].Official = Purse{} })
	w.present("gift", 5)
	require.EqualValues(t, 1, w.signed(balancePath, nil).FirstSave)
}

func TestTheEnvironmentsShareNothing(t *testing.T) {
	w := newWorld(t)
	require.Zero(t, w.pay("b1", 30).Errcode)
	require.Zero(t, w.signed(sandboxPayPath, map[string]any{"bill_no": "b1", "amt": int64(7)}).Errcode)
	require.Equal(t, int64(9970), w.purse().Balance)
	require.Equal(t, int64(9993), w.sim.Purse(appID, openID, wechat.Sandbox).Balance)
	require.Zero(t, w.cancel("b1").Errcode)
	require.Equal(t, int64(9993), w.sim.Purse(appID, openID, wechat.Sandbox).Balance)
}

func TestCancelPay(t *testing.T) {
	w := newWorld(t, func(s *State) {
		s.Apps[appID].Players["friend"] = &Player{SessionKey: Demo().Apps[appID].Players[openID].SessionKey, Official: Purse{Balance: 100}}
	})
	require.Equal(t, 90000, w.cancel("never").Errcode)

	require.Zero(t, w.present("gift", 5).Errcode)
	require.Equal(t, 90000, w.cancel("gift").Errcode)

	require.Zero(t, w.pay("b1", 30).Errcode)
	require.Equal(t, 90000, w.signed(cancelPath, map[string]any{"bill_no": "b1", "openid": "friend"}).Errcode)
	require.Zero(t, w.cancel("b1").Errcode)
	require.Equal(t, 90015, w.cancel("b1").Errcode)
	require.Equal(t, 90012, w.pay("b1", 30).Errcode, "a cancelled order stays an order")
	require.Equal(t, int64(10005), w.purse().Balance)
}

// The page of pay: "bill_no is valid for 48 hours". What is older is forgotten,
// and the same number takes coins again.
func TestAnOrderIsForgottenAfter48Hours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		require.Zero(t, w.pay("b1", 30).Errcode)
		require.Zero(t, w.pay("b2", 1).Errcode)
		time.Sleep(48*time.Hour - time.Second)
		require.Equal(t, 90012, w.pay("b1", 30).Errcode)
		require.Zero(t, w.cancel("b2").Errcode)
		time.Sleep(time.Second)
		require.Equal(t, 90014, w.cancel("b1").Errcode)
		require.Zero(t, w.pay("b1", 30).Errcode)
		order, _ := w.sim.Order(official("b1"))
		require.Equal(t, 2, order.Applied)
		require.Equal(t, int64(9940), w.purse().Balance)
		require.Zero(t, w.cancel("b1").Errcode, "the new order can be cancelled")
	})
}

func TestTheLastCoinsCanBePaidAndOneMoreCannot(t *testing.T) {
	w := newWorld(t)
	require.Zero(t, w.pay("b1", 10000).Errcode)
	require.Equal(t, 90013, w.pay("b2", 1).Errcode)
	require.Equal(t, 90012, w.pay("b1", 10000).Errcode, "a repeat is found before the balance")
}

func TestTheBalanceMayBeCheckedFirst(t *testing.T) {
	w := newWorldWith(t, Options{BalanceFirst: true})
	require.Zero(t, w.pay("b1", 10000).Errcode)
	require.Equal(t, 90013, w.pay("b1", 10000).Errcode)
	require.Zero(t, w.present("gift", 10000).Errcode)
	require.Equal(t, 90012, w.pay("b1", 10000).Errcode)
}

func TestCoinsNeverOutgrowWhatJSONKeepsExact(t *testing.T) {
	w := newWorld(t)
	require.Zero(t, w.present("p1", maxCoins-10000).Errcode)
	require.Zero(t, w.pay("b1", maxCoins).Errcode)
	answer := w.present("p2", 1)
	require.Equal(t, 90018, answer.Errcode)
	require.Contains(t, answer.Errmsg, "present_counts")
	require.Zero(t, w.cancel("b1").Errcode)
	require.Equal(t, int64(maxCoins), w.purse().Balance)
}

func TestAHundredIdenticalPaysAtOnceTakeCoinsOnce(t *testing.T) {
	w := newWorld(t)
	codes := make(chan int, 100)
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() { codes <- w.pay("b1", 30).Errcode })
	}
	all.Wait()
	close(codes)
	count := make(map[int]int)
	for code := range codes {
		count[code]++
	}
	require.Equal(t, map[int]int{0: 1, 90012: 99}, count)
	require.Equal(t, int64(9970), w.purse().Balance)
	order, _ := w.sim.Order(official("b1"))
	require.Equal(t, 1, order.Applied)
}

// Whatever is done in whatever order: coins only move by what the answers say,
// and the state can always be read back.
func TestCoinsAreConserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		random := rand.New(rand.NewPCG(1, 2))
		want, paid := int64(10000), make(map[string]int64)
		for range 2000 {
			billNo := fmt.Sprint("b", random.IntN(40))
			amount := random.Int64N(3000) + 1
			switch random.IntN(4) {
			case 0:
				if w.present("p"+billNo, amount/4+1).Errcode == 0 {
					want += amount/4 + 1
				}
			case 1:
				if w.cancel(billNo).Errcode == 0 {
					want += paid[billNo]
				}
			default:
				if w.pay(billNo, amount).Errcode == 0 {
					want -= amount
					paid[billNo] = amount
				}
			}
			time.Sleep(time.Duration(random.IntN(120)) * time.Minute)
			if w.sim.state.Tokens[appID].Issued[0].Expires.Before(time.Now()) {
				w.sim.state.Tokens[appID].Issued[0].Expires = time.Now().Add(1000 * time.Hour)
			}
			require.Equal(t, want, w.purse().Balance)
			require.Equal(t, want, w.signed(balancePath, nil).Balance)
		}
		require.NoError(t, w.sim.state.check())
	})
}
