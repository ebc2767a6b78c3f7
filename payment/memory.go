package payment

import (
	"crypto/sha256"
	"math"
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
	start time.Time // what times are counted from

	mu      sync.Mutex
	flights map[digest]*flight // an order is here or in settled, if it is known
	settled records
	// Few orders are cancels. What is known of those alone is kept here.
	cancels   map[digest][]cancel // by what they take back
	takesBack map[digest]digest   // the other way round
}

// NewMemory returns a memory of nothing.
func NewMemory() *Memory {
	return &Memory{
		start:     time.Now(),
		flights:   make(map[digest]*flight),
		settled:   newRecords(),
		cancels:   make(map[digest][]cancel),
		takesBack: make(map[digest]digest),
	}
}

// idOf returns what an order is remembered under.
func idOf(order wechat.Request) digest { return idUnder(order, order.Endpoint().API, order.BillNo()) }

// idUnder is idOf for an order that goes to the same place and is of that API and number.
func idUnder(order wechat.Request, api *wechat.API, billNo string) digest {
	var room [256]byte
	text := room[:0]
	for _, part := range [...]string{
		order.AppID(), string(order.Endpoint().Environment), api.Family.Name, api.Name, order.Scope(), billNo,
	} {
		text = append(text, part...)
		text = append(text, 0) // in no part: Decode refuses control characters
	}
	sum := sha256.Sum256(text)
	return digest(sum[:])
}

// cancelledBy returns the ID of what the order takes back, if it takes back anything.
func cancelledBy(order wechat.Request) (id digest, ok bool) {
	api := order.Endpoint().API.Undoes()
	if api == nil {
		return digest{}, false
	}
	return idUnder(order, api, order.PayBillNo()), true
}

// flight is one order in flight.
type flight struct {
	id          digest
	fingerprint digest
	past        past
	// takingBack: we are cancelling the order ourselves, and its callers wait for
	// the end of that.
	takingBack bool

	// done is closed when answer is there.
	done   chan struct{}
	answer Answer
}

// cancel is one order that takes back another.
type cancel struct {
	id     digest
	amount int64 // 0 for one that gives back all there is
}

// past is what earlier calls were told about an order.
type past struct {
	doubt bool // it may have been carried out
	known bool // WeChat said that it was
}

// stands tells whether the answer may be given again.
func (a Answer) stands() bool {
	return a.Outcome == Applied || a.Outcome == AlreadyApplied || a.Problem == TakenBack
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
// told, and settle must be called at the end. For again, f holds the answer alone;
// for conflict there is none.
func (m *Memory) begin(order wechat.Request) (f *flight, t turn, before past) {
	id, sum := idOf(order), order.Fingerprint()
	fingerprint := digest(sum[:])
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Since(m.start)
	m.expire(now)

	if f = m.flights[id]; f != nil {
		switch {
		case f.fingerprint != fingerprint:
			return nil, conflict, past{}
		case m.cancelled(id) && !f.takingBack:
			return f, later, past{}
		default:
			return f, shared, past{}
		}
	}
	if known, ok := m.settled.get(id); ok && now < known.forget {
		stands := known.answer.stands()
		switch {
		case known.fingerprint != fingerprint && (stands || known.past.doubt && known.answer.Outcome != Rejected):
			return nil, conflict, past{}
		case stands && (!m.cancelled(id) || known.answer.Problem == TakenBack):
			return &flight{answer: known.answer}, again, past{}
		}
		before = known.past
		if known.fingerprint != fingerprint {
			before = past{known: before != past{}} // by something else, perhaps
			m.setAside(id, known)
		}
	}
	m.drop(id)
	f = &flight{id: id, fingerprint: fingerprint, past: before, done: make(chan struct{})}
	m.flights[id] = f
	if pay, ok := cancelledBy(order); ok {
		m.cancels[pay] = append(m.cancels[pay], cancel{id, order.Amount()})
		m.takesBack[id] = pay
	}
	return f, first, before
}

// settle gives the order's answer to all who wait for it, and remembers it for a
// while if later calls depend on it.
func (m *Memory) settle(f *flight, answer Answer, replay time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f.answer = answer
	close(f.done)
	delete(m.flights, f.id)
	switch answer.Outcome {
	case Applied, AlreadyApplied, Duplicate:
		f.past = past{known: true}
	case Unknown:
		f.past.doubt = true
	case Rejected:
		// What WeChat knows by its number stays known. That there is no such order to be
		// cancelled is true now: a lost attempt may land later, and find one.
		_, cancels := m.takesBack[f.id]
		f.past.doubt = f.past.doubt && cancels
	case NotSent: // as before
	}
	if replay == 0 || !answer.stands() && f.past == (past{}) {
		m.drop(f.id)
		return
	}
	if !answer.stands() {
		answer = Answer{Outcome: answer.Outcome}
	}
	now := time.Since(m.start)
	forget := now + min(replay, math.MaxInt64-now)
	m.settled.add(f.id, remembered{f.fingerprint, f.past, answer, forget})
	m.keepCancels(f.id, forget)
	if m.settled.count > maxRemembered {
		m.drop(m.settled.oldest().id)
	}
}

// wait waits for the end of an order, if it is in flight.
func (m *Memory) wait(order wechat.Request) {
	m.mu.Lock()
	f := m.flights[idOf(order)]
	m.mu.Unlock()
	if f != nil {
		<-f.done
	}
}

// takeBack notes that the order is being cancelled by ourselves.
func (m *Memory) takeBack(f *flight) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f.takingBack = true
}

// spent tells whether WeChat may know the number of an order for another reason than an
// attempt of ours that was lost, or has given back what that did: that it says so then
// proves nothing. A number is one for all APIs, so another one may have used it up; a
// cancel tells of its pay, which may be forgotten. Only v1's cancelpay has no number of
// its own: it names a pay's.
func (m *Memory) spent(order wechat.Request) bool {
	own := order.Endpoint().API
	if own == wechat.CancelPay {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(wechat.APIs, func(api *wechat.API) bool {
		id := idUnder(order, api, order.BillNo())
		return m.cancelled(id) || api != own && m.knows(id)
	})
}

// returned tells whether an order of that many coins is known to be taken back, all of
// them.
func (m *Memory) returned(id digest, amount int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	var sum int64
	for _, c := range m.cancels[id] {
		switch {
		case !m.gaveBack(c):
		case c.amount == 0:
			return true
		default:
			if sum += c.amount; sum >= amount {
				return true
			}
		}
	}
	return false
}

// gaveBack tells whether a cancel is known to have given back what it names. That the
// number of a refund is in use says nothing about its pay and amount; v1's cancelpay has
// no number of its own.
// Like all that follow, it is called with mu held.
func (m *Memory) gaveBack(c cancel) bool {
	known, _ := m.settled.get(c.id) // of one in flight nothing is known
	return known.answer.stands() || c.amount == 0 && known.answer.Outcome == Duplicate
}

// cancelled tells whether an order has been cancelled, even in part, or may have been.
func (m *Memory) cancelled(id digest) bool { return len(m.cancels[id]) > 0 }

// knows tells whether there is an order of that ID.
func (m *Memory) knows(id digest) bool { return m.settled.has(id) || m.flights[id] != nil }

// expire forgets what is old. Where replay was changed, some of it stays a little
// longer and is passed over.
func (m *Memory) expire(now time.Duration) {
	for r := m.settled.oldest(); r != nil && now >= r.forget; r = m.settled.oldest() {
		m.drop(r.id)
	}
}

// keepCancels lets the cancels of an order be remembered no shorter than the order, which
// would seem to stand without them.
func (m *Memory) keepCancels(id digest, forget time.Duration) {
	for _, c := range m.cancels[id] {
		if known, ok := m.settled.get(c.id); ok { // else in flight, and settled later
			known.forget = max(known.forget, forget)
			m.settled.drop(c.id)
			m.settled.add(c.id, known)
		}
	}
}

// setAside keeps what is known of a cancel whose number is now said with other
// parameters: WeChat knows the number, and it may be by what was said first, so that its
// pay may be taken back. It goes by another ID from now on, under which nobody asks; what
// is left under its own is to be dropped.
func (m *Memory) setAside(id digest, known remembered) {
	pay, ok := m.takesBack[id]
	if !ok {
		return
	}
	sum := sha256.Sum256(append(id[:], known.fingerprint[:]...))
	aside := digest(sum[:])
	m.drop(aside) // as which it may stand there from an earlier time
	m.settled.add(aside, known)
	m.takesBack[aside] = pay
	for i, c := range m.cancels[pay] {
		if c.id == id {
			m.cancels[pay][i].id = aside
		}
	}
}

// drop forgets an order that is not in flight, if it is known.
func (m *Memory) drop(id digest) {
	m.settled.drop(id)
	pay, ok := m.takesBack[id]
	if !ok {
		return
	}
	delete(m.takesBack, id)
	others := slices.DeleteFunc(m.cancels[pay], func(c cancel) bool { return c.id == id })
	if m.cancels[pay] = others; len(others) == 0 {
		delete(m.cancels, pay)
	}
	if len(m.takesBack) == 0 { // maps never shrink
		m.cancels, m.takesBack = make(map[digest][]cancel), make(map[digest]digest)
	}
}
