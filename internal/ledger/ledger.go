package ledger

import (
	"math"
	"sync"
	"time"

	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/wechat"
)

// Ledger knows orders. It is shared by all sites, and outlives a change of the config.
// Create it with New.
type Ledger struct {
	start time.Time // what times are counted from

	mu sync.Mutex
	// An order is in pending or in completed, if it is known.
	pending   map[hash]*Entry
	completed store
	// cancels are the pending cancels, by the id of the pay that they take back.
	cancels map[hash][]*Entry
	// returned is how much the cancels of a pay are known to have given back, each by
	// its own id.
	returned map[hash]map[hash]int64
}

// New returns a ledger that knows no orders, and keeps them in memory.
func New() *Ledger {
	return &Ledger{
		start:     time.Now(),
		pending:   make(map[hash]*Entry),
		completed: newMemory(),
		cancels:   make(map[hash][]*Entry),
		returned:  make(map[hash]map[hash]int64),
	}
}

// store keeps completed orders, the oldest first. An order is in it once.
type store interface {
	// get returns what is known of an order.
	get(id hash) (record, bool)
	has(id hash) bool
	// add adds an order that the store does not have, as the newest.
	add(id hash, r record)
	// update changes the facts of an order, if the store has it.
	update(id hash, change func(*facts))
	// drop removes an order, if the store has it.
	drop(id hash)
	// oldest returns the order that was added first, and when to forget it.
	oldest() (id hash, forget time.Duration, ok bool)
	len() int
}

// record is what is known of a completed order.
type record struct {
	params hash
	facts  facts
	answer outcome.Answer // as it is replayed; else its outcome alone
	forget time.Duration  // when, since the ledger was made
}

// facts are what is known of an order besides its answer.
type facts struct {
	// maybeApplied: an attempt has an end that was not seen.
	maybeApplied bool
	// confirmedApplied: WeChat said that an order of this number was carried out.
	confirmedApplied bool
	// numberReused: WeChat may know the number by another API's order.
	numberReused bool
	// maybeCanceled: the order may have been taken back, in whole or in part.
	maybeCanceled bool
	// cancelMayLand: a cancel was sent that may be carried out yet.
	cancelMayLand bool
}

// Entry is a pending order.
type Entry struct {
	key
	id     hash
	params hash
	amount int64
	cancel *cancelTarget // nil for what takes back nothing
	forget time.Duration // until when what was known before is remembered

	// Under the ledger's lock.
	facts facts
	// takingBack: the sidecar is canceling the order itself, and the callers that
	// joined wait for the end of that.
	takingBack bool
	// outdated: a cancel and its pay were pending at the same time, or the other may
	// land yet, so that the answer may be out of date for a call that begins now.
	outdated bool

	done   chan struct{} // closed when answer is there
	answer outcome.Answer
}

// Wait waits for the end of the order and reports whether it came by the time given,
// the zero time for however long it takes.
func (e *Entry) Wait(by time.Time) bool {
	if by.IsZero() {
		<-e.done
		return true
	}
	timer := time.NewTimer(time.Until(by))
	defer timer.Stop()
	select {
	case <-e.done:
		return true
	case <-timer.C:
		return false
	}
}

// Answer returns the order's answer, which is there once Wait returned true, and at once
// for a Replay.
func (e *Entry) Answer() outcome.Answer { return e.answer }

// Admission is what a call is to do.
type Admission uint8

// The admissions.
const (
	Proceed  Admission = iota // send the order, and tell End
	Join                      // wait for the pending order: its answer is this call's, too
	Wait                      // wait for the pending order, and begin again
	Replay                    // give the answer again
	Conflict                  // refuse: the bill_no stands for another order
)

// Begin says what a call is to do. For Proceed, End must be called with the entry, which
// is pending until then. For Conflict there is no entry.
func (l *Ledger) Begin(order wechat.Request) (*Entry, Admission) {
	k, sum := keyOf(order), order.Fingerprint()
	id, params := k.id(), hash(sum[:])
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Since(l.start)
	l.expire(now)

	if pending := l.pending[id]; pending != nil {
		switch {
		case pending.params != params:
			return nil, Conflict
		case pending.outdated && !pending.takingBack:
			return pending, Wait
		default:
			return pending, Join
		}
	}
	e := &Entry{key: k, id: id, params: params, amount: order.Amount(), cancel: cancelTargetOf(order), done: make(chan struct{})}
	if known, ok := l.completed.get(id); ok && now < known.forget {
		unsettled := known.facts.maybeApplied && known.answer.Outcome != outcome.Rejected
		switch {
		case known.params != params && (isReplayable(known.answer) || unsettled):
			return nil, Conflict
		case isReplayable(known.answer) && l.isCurrent(id, known):
			return &Entry{answer: known.answer}, Replay
		}
		e.facts, e.forget = known.facts, known.forget
		if known.params != params { // what may have been carried out is another order of this number
			e.facts.confirmedApplied = e.facts.confirmedApplied || e.facts.maybeApplied
			e.facts.maybeApplied = false
		}
	}
	l.completed.drop(id)
	e.facts.numberReused = e.facts.numberReused || l.isKnownToOthers(k)
	e.outdated = e.facts.cancelMayLand
	l.pending[id] = e
	l.linkCancel(e)
	return e, Proceed
}

// isReplayable reports whether an answer may be given again.
func isReplayable(a outcome.Answer) bool {
	return a.Outcome == outcome.Applied || a.Outcome == outcome.AlreadyApplied || a.ErrorCode == outcome.TakenBack
}

// isCurrent reports whether no cancel can have made the answer of a completed order
// untrue.
func (l *Ledger) isCurrent(id hash, known record) bool {
	return known.answer.ErrorCode == outcome.TakenBack || !known.facts.maybeCanceled && len(l.cancels[id]) == 0
}

// End gives the order's answer to all who wait for it, and keeps it for that long if
// later calls depend on it. It is told whether an attempt of the call was lost.
func (l *Ledger) End(e *Entry, answer outcome.Answer, lost bool, keep time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.answer = answer
	close(e.done)
	delete(l.pending, e.id)
	e.facts.end(answer, lost, e.cancel != nil)

	now := time.Since(l.start)
	forget := max(e.forget, now+min(keep, math.MaxInt64-now))
	l.noteEnd(e, forget)
	known := isReplayable(answer) || e.facts.confirmedApplied || e.facts.maybeApplied || e.facts.maybeCanceled
	if forget <= now || !known {
		l.forget(e.id)
		return
	}
	if !isReplayable(answer) {
		answer = outcome.Answer{Outcome: answer.Outcome}
	}
	l.keep(e.id, record{e.params, e.facts, answer, forget})
}

// end adds what the end of a call says about the order.
func (f *facts) end(answer outcome.Answer, lost, isCancel bool) {
	f.maybeApplied = f.maybeApplied || lost
	switch answer.Outcome {
	case outcome.Applied, outcome.AlreadyApplied, outcome.Duplicate:
		f.confirmedApplied, f.maybeApplied = true, false
	case outcome.Unknown:
		f.maybeApplied = true
	case outcome.Rejected:
		// What WeChat knows by its number stays known. That there is no such order to be
		// canceled is true now: a lost attempt may land later, and find one.
		f.maybeApplied = f.maybeApplied && isCancel && answer.Errcode == wechat.NoSuchOrder
	case outcome.NotSent: // as before
	}
}

// Facts are what calls other than the one that asks have left behind about its order.
type Facts struct {
	// MaybeApplied: an attempt of an earlier call for this very order has an end that
	// was not seen.
	MaybeApplied bool
	// ConfirmedApplied: WeChat told an earlier call that an order of this number was
	// carried out.
	ConfirmedApplied bool
	// NumberReused: WeChat may know the number for another reason than a lost attempt
	// of this order. Another API used it, or the order may have been taken back.
	NumberReused bool
	// Returned: all coins of the order are known to have been given back.
	Returned bool
	// PayPending: the pay that this order cancels is pending, and may be sent again.
	PayPending bool
	// PayMaybeApplied: the pay that this order cancels has a lost attempt, so that it
	// may be carried out yet.
	PayMaybeApplied bool
}

// Facts returns what is known now of a pending order.
func (l *Ledger) Facts(e *Entry) Facts {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := Facts{
		MaybeApplied:     e.facts.maybeApplied,
		ConfirmedApplied: e.facts.confirmedApplied,
		NumberReused:     e.facts.numberReused || e.facts.maybeCanceled || len(l.cancels[e.id]) > 0 || l.isUsedByOthers(e.key),
		Returned:         l.isReturned(e.id, e.amount),
	}
	if e.cancel != nil {
		f.PayPending, f.PayMaybeApplied = l.payMayLand(e.cancel.id)
	}
	return f
}

// Pending returns the pending entry of the order, or of another with its number, nil if
// there is none.
func (l *Ledger) Pending(order wechat.Request) *Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pending[keyOf(order).id()]
}

// TakeBack notes that the sidecar is canceling the order itself.
func (l *Ledger) TakeBack(e *Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.takingBack = true
}
