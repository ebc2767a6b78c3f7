package simulator

import (
	"fmt"
	"time"

	"midas-sidecar/internal/wechat"
)

// validity is how long a bill_no protects from a second deduction, and how long
// its pay can be cancelled.
// https://developers.weixin.qq.com/minigame/en/dev/api-backend/midas-payment/midas.pay.html
const validity = 48 * time.Hour

// apply carries out a call that has been admitted.
func (s *Simulator) apply(c call) *reply {
	player := s.state.player(c.appid, c.get("openid"))
	if player == nil { // gone between its admission and a fault that applies late
		return refuse(90010, "no session", "the player is gone since")
	}
	purse := player.purse(c.endpoint.Environment)
	switch c.endpoint.API {
	case wechat.Pay, wechat.PayV2:
		return s.pay(c, purse)
	case wechat.CancelPay:
		return s.cancelPay(c, purse)
	case wechat.CancelPayV2:
		return s.refund(c, purse)
	case wechat.Present, wechat.PresentV2:
		return s.present(c, purse)
	case wechat.QueryOrderInfo:
		return s.queryOrder(c)
	case wechat.GetBalanceV2:
		return getBalanceV2(c, purse)
	default:
		return getBalance(purse)
	}
}

// amount returns the name and value of the field that says how many coins.
func (c call) amount() (name string, coins int64) {
	name = map[*wechat.API]string{wechat.Pay: "amt", wechat.Present: "present_counts"}[c.endpoint.API]
	if c.isV2() {
		name = "amount"
	}
	return name, c.integer(name)
}

func (s *Simulator) pay(c call, purse *Purse) *reply {
	name, amount := c.amount()
	duplicate, short := s.orderExists(c), amount > purse.Balance
	switch {
	case short && (s.options.BalanceFirst || c.balanceFirst || duplicate == nil):
		return refuse(90013, "balance not enough", fmt.Sprintf("%s is %d and the balance %d", name, amount, purse.Balance))
	case duplicate != nil:
		return duplicate
	}
	// Gift coins first: the pages do not say which, and so used_gen_amt shows.
	gen := min(amount, purse.GenBalance)
	purse.spend(amount, gen)
	s.enter(c, Order{Amount: amount, Gen: gen})
	used := "used_gen_amt"
	if c.isV2() {
		used = "used_present_amount"
	}
	return done(members{
		{"bill_no", c.get("bill_no")},
		{"balance", purse.Balance},
		{used, gen},
	}, fmt.Sprintf("%d coins taken, %d left", amount, purse.Balance))
}

// cancelPay gives a whole order back.
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
	purse.spend(-order.Amount, -order.giveBack(order.Amount))
	return done(members{{"bill_no", c.get("bill_no")}},
		fmt.Sprintf("%d coins given back, %d now", order.Amount, purse.Balance))
}

// refund is v2's cancelpay: it gives a part of an order back, as often as there is
// something left, and is an order itself, under a bill_no of its own. v2 has no code for
// an order that is too old; to us it is then one that nobody knows.
func (s *Simulator) refund(c call, purse *Purse) *reply {
	if duplicate := s.orderExists(c); duplicate != nil {
		return duplicate
	}
	order := s.state.Orders[c.orderCalled("pay_bill_no")]
	_, amount := c.amount()
	switch {
	case order == nil:
		return refuse(90000, "order not exist", "this player paid nothing with this pay_bill_no in this zone and environment")
	case order.API != wechat.Pay.Name:
		return refuse(90000, "order not exist", "this pay_bill_no is a "+order.API+": only a pay can be given back")
	case !s.valid(order):
		return refuse(90000, "order not exist", "the order is older than 48 hours")
	case amount > order.Amount-order.Refunded:
		refusal := badParameter("amount", "must be at most what was paid and is not yet given back")
		refusal.why = fmt.Sprintf("%d coins were paid and %d given back", order.Amount, order.Refunded)
		return refusal
	}
	gen := order.giveBack(amount)
	purse.spend(-amount, -gen)
	s.enter(c, Order{Amount: amount, Gen: gen, Of: c.get("pay_bill_no")})
	return done(members{
		{"bill_no", c.get("bill_no")},
		{"balance", purse.Balance},
		{"used_present_amount", gen},
	}, fmt.Sprintf("%d coins given back, %d now", amount, purse.Balance))
}

func (s *Simulator) present(c call, purse *Purse) *reply {
	if duplicate := s.orderExists(c); duplicate != nil {
		return duplicate
	}
	name, count := c.amount()
	if count > maxCoins-purse.saveSum() {
		return badParameter(name, fmt.Sprintf("a player can have been given at most %d coins in all", maxCoins))
	}
	purse.Balance += count
	purse.GenBalance += count
	s.enter(c, Order{Amount: count})
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

// getBalanceV2 knows of a recharge centre, in which no player has anything.
func getBalanceV2(c call, purse *Purse) *reply {
	if c.get("coin_type") == "1" {
		if c.get("zone_id") != "1" {
			return badParameter("zone_id", "must be 1 for the recharge centre, coin_type 1")
		}
		purse = &Purse{}
	}
	return done(members{
		{"balance", purse.Balance},
		{"present_balance", purse.GenBalance},
		{"sum_save", purse.saveSum() - purse.presentSum()},
		{"sum_present", purse.presentSum()},
		{"sum_balance", purse.saveSum()},
		{"sum_cost", purse.CostSum},
		{"first_save", purse.firstSave() == 1},
	}, fmt.Sprintf("%d coins", purse.Balance))
}

// queryOrder tells of a pay what the page tells of a purchase of coins, for the
// simulator sells none: state 2 is "paid" and "delivered". There are no goods.
// https://developers.weixin.qq.com/minigame/dev/api-backend/midas-payment/order/api_pay_v2.queryorder.html
func (s *Simulator) queryOrder(c call) *reply {
	order := s.state.Orders[c.orderCalled("out_trade_no")]
	const coins = "1"
	if c.get("biz_id") != coins || order == nil || order.API != wechat.Pay.Name {
		return refuse(90019, "out_trade_no not found", "this player paid nothing with such a bill_no in this zone and environment")
	}
	return done(members{
		{"product_id", ""},
		{"pay_state", 2},
		{"deliver_state", 2},
		{"pay_finish_time", order.Time.Unix()},
		{"out_trade_no", c.get("out_trade_no")},
		{"mch_order_no", ""},
		{"transaction_id", ""},
	}, "paid "+order.Time.Format(time.RFC3339))
}

// done answers a call that was carried out.
func done(body members, why string) *reply {
	return ok(append(members{{"errcode", 0}, {"errmsg", "ok"}}, body...), why)
}

func (c call) orderID() OrderID { return c.orderCalled("bill_no") }

// orderCalled returns the order of the call's player that a field names.
func (c call) orderCalled(field string) OrderID {
	described := c.describe()
	described.BillNo = c.get(field)
	return described.orderID()
}

// valid reports whether the 48 hours of an order are still running.
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
func (s *Simulator) enter(c call, order Order) {
	id := c.orderID()
	order.API, order.OpenID = c.endpoint.API.Name, c.get("openid")
	order.Time = s.options.Now().UTC()
	order.Applied = 1
	if earlier := s.state.Orders[id]; earlier != nil {
		order.Applied += earlier.Applied
	}
	if s.state.Orders == nil {
		s.state.Orders = make(map[OrderID]*Order)
	}
	s.state.Orders[id] = &order
}

// giveBack notes that coins of a pay go back, and returns how many of them are gifts.
// What was spent first comes back last.
func (o *Order) giveBack(coins int64) (gen int64) {
	before := o.genLeft()
	o.Refunded += coins
	o.Returned = o.Refunded == o.Amount
	return before - o.genLeft()
}

// genLeft is how many gift coins a pay has taken and not given back.
func (o *Order) genLeft() int64 { return min(o.Gen, o.Amount-o.Refunded) }

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
