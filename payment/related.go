package payment

import (
	"crypto/sha256"
	"iter"
	"slices"
	"time"

	"midas-sidecar/wechat"
)

// How orders touch each other: one takes back another, or has the same number.

// name is what an order is remembered under.
type name struct {
	api    *wechat.API
	number digest // its bill_no, and all that WeChat knows numbers by
}

// nameOf returns the name of an order.
func nameOf(order wechat.Request) name { return named(order, order.Endpoint().API, order.BillNo()) }

// idOf returns the ID of an order.
func idOf(order wechat.Request) digest { return nameOf(order).id() }

// named is nameOf for an order that goes to the same place and is of that API and number.
func named(order wechat.Request, api *wechat.API, billNo string) name {
	var room [256]byte
	text := room[:0]
	for _, part := range [...]string{
		order.AppID(), string(order.Endpoint().Environment), api.Family.Name, order.Scope(), billNo,
	} {
		text = append(text, part...)
		text = append(text, 0) // in no part: Decode refuses control characters
	}
	sum := sha256.Sum256(text)
	return name{api, digest(sum[:])}
}

// id tells the APIs of a number apart.
func (n name) id() digest {
	id := n.number
	id[0] ^= byte(1 + slices.Index(wechat.APIs, n.api)) //nolint:gosec // they are few
	return id
}

// others are the same number under the other APIs: a number is one for all of them. Only
// v1's cancelpay has none of its own: it names a pay's.
func (n name) others() iter.Seq[digest] {
	return func(yield func(digest) bool) {
		for _, api := range wechat.APIs {
			shares := api.Moves && api.Family == n.api.Family && api != n.api
			if shares && api != wechat.CancelPay && n.api != wechat.CancelPay && !yield(name{api, n.number}.id()) {
				return
			}
		}
	}
}

// undoing is what an order takes back.
type undoing struct {
	name
	id     digest
	amount int64 // 0 for all there is
}

// undoingOf returns what the order takes back, nil if it takes back nothing.
func undoingOf(order wechat.Request) *undoing {
	api := order.Endpoint().API.Undoes()
	if api == nil {
		return nil
	}
	pay := named(order, api, order.PayBillNo())
	return &undoing{pay, pay.id(), order.Amount()}
}

// join notes that a pay and its cancel are in flight at once: what WeChat says of one may
// have come before what it did for the other. Like all that follow but spent, mayLand and
// returned, it is called with mu held.
func (m *Memory) join(f *flight) {
	for _, cancel := range m.cancelling[f.id] {
		cancel.stale, f.stale = true, true
	}
	if f.undoes == nil {
		return
	}
	m.cancelling[f.undoes.id] = append(m.cancelling[f.undoes.id], f)
	if pay := m.flights[f.undoes.id]; pay != nil {
		pay.stale, f.stale = true, true
	}
	m.settled.edit(f.undoes.id, func(pay *record) { f.stale = f.stale || pay.past.doubt }) // it may land yet
}

// leave notes what the end of an order means for others. That one may be taken back is
// remembered at least until the time given.
func (m *Memory) leave(f *flight, forget time.Duration) {
	mayBeDone := f.past.known || f.past.doubt
	if mayBeDone || f.past.cancelled {
		m.spend(f.name)
	}
	if f.undoes == nil {
		return
	}
	pay := f.undoes.id
	m.cancelling[pay] = slices.DeleteFunc(m.cancelling[pay], func(c *flight) bool { return c == f })
	if len(m.cancelling[pay]) == 0 {
		delete(m.cancelling, pay)
	}
	if !mayBeDone {
		return
	}
	m.spend(f.undoes.name)
	m.cancel(pay, f.past.doubt, forget)
	if f.gaveBack() {
		if m.givenBack[pay] == nil {
			m.givenBack[pay] = make(map[digest]int64)
		}
		m.givenBack[pay][f.id] = f.undoes.amount
	}
}

// spend notes that a number may be in use, with the orders that other APIs know by it.
func (m *Memory) spend(used name) {
	for id := range used.others() {
		if f := m.flights[id]; f != nil {
			f.past.spent = true
		} else {
			m.settled.edit(id, func(r *record) { r.past.spent = true })
		}
	}
}

// cancel notes that an order may have been taken back, or may be yet where that is in
// doubt, whether the order is known otherwise or not.
func (m *Memory) cancel(id digest, doubt bool, forget time.Duration) {
	if f := m.flights[id]; f != nil {
		f.past.cancel(doubt)
		f.forget = max(f.forget, forget)
		return
	}
	known, _ := m.settled.get(id)
	known.past.cancel(doubt)
	known.forget = max(known.forget, forget)
	m.settled.drop(id)
	m.remember(id, known)
}

func (p *past) cancel(doubt bool) {
	p.cancelled, p.haunted = true, p.haunted || doubt
}

// gaveBack tells whether a cancel that was settled is known to have given back what it
// names. That the number of a refund is in use says nothing about its pay and amount.
func (f *flight) gaveBack() bool {
	return f.answer.stands() || f.api == wechat.CancelPay && f.answer.Outcome == Duplicate
}

// isSpent tells whether an order of another API is remembered under the number.
func (m *Memory) isSpent(n name) bool {
	for id := range n.others() {
		if m.settled.has(id) {
			return true
		}
	}
	return false
}

// spent tells whether WeChat may know the number of an order in flight for another reason
// than an attempt of ours that was lost, or has given back what that did: that it says so
// then proves nothing.
func (m *Memory) spent(order wechat.Request) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := nameOf(order)
	f := m.flights[n.id()]
	if f.past.spent || f.past.cancelled || len(m.cancelling[f.id]) > 0 {
		return true
	}
	for id := range n.others() {
		if m.flights[id] != nil || len(m.cancelling[id]) > 0 {
			return true
		}
	}
	return m.isSpent(n)
}

// mayLand tells whether an order that is taken back may be sent again, and whether it may
// be carried out without that.
func (m *Memory) mayLand(id digest) (inFlight, inDoubt bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if pay := m.flights[id]; pay != nil {
		return !pay.takingBack, pay.takingBack
	}
	m.settled.edit(id, func(pay *record) { inDoubt = pay.past.doubt })
	return false, inDoubt
}

// returned tells whether an order of that many coins is known to be taken back, all of
// them.
func (m *Memory) returned(id digest, amount int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.givenBack[id] {
		if c == 0 || c >= amount {
			return true
		}
		amount -= c
	}
	return false
}
