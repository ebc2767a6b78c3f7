package integration

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
)

// gameV2 is a game server that speaks v2 for the one player, and what WeChat and Vault
// know of that.
type gameV2 struct {
	t       *testing.T
	sidecar string
	weChat  *simulator.Simulator
	vault   *countingProxy
}

func (g *gameV2) pay(billNo string, amount int) answer {
	g.t.Helper()
	return call(g.t, g.sidecar+"/wxa/game/pay", fmt.Sprintf(`{"openid":"%s","bill_no":"%s","amount":%d}`, player, billNo, amount))
}

// refund gives back a part of an order.
func (g *gameV2) refund(billNo, paid string, amount int) answer {
	g.t.Helper()
	return call(g.t, g.sidecar+"/wxa/game/cancelpay",
		fmt.Sprintf(`{"openid":"%s","bill_no":"%s","pay_bill_no":"%s","amount":%d}`, player, billNo, paid, amount))
}

func (g *gameV2) id(billNo string) simulator.OrderID {
	return simulator.OrderID{AppID: appID, Environment: wechat.Official, OpenID: player, ZoneID: "1", BillNo: billNo}
}

func (g *gameV2) order(billNo string) simulator.Order {
	order, _ := g.weChat.Order(g.id(billNo))
	return order
}

// requireBalance wants WeChat's books to say what the player is told.
func (g *gameV2) requireBalance(coins int64) {
	g.t.Helper()
	a := call(g.t, g.sidecar+"/wxa/game/getbalance", `{"openid":"`+player+`"}`)
	require.Equal(g.t, "applied", a.outcome, a.Errmsg)
	require.Equal(g.t, coins, a.Balance)
	require.Equal(g.t, coins, g.weChat.Purse(appID, player, wechat.Official).Balance)
}

func TestAV2PlayerPaysThroughALostAnswerAndANewSessionAndGetsPartsBack(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "secret", 2)
	v.putKeys(t)
	g := &gameV2{t: t, vault: v.counted(t)}
	weChat, weChatURL := simulated(t)
	g.weChat = weChat
	config, sidecar := production(t, v.role(t, nil, midasPaths...), g.vault.URL, weChatURL)
	g.sidecar = sidecar
	p := run(t, "run", "--config", config)
	p.waitFor(t, sidecar)

	a := g.pay("b1", 100)
	require.Equal(t, "applied", a.outcome, a.Errmsg)
	require.Equal(t, int64(9900), a.Balance)

	// The order is carried out, and its answer lost.
	require.NoError(t, weChat.Plan(simulator.Plan{Rules: []simulator.Rule{
		{Family: "v2", API: "pay", BillNo: "b2", Faults: []simulator.Fault{{Kind: "reset_body_after"}}},
	}}))
	a = g.pay("b2", 50)
	require.Equal(t, "already_applied", a.outcome, a.Errmsg)
	require.Equal(t, 90012, a.Errcode)
	require.Equal(t, 2, weChat.Attempts(wechat.PayV2, g.id("b2")))

	// The game server asks again, and WeChat is not asked.
	again := g.pay("b2", 50)
	require.Equal(t, a, again)
	require.Equal(t, 2, weChat.Attempts(wechat.PayV2, g.id("b2")))
	require.Equal(t, 1, g.order("b2").Applied)
	g.requireBalance(9850)

	// The player logs in anew: the session_key in the cache is no longer good, which
	// only WeChat can say.
	old := weChat.State().Apps[appID].Players[player].SessionKey
	_, err := weChat.Login(appID, player)
	require.NoError(t, err)
	session := weChat.State().Apps[appID].Players[player].SessionKey
	require.NotEqual(t, old, session)
	v.put(t, "secret", "midas/"+appID+"/sessions/"+player, map[string]any{"session_key": session})
	before := g.vault.calls.Load()
	a = g.pay("b3", 30)
	require.Equal(t, "applied", a.outcome, a.Errmsg)
	require.Equal(t, 2, weChat.Attempts(wechat.PayV2, g.id("b3")), "one with each session_key")
	require.Equal(t, before+1, g.vault.calls.Load(), "one read of the new one")
	g.requireBalance(9820)

	// Parts of the first order go back, but never more than was paid.
	require.Equal(t, "applied", g.refund("r1", "b1", 40).outcome)
	g.requireBalance(9860)
	require.Equal(t, "applied", g.refund("r2", "b1", 35).outcome)
	g.requireBalance(9895)
	a = g.refund("r3", "b1", 26)
	require.Equal(t, "rejected", a.outcome)
	require.Equal(t, 90018, a.Errcode, a.Errmsg)
	require.Equal(t, "applied", g.refund("r1", "b1", 40).outcome, "of old")
	g.requireBalance(9895)
	require.Equal(t, int64(75), g.order("b1").Refunded)
	require.Equal(t, "b1", g.order("r2").Of)
	require.Zero(t, g.order("r3"))

	require.NoError(t, p.interrupt(t))
	for _, secret := range []string{old, session, simulator.Demo().Apps[appID].MidasKey} {
		require.NotContains(t, p.output.String(), secret)
	}
}
