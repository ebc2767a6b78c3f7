package payment

import (
	"container/list"
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"midas-sidecar/wechat"
)

// maxRemembered is how many orders are remembered; beyond it the oldest that is
// settled is forgotten.
const maxRemembered = 100_000

// Memory knows the orders that are in flight and those that were answered a short
// while ago, so that one order is one order whoever says it how often. It is shared
// by all sites, and outlives a change of the config.
type Memory struct {
	mu       sync.Mutex
	orders   map[orderID]*remembered
	settled  list.List // of *remembered: the next to be forgotten first
	inFlight int
	idle     chan struct{} // closed while nothing is in flight
}

// orderID is what a bill_no is unique within.
type orderID struct {
	app    string
	env    wechat.Environment
	api    *wechat.API
	billNo string
}

func idOf(order wechat.Request) orderID {
	e := order.Endpoint()
	return orderID{order.AppID(), e.Environment, e.API, order.BillNo()}
}

// remembered is one order.
type remembered struct {
	id          orderID
	fingerprint [sha256.Size]byte
	// done is closed when answer is there.
	done   chan struct{}
	answer Answer
	// void: a cancel of this order has been sent since. What its answer said is
	// no longer true.
	void bool

	forget time.Time
	place  *list.Element // in Memory.settled, nil while in flight
}

// NewMemory returns a memory of nothing.
func NewMemory() *Memory {
	m := &Memory{orders: make(map[orderID]*remembered), idle: make(chan struct{})}
	close(m.idle)
	return m
}

// turn is what the memory says about a call.
type turn uint8

const (
	first    turn = iota // it is this call's to send the order
	shared               // the order is in flight: its answer is this call's too
	again                // the order was carried out: its answer is given again
	conflict             // the bill_no stands for another order
)

// begin finds out whose turn it is. For first, doubt tells that an earlier call may
// have carried out the order; settle must be called at its end.
func (m *Memory) begin(order wechat.Request) (r *remembered, t turn, doubt bool) {
	id, fingerprint := idOf(order), order.Fingerprint()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire(time.Now())

	known := m.orders[id]
	if known != nil {
		switch inFlight := known.place == nil; {
		case known.fingerprint != fingerprint:
			return known, conflict, false
		case inFlight:
			return known, shared, false
		case known.answer.Outcome != Unknown:
			return known, again, false
		}
		doubt = true
		m.drop(known)
	}
	r = &remembered{id: id, fingerprint: fingerprint, done: make(chan struct{})}
	m.orders[id] = r
	if m.inFlight++; m.inFlight == 1 {
		m.idle = make(chan struct{})
	}
	return r, first, doubt
}

// settle gives the order's answer to all who wait for it, and remembers it for a
// while if there is something to remember.
func (m *Memory) settle(r *remembered, answer Answer, replay time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.answer = answer
	close(r.done)
	if m.inFlight--; m.inFlight == 0 {
		close(m.idle)
	}
	if r.id.api == wechat.CancelPay && answer.Outcome != Rejected && answer.Outcome != NotSent {
		m.cancelled(r.id)
	}
	if r.void || replay == 0 || !worthKeeping(answer.Outcome) {
		delete(m.orders, r.id)
		return
	}
	r.forget = time.Now().Add(replay)
	r.place = m.settled.PushBack(r)
	for m.settled.Len() > maxRemembered {
		m.drop(m.settled.Front().Value.(*remembered))
	}
}

// worthKeeping tells whether a later call with the same bill_no depends on the
// outcome. What was refused, not sent or already somebody else's is sent again
// whatever it says.
func worthKeeping(o Outcome) bool { return o == Applied || o == AlreadyApplied || o == Unknown }

// cancelled makes the memory of the pay and present with this bill_no void: whether
// the coins are where their answers said is for WeChat to say now.
func (m *Memory) cancelled(id orderID) {
	for _, api := range []*wechat.API{wechat.Pay, wechat.Present} {
		id.api = api
		switch r := m.orders[id]; {
		case r == nil:
		case r.place == nil:
			r.void = true
		default:
			m.drop(r)
		}
	}
}

// expire forgets what is old. All orders are remembered equally long, so that the
// first to be settled is the first to go.
func (m *Memory) expire(now time.Time) {
	for front := m.settled.Front(); front != nil && !now.Before(front.Value.(*remembered).forget); front = m.settled.Front() {
		m.drop(front.Value.(*remembered))
	}
}

func (m *Memory) drop(r *remembered) {
	m.settled.Remove(r.place)
	delete(m.orders, r.id)
}

// InFlight returns how many orders are being followed.
func (m *Memory) InFlight() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.inFlight
}

// Wait returns when no order is in flight, or ctx ends.
func (m *Memory) Wait(ctx context.Context) {
	m.mu.Lock()
	idle := m.idle
	m.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}
