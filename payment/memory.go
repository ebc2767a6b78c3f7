package payment

import (
	"math"
	"sync"
	"time"

	"midas-sidecar/wechat"
)

// maxRemembered is how many orders are remembered; beyond it the one that was
// remembered first is forgotten.
const maxRemembered = 100_000

// Memory knows the orders that are in flight and those that were answered a short
// while ago, so that one order is one order whoever says it how often. It is shared
// by all sites, and outlives a change of the config.
type Memory struct {
	start time.Time // what times are counted from

	mu      sync.Mutex
	flights map[digest]*flight // an order is here or in settled, if it is known
	settled records
	// Few orders are taken back. By what is known here by the ID of the order itself.
	cancelling map[digest][]*flight        // in flight
	givenBack  map[digest]map[digest]int64 // how much each is known to have given back
}

// NewMemory returns a memory of nothing.
func NewMemory() *Memory {
	return &Memory{
		start:      time.Now(),
		flights:    make(map[digest]*flight),
		settled:    newRecords(),
		cancelling: make(map[digest][]*flight),
		givenBack:  make(map[digest]map[digest]int64),
	}
}

// flight is one order in flight.
type flight struct {
	name
	id          digest
	fingerprint digest
	undoes      *undoing      // nil for most
	past        past          // its doubt is for its caller alone to set
	forget      time.Duration // until when what was known before is remembered
	// takingBack: we are cancelling the order ourselves, and its callers wait for
	// the end of that.
	takingBack bool
	// stale: what takes the order back, or what it takes back, was in flight at the same
	// time or may land yet, so that the answer may be out of date for whoever comes now.
	stale bool

	// done is closed when answer is there.
	done   chan struct{}
	answer Answer
}

// over waits for the end of the flight, no longer than until by unless that is zero, and
// tells whether it came.
func (f *flight) over(by time.Time) bool {
	if by.IsZero() {
		<-f.done
		return true
	}
	timer := time.NewTimer(time.Until(by))
	defer timer.Stop()
	select {
	case <-f.done:
		return true
	case <-timer.C:
		return false
	}
}

// past is what is known of an order besides its answer.
type past struct {
	doubt     bool // it may have been carried out
	known     bool // WeChat said that it was
	spent     bool // WeChat may know its number by another order
	cancelled bool // it may have been taken back, even in part
	haunted   bool // a lost attempt to take it back may land yet
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
	later                // the order is in flight, and its answer may be out of date: ask again at its end
	again                // the order was settled: its answer is given again
	conflict             // the bill_no stands for another order
)

// begin finds out whose turn it is. For first, before is what earlier calls were
// told, and settle must be called at the end. For again, f holds the answer alone;
// for conflict there is none.
func (m *Memory) begin(order wechat.Request) (f *flight, t turn, before past) {
	called, sum := nameOf(order), order.Fingerprint()
	id, fingerprint := called.id(), digest(sum[:])
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Since(m.start)
	m.expire(now)

	if f = m.flights[id]; f != nil {
		switch {
		case f.fingerprint != fingerprint:
			return nil, conflict, past{}
		case f.stale && !f.takingBack:
			return f, later, past{}
		default:
			return f, shared, past{}
		}
	}
	f = &flight{name: called, id: id, fingerprint: fingerprint, undoes: undoingOf(order), done: make(chan struct{})}
	if known, ok := m.settled.get(id); ok && now < known.forget {
		stands, inDoubt := known.answer.stands(), known.past.doubt && known.answer.Outcome != Rejected
		switch {
		case known.fingerprint != fingerprint && (stands || inDoubt):
			return nil, conflict, past{}
		case stands && (known.answer.Problem == TakenBack || !known.past.cancelled && len(m.cancelling[id]) == 0):
			return &flight{answer: known.answer}, again, past{}
		}
		f.past, f.forget = known.past, known.forget
		if known.fingerprint != fingerprint { // the doubt was about another, by which the number may be in use
			f.past.known, f.past.doubt = f.past.known || f.past.doubt, false
		}
	}
	m.settled.drop(id)
	f.past.spent = f.past.spent || m.isSpent(called)
	f.stale = f.past.haunted
	m.flights[id] = f
	m.join(f)
	return f, first, f.past
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
		f.past.known, f.past.doubt = true, false
	case Unknown:
		f.past.doubt = true
	case Rejected:
		// What WeChat knows by its number stays known. That there is no such order to be
		// cancelled is true now: a lost attempt may land later, and find one.
		f.past.doubt = f.past.doubt && f.undoes != nil && answer.Errcode == wechat.NoSuchOrder
	case NotSent: // as before
	}
	now := time.Since(m.start)
	forget := max(f.forget, now+min(replay, math.MaxInt64-now))
	m.leave(f, forget)
	if forget <= now || !answer.stands() && !f.past.known && !f.past.doubt && !f.past.cancelled {
		m.drop(f.id)
		return
	}
	if !answer.stands() {
		answer = Answer{Outcome: answer.Outcome}
	}
	m.remember(f.id, remembered{f.fingerprint, f.past, answer, forget})
}

// inFlight returns the flight of the order, or of another of its number, nil if there is
// none.
func (m *Memory) inFlight(order wechat.Request) *flight {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.flights[idOf(order)]
}

// takeBack notes that the order is being cancelled by ourselves.
func (m *Memory) takeBack(f *flight) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f.takingBack = true
}

// remember adds an order that is not in flight. Like all that follow, it is called with
// mu held.
func (m *Memory) remember(id digest, known remembered) {
	m.settled.add(id, known)
	for m.settled.count > maxRemembered {
		m.drop(m.settled.oldest().id)
	}
}

// expire forgets what is old. What is remembered for a shorter time than what came before
// it stays a little longer, and is passed over.
func (m *Memory) expire(now time.Duration) {
	for r := m.settled.oldest(); r != nil && now >= r.forget; r = m.settled.oldest() {
		m.drop(r.id)
	}
}

// drop forgets an order that is not in flight, if it is known.
func (m *Memory) drop(id digest) {
	m.settled.drop(id)
	if m.givenBack[id] == nil {
		return
	}
	delete(m.givenBack, id)
	if len(m.givenBack) == 0 {
		m.givenBack = make(map[digest]map[digest]int64) // a map never shrinks
	}
}
