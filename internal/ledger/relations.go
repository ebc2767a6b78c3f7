package ledger

import (
	"slices"
	"time"

	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/wechat"
)

// How orders touch each other: one takes back another, or has the same number. All of it
// is called with mu held.

// linkCancel notes that a pay and its cancel are pending at once: what WeChat says of one
// may have come before what it did for the other.
func (l *Ledger) linkCancel(e *Entry) {
	for _, cancel := range l.cancels[e.id] {
		cancel.outdated, e.outdated = true, true
	}
	if e.cancel == nil {
		return
	}
	pay := e.cancel.id
	l.cancels[pay] = append(l.cancels[pay], e)
	if pending := l.pending[pay]; pending != nil {
		pending.outdated, e.outdated = true, true
	}
	if known, ok := l.completed.get(pay); ok && known.facts.maybeApplied { // it may land yet
		e.outdated = true
	}
}

// noteEnd notes what the end of an order means for others. That a pay may have been taken
// back is remembered at least until the time given.
func (l *Ledger) noteEnd(e *Entry, forget time.Duration) {
	maybeDone := e.facts.confirmedApplied || e.facts.maybeApplied
	if maybeDone || e.facts.maybeCanceled {
		l.noteReuse(e.key)
	}
	if e.cancel == nil {
		return
	}
	pay := e.cancel.id
	l.cancels[pay] = slices.DeleteFunc(l.cancels[pay], func(c *Entry) bool { return c == e })
	if len(l.cancels[pay]) == 0 {
		delete(l.cancels, pay)
	}
	if !maybeDone {
		return
	}
	l.noteReuse(e.cancel.key)
	l.noteCancel(pay, e.facts.maybeApplied, forget)
	if e.gaveBack() {
		if l.returned[pay] == nil {
			l.returned[pay] = make(map[hash]int64)
		}
		l.returned[pay][e.id] = e.cancel.amount
	}
}

// gaveBack reports whether a completed cancel is known to have given back what it names.
// That the number of a refund is in use says nothing about its pay and amount.
func (e *Entry) gaveBack() bool {
	return isReplayable(e.answer) || e.api == wechat.CancelPay && e.answer.Outcome == outcome.Duplicate
}

// noteReuse notes that a number may be in use, with the orders that other APIs know by it.
func (l *Ledger) noteReuse(used key) {
	for id := range used.otherAPIs() {
		if e := l.pending[id]; e != nil {
			e.facts.numberReused = true
		} else {
			l.completed.update(id, func(f *facts) { f.numberReused = true })
		}
	}
}

// noteCancel notes that an order may have been taken back, or may be yet where the cancel
// may land, whether the order is known otherwise or not.
func (l *Ledger) noteCancel(id hash, mayLand bool, forget time.Duration) {
	note := func(f *facts) {
		f.maybeCanceled, f.cancelMayLand = true, f.cancelMayLand || mayLand
	}
	if e := l.pending[id]; e != nil {
		note(&e.facts)
		e.forget = max(e.forget, forget)
		return
	}
	known, _ := l.completed.get(id)
	note(&known.facts)
	known.forget = max(known.forget, forget)
	l.completed.drop(id)
	l.keep(id, known)
}

// isKnownToOthers reports whether a completed order of another API has the number.
func (l *Ledger) isKnownToOthers(k key) bool {
	for id := range k.otherAPIs() {
		if l.completed.has(id) {
			return true
		}
	}
	return false
}

// isUsedByOthers reports whether WeChat may know the number by another API's order, be it
// completed, pending or being canceled.
func (l *Ledger) isUsedByOthers(k key) bool {
	for id := range k.otherAPIs() {
		if l.pending[id] != nil || len(l.cancels[id]) > 0 {
			return true
		}
	}
	return l.isKnownToOthers(k)
}

// payMayLand reports whether a pay that is being canceled may be sent again, and whether
// it may be carried out without that.
func (l *Ledger) payMayLand(id hash) (pending, maybeApplied bool) {
	if pay := l.pending[id]; pay != nil {
		return !pay.takingBack, pay.takingBack
	}
	known, _ := l.completed.get(id)
	return false, known.facts.maybeApplied
}

// isReturned reports whether all coins of an order of that amount are known to be given
// back.
func (l *Ledger) isReturned(id hash, amount int64) bool {
	for _, coins := range l.returned[id] {
		if coins == 0 || coins >= amount {
			return true
		}
		amount -= coins
	}
	return false
}

// maxCompleted is how many completed orders are remembered; beyond it the one that was
// added first is forgotten.
const maxCompleted = 100_000

// keep remembers a completed order that is not in the store.
func (l *Ledger) keep(id hash, known record) {
	l.completed.add(id, known)
	for l.completed.len() > maxCompleted {
		oldest, _, _ := l.completed.oldest()
		l.forget(oldest)
	}
}

// expire forgets what is old. What is kept for a shorter time than what came before it
// stays a little longer, and Begin passes it over.
func (l *Ledger) expire(now time.Duration) {
	for {
		id, forget, ok := l.completed.oldest()
		if !ok || now < forget {
			return
		}
		l.forget(id)
	}
}

// forget forgets an order that is not pending, if it is known.
func (l *Ledger) forget(id hash) {
	l.completed.drop(id)
	if l.returned[id] == nil {
		return
	}
	delete(l.returned, id)
	if len(l.returned) == 0 {
		l.returned = make(map[hash]map[hash]int64) // a map never shrinks
	}
}
