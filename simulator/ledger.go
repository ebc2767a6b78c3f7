package simulator

import (
	"fmt"
	"time"

	"midas-sidecar/wechat"
)

// validity is how long a bill_no protects from a second deduction, and how long
// its pay can be cancelled.
// https://developers.weixin.qq.com/minigame/en/dev/api-backend/midas-payment/midas.pay.html
const validity = 48 * time.Hour

// apply carries out a call that has been admitted.
func (s *Simulator) apply(c call) *reply {
	player := s.state.player(c.get("appid"), c.get("openid"))
	if player == nil { // gone between its admission and a fault that applies late
		return refuse(90010, "no session", "the player is gone since")
	}
	purse := player.purse(c.endpoint.Environment)
	switch c.endpoint.API {
	case wechat.Pay:
		return s.pay(c, purse)
	case wechat.CancelPay:
		return s.cancelPay(c, purse)
	case wechat.Present:
		return s.present(c, purse)
	default:
		return getBalance(purse)
	}
}

func (s *Simulator) pay(c call, purse *Purse) *reply {
	amt := c.integer("amt")
	duplicate, short := s.orderExists(c), amt > purse.Balance
	switch {
	case short && (s.options.BalanceFirst || c.balanceFirst || duplicate == nil):
		return refuse(90013, "balance not enough", fmt.Sprintf("amt is %d and the balance %d", amt, purse.Balance))
	case duplicate != nil:
		return duplicate
	}
	// Gift coins first: the pages do not say which, and so used_gen_amt shows.
	gen := min(amt, purse.GenBalance)
	purse.spend(amt, gen)
	s.enter(c, amt, gen)
	return done(members{
		{"bill_no", c.get("bill_no")},
		{"balance", purse.Balance},
		{"used_gen_amt", gen},
	}, fmt.Sprintf("%d coins taken, %d left", amt, purse.Balance))
}

func (s *Simulator) cancelPay(c call, purse *Purse) *reply {
	order := s.state.Orders[c.orderID()]
	switch {
	case order == nil:
		return refuse(90000, "order not exist", "nothing was paid with this bill_no in this environment")
	case order.API != wechat.Pay.Name:
		return refuse(90000, "order not exist", "this bill_no is a present: only a pay can be cancelled")
	case order.OpenID != c.get("openid"):
		return refuse(90000, "order not exist", "another player paid with this bill_no")
	case order.Returned:
		return refuse(90015, "order already returned", "an earlier cancelpay gave the coins back")
	case !s.valid(order):
		return refuse(90014, "order confirmed, can not cancel", "the order is older than 48 hours")
	}
	purse.spend(-order.Amount, -order.Gen)
	order.Returned = true
	return done(members{{"bill_no", c.get("bill_no")}},
		fmt.Sprintf("%d coins given back, %d now", order.Amount, purse.Balance))
}

func (s *Simulator) present(c call, purse *Purse) *reply {
	if duplicate := s.orderExists(c); duplicate != nil {
		return duplicate
	}
	count := c.integer("present_counts")
	if count > maxCoins-purse.saveSum() {
		return badParameter("present_counts", fmt.Sprintf("a player can have been given at most %d coins in all", maxCoins))
	}
	purse.Balance += count
	purse.GenBalance += count
	s.enter(c, count, 0)
	return done(members{{"balance", purse.Balance}, {"bill_no", c.get("bill_no")}},
		fmt.Sprintf("%d coins given, %d now", count, purse.Balance))
}

func getBalance(purse *Purse) *reply {
	return done(members{
		{"balance", purse.Balance},
		{"gen_balance", purse.GenBalance},
		{"first_save", purse.firstSave()},
		{"save_amt", purse.saveSum() - purse.presentSum()},
		{"save_sum", purse.saveSum()},
		{"cost_sum", purse.CostSum},
		{"present_sum", purse.presentSum()},
	}, fmt.Sprintf("%d coins", purse.Balance))
}

// done answers a call that was carried out.
func done(body members, why string) *reply {
	return ok(append(members{{"errcode", 0}, {"errmsg", "ok"}}, body...), why)
}

func (c call) orderID() OrderID {
	return OrderID{c.get("appid"), c.endpoint.Environment, c.get("bill_no")}
}

// valid tells whether the 48 hours of an order are still running.
func (s *Simulator) valid(order *Order) bool {
	return s.options.Now().Before(order.Time.Add(validity))
}

// orderExists refuses a bill_no that is in use. It says nothing about the amount:
// WeChat knows the order by its number alone.
func (s *Simulator) orderExists(c call) *reply {
	order := s.state.Orders[c.orderID()]
	if order == nil || !s.valid(order) {
		return nil
	}
	why := fmt.Sprintf("this bill_no was a %s of %d coins", order.API, order.Amount)
	if order.OpenID != c.get("openid") {
		why += " for another player"
	}
	return refuse(90012, "order already exists", why)
}

// enter notes that the call's order was carried out.
func (s *Simulator) enter(c call, amount, gen int64) {
	id := c.orderID()
	applied := 1
	if earlier := s.state.Orders[id]; earlier != nil {
		applied += earlier.Applied
	}
	if s.state.Orders == nil {
		s.state.Orders = make(map[OrderID]*Order)
	}
	s.state.Orders[id] = &Order{
		API:     c.endpoint.API.Name,
		OpenID:  c.get("openid"),
		Amount:  amount,
		Gen:     gen,
		Time:    s.options.Now().UTC(),
		Applied: applied,
	}
}

// spend takes coins, gen of them gift coins. Negative numbers give them back.
func (p *Purse) spend(amount, gen int64) {
	p.Balance -= amount
	p.GenBalance -= gen
	p.CostSum += amount
	p.GenCostSum += gen
}

// saveSum is how many coins there ever were: what is left and what was spent.
func (p *Purse) saveSum() int64 { return p.Balance + p.CostSum }

// presentSum is how many of those were gifts.
func (p *Purse) presentSum() int64 { return p.GenBalance + p.GenCostSum }

// firstSave is 1 while the player has bought no coins. The page types it boolean;
// real answers carry a number.
func (p *Purse) firstSave() int {
	if p.saveSum() == p.presentSum() {
		return 1
	}
	return 0
}
