package payment

import (
	"container/list"
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"midas-sidecar/wechat"
)

// maxRemembered is how many orders are remembered; beyond it the one that was
// settled first is forgotten.
const maxRemembered = 100_000

// Memory knows the orders that are in flight and those that were answered a short
// while ago, so that one order is one order whoever says it how often. It is shared
// by all sites, and outlives a change of the config.
type Memory struct {
	mu      sync.Mutex
	orders  map[orderID]*remembered
	cancels map[orderID][]*remembered // those of orders, by what they take back
	settled list.List                 // of *remembered, as they were settled
}

// NewMemory returns a memory of nothing.
func NewMemory() *Memory {
	return &Memory{orders: make(map[orderID]*remembered), cancels: make(map[orderID][]*remembered)}
}

// orderID is what an order is remembered under.
type orderID struct {
	app    string
	env    wechat.Environment
	api    *wechat.API
	scope  string
	billNo string
}

func idOf(order wechat.Request) orderID {
	e := order.Endpoint()
	return orderID{order.AppID(), e.Environment, e.API, order.Scope(), order.BillNo()}
}

// cancelledBy returns the ID of what the order takes back, nil if it takes back nothing.
func cancelledBy(order wechat.Request) *orderID {
	api := order.Endpoint().API.Undoes()
	if api == nil {
		return nil
	}
	id := idOf(order).under(api)
	id.billNo = order.PayBillNo()
	return &id
}

// under returns the ID of what another API does under the same number.
func (id orderID) under(api *wechat.API) orderID {
	id.api = api
	return id
}

// remembered is one order.
type remembered struct {
	id          orderID
	takesBack   *orderID // nil if nothing
	amount      int64    // 0 for a cancel that gives back all there is
	fingerprint [sha256.Size]byte
	past        past
	// takingBack: we are cancelling the order ourselves, and its callers wait for
	// the end of that.
	takingBack bool

	// done is closed when answer is there.
	done   chan struct{}
	answer Answer
	forget time.Time
	place  *list.Element // in Memory.settled, nil while in flight
}

// past is what earlier calls were told about an order.
type past struct {
	doubt bool // it may have been carried out
	known bool // WeChat said that it was
}

func (r *remembered) inFlight() bool { return r.place == nil }

// stands tells whether the answer may be given again.
func (r *remembered) stands() bool {
	return r.answer.Outcome == Applied || r.answer.Outcome == AlreadyApplied || r.answer.Problem == TakenBack
}

// turn is what the memory says about a call.
type turn uint8

const (
	first    turn = iota // it is this call's to send the order
	shared               // the order is in flight: its answer is this call's too
	later                // the order is in flight and was cancelled meanwhile: ask again at its end
	again                // the order was settled: its answer is given again
	conflict             // the bill_no stands for another order
)

// begin finds out whose turn it is. For first, before is what earlier calls were
// told, and settle must be called at the end.
func (m *Memory) begin(order wechat.Request) (r *remembered, t turn, before past) {
	id, fingerprint := idOf(order), order.Fingerprint()
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.expire(now)

	if known := m.orders[id]; known != nil && (known.inFlight() || now.Before(known.forget)) {
		same, cancelled := known.fingerprint == fingerprint, m.cancelled(id)
		switch {
		case !same && (known.inFlight() || known.stands() || known.past.doubt):
			return known, conflict, past{}
		case known.inFlight() && cancelled && !known.takingBack:
			return known, later, past{}
		case known.inFlight():
			return known, shared, past{}
		case known.stands() && (!cancelled || known.answer.Problem == TakenBack):
			return known, again, past{}
		}
		before = known.past
	}
	m.drop(m.orders[id])
	r = &remembered{
		id: id, takesBack: cancelledBy(order), amount: order.Amount(), fingerprint: fingerprint, past: before, done: make(chan struct{}),
	}
	m.orders[id] = r
	if r.takesBack != nil {
		m.cancels[*r.takesBack] = append(m.cancels[*r.takesBack], r)
	}
	return r, first, before
}

// settle gives the order's answer to all who wait for it, and remembers it for a
// while if later calls depend on it.
func (m *Memory) settle(r *remembered, answer Answer, replay time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.answer = answer
	close(r.done)
	switch answer.Outcome {
	case Applied, AlreadyApplied, Duplicate:
		r.past = past{known: true}
	case Unknown:
		r.past.doubt = true
	case Rejected: // which is said only where nothing earlier speaks against it
		r.past = past{}
	case NotSent: // as before
	}
	if replay == 0 || !r.stands() && r.past == (past{}) {
		m.drop(r)
		return
	}
	r.forget = time.Now().Add(replay)
	r.place = m.settled.PushBack(r)
	for m.settled.Len() > maxRemembered {
		m.drop(m.settled.Front().Value.(*remembered))
	}
}

// takeBack notes that the order is being cancelled by ourselves.
func (m *Memory) takeBack(r *remembered) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.takingBack = true
}

// spent tells whether WeChat may know the number of an order for another reason than an
// attempt of ours that was lost, or has given back what that did: that it says so then
// proves nothing. A number is one for all APIs, so another one may have used it up; a
// cancel tells of its pay, which may be forgotten. Only v1's cancelpay has no number of
// its own: it names a pay's.
func (m *Memory) spent(id orderID) bool {
	if id.api == wechat.CancelPay {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(wechat.APIs, func(api *wechat.API) bool {
		return m.cancelled(id.under(api)) || api != id.api && m.orders[id.under(api)] != nil
	})
}

// returned tells whether an order of that many coins is known to be taken back, all of
// them.
func (m *Memory) returned(id orderID, amount int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	var sum int64
	for _, cancel := range m.cancels[id] {
		switch {
		case !cancel.gaveBack():
		case cancel.amount == 0:
			return true
		default:
			if sum += cancel.amount; sum >= amount {
				return true
			}
		}
	}
	return false
}

// gaveBack tells whether a cancel is known to have given back what it names. That the
// number of a refund is in use says nothing about its pay and amount.
func (r *remembered) gaveBack() bool {
	return !r.inFlight() && r.past == past{known: true} && (r.amount == 0 || r.answer.Outcome != Duplicate)
}

// cancelled tells whether an order has been cancelled, even in part, or may have been.
// Like expire and drop, it is called with mu held.
func (m *Memory) cancelled(id orderID) bool { return len(m.cancels[id]) > 0 }

// expire forgets what is old. Where replay was changed, some of it stays a little
// longer and is passed over.
func (m *Memory) expire(now time.Time) {
	for front := m.settled.Front(); front != nil; front = m.settled.Front() {
		r := front.Value.(*remembered)
		if now.Before(r.forget) {
			return
		}
		m.drop(r)
	}
}

func (m *Memory) drop(r *remembered) {
	if r == nil {
		return
	}
	if r.place != nil {
		m.settled.Remove(r.place)
	}
	delete(m.orders, r.id)
	if r.takesBack == nil {
		return
	}
	others := slices.DeleteFunc(m.cancels[*r.takesBack], func(c *remembered) bool { return c == r })
	if m.cancels[*r.takesBack] = others; len(others) == 0 {
		delete(m.cancels, *r.takesBack)
	}
}
