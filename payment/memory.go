package payment

import (
	"container/list"
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
	mu      sync.Mutex
	orders  map[orderID]*remembered
	settled list.List // of *remembered: the next to be forgotten first
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
	past        past
	// before is past as it was when the order's turn came: a cancel may write to past
	// while the order is in flight.
	before past
	// done is closed when answer is there.
	done   chan struct{}
	answer Answer
	// cancelled: a cancel of this order has been sent since. What its answer said
	// may no longer be true.
	cancelled bool

	forget time.Time
	place  *list.Element // in Memory.settled, nil while in flight
}

// past is what earlier calls mean for one that is sent now.
type past struct {
	// doubt: an earlier call may have carried out this very order.
	doubt bool
	// used: WeChat knew the bill_no before, from an order that was cancelled since
	// or that we know nothing of. That it knows it now proves nothing.
	used bool
}

// NewMemory returns a memory of nothing.
func NewMemory() *Memory {
	return &Memory{orders: make(map[orderID]*remembered)}
}

// turn is what the memory says about a call.
type turn uint8

const (
	first    turn = iota // it is this call's to send the order
	shared               // the order is in flight: its answer is this call's too
	later                // the order is in flight, and being cancelled: begin again at its end
	again                // the order was carried out: its answer is given again
	conflict             // the bill_no stands for another order
)

// begin finds out whose turn it is. For first, settle must be called at the end.
func (m *Memory) begin(order wechat.Request) (*remembered, turn) {
	id, fingerprint := idOf(order), order.Fingerprint()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire(time.Now())

	r := &remembered{id: id, fingerprint: fingerprint, done: make(chan struct{})}
	if known := m.orders[id]; known != nil {
		same, cancelled := known.fingerprint == fingerprint, known.cancelled || m.cancelling(id)
		switch {
		case known.inFlight() && !same, known.stands() && !same, known.past.doubt && !same:
			return known, conflict
		case known.inFlight() && cancelled:
			return known, later
		case known.inFlight():
			return known, shared
		case known.stands() && !cancelled:
			return known, again
		}
		r.past = known.past
		r.past.used = r.past.used || cancelled
		m.drop(known)
	}
	r.before = r.past
	m.orders[id] = r
	return r, first
}

func (r *remembered) inFlight() bool { return r.place == nil }

// stands tells whether the answer can be given again.
func (r *remembered) stands() bool {
	return !r.cancelled && (r.answer.Outcome == Applied || r.answer.Outcome == AlreadyApplied)
}

// settle gives the order's answer to all who wait for it, and remembers it for a
// while if there is something to remember.
func (m *Memory) settle(r *remembered, answer Answer, replay time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.answer = answer
	close(r.done)
	if r.id.api == wechat.CancelPay && answer.Outcome != Rejected && answer.Outcome != NotSent {
		m.cancel(r.id)
	}
	r.learn()
	if replay == 0 || !r.stands() && r.past == (past{}) {
		delete(m.orders, r.id)
		return
	}
	r.forget = time.Now().Add(replay)
	r.place = m.settled.PushBack(r)
	for m.settled.Len() > maxRemembered {
		m.drop(m.settled.Front().Value.(*remembered))
	}
}

// learn draws from the answer what it means for later calls.
func (r *remembered) learn() {
	switch r.answer.Outcome {
	case Unknown:
		r.past.doubt = true
	case NotSent: // as before
	default:
		r.past.doubt = false
	}
	if r.answer.Outcome == Duplicate || r.cancelled {
		r.past.used = true
	}
}

// cancelling tells whether a cancel of the order is in flight.
func (m *Memory) cancelling(id orderID) bool {
	id.api = wechat.CancelPay
	r := m.orders[id]
	return r != nil && r.inFlight()
}

// cancel says of the pay with this bill_no that it may have been taken back: where
// its coins are is for WeChat to say now.
func (m *Memory) cancel(id orderID) {
	id.api = wechat.Pay
	if r := m.orders[id]; r != nil {
		r.cancelled = true
		r.past.used = true
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
