package simulator

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"midas-sidecar/internal/wechat"
)

// maxCoins is the largest integer that every reader of JSON keeps exact, 2^53-1.
// WeChat documents no maximum.
const maxCoins = 1<<53 - 1

// check returns the first thing in the state that cannot be, by its place:
// "apps/wx1234567/offer_id: is missing".
func (s State) check() error {
	offers := make(map[string]string)
	for _, appid := range slices.Sorted(maps.Keys(s.Apps)) {
		app := s.Apps[appid]
		if appid == "" || strings.Contains(appid, "/") {
			return fmt.Errorf("apps/%s: is no appid", appid)
		}
		if err := app.check("apps/" + appid); err != nil {
			return err
		}
		if other, taken := offers[app.OfferID]; taken {
			return fmt.Errorf("apps/%s/offer_id: is the one of %s, too", appid, other)
		}
		offers[app.OfferID] = appid
	}
	taken := make(map[*Purse]Purse)
	for _, id := range slices.SortedFunc(maps.Keys(s.Orders), OrderID.compare) {
		if err := s.checkOrder(id, taken); err != nil {
			return err
		}
	}
	owners := make(map[string]string)
	for _, appid := range slices.Sorted(maps.Keys(s.Tokens)) {
		if err := s.checkTokens(appid, owners); err != nil {
			return err
		}
	}
	return nil
}

func (a *App) check(at string) error {
	if a == nil {
		return fmt.Errorf("%s: must be an object", at)
	}
	for _, field := range []struct{ name, value string }{
		{"offer_id", a.OfferID},
		{"secret", a.Secret},
		{"midas_key", a.MidasKey},
		{"midas_key_sandbox", a.MidasKeySandbox},
	} {
		if field.value == "" {
			return fmt.Errorf("%s/%s: is missing", at, field.name)
		}
	}
	for _, openid := range slices.Sorted(maps.Keys(a.Players)) {
		at := at + "/players/" + openid
		player := a.Players[openid]
		if player == nil {
			return fmt.Errorf("%s: must be an object", at)
		}
		if err := player.Official.check(at + "/official"); err != nil {
			return err
		}
		if err := player.Sandbox.check(at + "/sandbox"); err != nil {
			return err
		}
	}
	return nil
}

func (p Purse) check(at string) error {
	switch {
	case p.Balance < 0 || p.Balance > maxCoins:
		return fmt.Errorf("%s/balance: must be from 0 to %d", at, maxCoins)
	case p.CostSum < 0 || p.CostSum > maxCoins-p.Balance:
		return fmt.Errorf("%s/cost_sum: must be from 0 to %d, balance included", at, maxCoins)
	case p.GenBalance < 0 || p.GenBalance > p.Balance:
		return fmt.Errorf("%s/gen_balance: must be from 0 to balance, which includes it", at)
	case p.GenCostSum < 0 || p.GenCostSum > p.CostSum:
		return fmt.Errorf("%s/gen_cost_sum: must be from 0 to cost_sum, which includes it", at)
	}
	return nil
}

// checkOrder checks an order. taken adds up what the orders seen so far took: to
// give it all back must never leave a purse that cannot be.
func (s State) checkOrder(id OrderID, taken map[*Purse]Purse) error {
	at, order := "orders/"+id.String(), s.Orders[id]
	switch {
	case order == nil:
		return fmt.Errorf("%s: must be an object", at)
	case id.Environment != wechat.Official && id.Environment != wechat.Sandbox:
		return fmt.Errorf("%s: its environment must be official or sandbox", at)
	case !id.isV2() && order.API != wechat.Pay.Name && order.API != wechat.Present.Name:
		return fmt.Errorf("%s/api: must be pay or present", at)
	case id.isV2() && order.API != wechat.PayV2.Name && order.API != wechat.PresentV2.Name && order.API != wechat.CancelPayV2.Name:
		return fmt.Errorf("%s/api: must be pay, present or cancelpay", at)
	case id.isV2() && order.OpenID != id.OpenID:
		return fmt.Errorf("%s/openid: is not the one of the order's name", at)
	case s.player(id.AppID, order.OpenID) == nil:
		return fmt.Errorf("%s/openid: is no player of the app", at)
	case order.Amount < 1 || order.Amount > maxCoins:
		return fmt.Errorf("%s/amount: must be from 1 to %d", at, maxCoins)
	case order.Gen < 0 || order.Gen > order.Amount:
		return fmt.Errorf("%s/gen: must be from 0 to amount, which includes it", at)
	case order.Time.IsZero():
		return fmt.Errorf("%s/time: is missing", at)
	case order.Applied < 1:
		return fmt.Errorf("%s/applied: must be at least 1", at)
	case order.Returned && order.API != wechat.Pay.Name:
		return fmt.Errorf("%s/returned: only a pay can be", at)
	case order.Refunded != 0 && order.API != wechat.Pay.Name:
		return fmt.Errorf("%s/refunded: only a pay can be", at)
	case order.Refunded < 0 || order.Refunded > order.Amount:
		return fmt.Errorf("%s/refunded: must be from 0 to amount", at)
	case order.Returned != (order.Refunded == order.Amount):
		return fmt.Errorf("%s/returned: must be true where refunded is amount, and only there", at)
	case (order.Of != "") != (order.API == wechat.CancelPayV2.Name):
		return fmt.Errorf("%s/of: must name the pay of a cancelpay, and nothing else", at)
	}
	if order.API != wechat.Pay.Name || order.Returned {
		return nil
	}
	purse := s.player(id.AppID, order.OpenID).purse(id.Environment)
	sum := taken[purse]
	sum.CostSum += order.Amount - order.Refunded
	sum.GenCostSum += order.genLeft()
	taken[purse] = sum
	if sum.GenCostSum > purse.GenCostSum || sum.CostSum-sum.GenCostSum > purse.CostSum-purse.GenCostSum {
		return fmt.Errorf("%s/amount: is more than the player has spent by cost_sum and gen_cost_sum", at)
	}
	return nil
}

// checkTokens checks an app's tokens. owners holds the tokens seen so far: one
// token cannot be two apps'.
func (s State) checkTokens(appid string, owners map[string]string) error {
	at, tokens := "tokens/"+appid, s.Tokens[appid]
	switch {
	case s.Apps[appid] == nil:
		return fmt.Errorf("%s: is no app", at)
	case tokens == nil:
		return fmt.Errorf("%s: must be an object", at)
	case tokens.ForcedToday < 0:
		return fmt.Errorf("%s/forced_today: must not be negative", at)
	}
	for i, token := range tokens.all() {
		list, at := "issued", at
		if i >= len(tokens.Issued) {
			list, i = "plain", i-len(tokens.Issued)
		}
		at = fmt.Sprintf("%s/%s/%d", at, list, i)
		switch {
		case token == nil:
			return fmt.Errorf("%s: must be an object", at)
		case token.AccessToken == "":
			return fmt.Errorf("%s/access_token: is missing", at)
		case token.Expires.IsZero():
			return fmt.Errorf("%s/expires: is missing", at)
		case owners[token.AccessToken] != "":
			return fmt.Errorf("%s/access_token: stands in tokens/%s, too", at, owners[token.AccessToken])
		}
		owners[token.AccessToken] = appid
	}
	return nil
}

func (id OrderID) compare(other OrderID) int {
	return strings.Compare(id.String(), other.String())
}
