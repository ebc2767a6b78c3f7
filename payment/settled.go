package payment

import (
	"crypto/sha256"
	"slices"
	"time"
)

// digest stands for a text: half of its SHA-256. Among 100,000 orders, two share one by
// chance once in 10^28 memories. Callers choose what their orders say: finding two that
// share one takes 2^64 tries and harms nobody else's, meeting another's takes 2^128.
type digest [sha256.Size / 2]byte

// remembered is what is known of an order that was settled.
type remembered struct {
	fingerprint digest
	past        past
	answer      Answer        // as it is given again; else its outcome alone
	forget      time.Duration // when, since the memory was made
}

// records hold what is remembered, by the order's ID and as they were added. The
// garbage collector would look through it again and again, were there a pointer in what
// there is of each order: so there is none.
//
// They are numbered from 1 without a gap, for the last one moves to a place that becomes
// free: so the blocks in use are the first ones, and the others can be given back.
type records struct {
	numbers map[digest]uint32
	blocks  []*[blockSize]record
	count   uint32
	ends    links // what would be number 0, after the newest and before the oldest

	heads []head            // by their number
	whole map[digest]Answer // those that do not fit into a record
}

const (
	blockSize = 64
	bodySize  = 156 // enough for a pay, whatever its bill_no
	maxHeads  = 256 // as a uint8 can count; answers beyond are kept whole, which only takes more room
)

// record is one order, as it is kept.
type record struct {
	links
	forget      time.Duration
	id          digest
	fingerprint digest
	past        past
	head        uint8 // its number
	length      uint8 // of the body
	body        [bodySize]byte
}

// links are the numbers of the neighbours in a ring: as they were added, then 0.
type links struct{ older, newer uint32 }

// head is an answer without its body. There are few: most orders end well at once.
type head struct {
	outcome     Outcome
	attempts    int
	replayed    bool
	errcode     int
	problem     Problem
	status      int
	contentType string
}

func newRecords() records {
	return records{numbers: make(map[digest]uint32), whole: make(map[digest]Answer)}
}

// get returns what is known of an order.
func (rs *records) get(id digest) (known remembered, ok bool) {
	n, ok := rs.numbers[id]
	if !ok {
		return remembered{}, false
	}
	r := rs.at(n)
	return remembered{r.fingerprint, r.past, rs.answer(r), r.forget}, true
}

// has tells whether an order is known.
func (rs *records) has(id digest) bool { return rs.numbers[id] != 0 }

// edit changes what is known of an order, if it is known.
func (rs *records) edit(id digest, change func(*record)) {
	if n, ok := rs.numbers[id]; ok {
		change(rs.at(n))
	}
}

// oldest returns the record that was added first, nil if there is none. It is good
// until the next change.
func (rs *records) oldest() *record {
	if rs.count == 0 {
		return nil
	}
	return rs.at(rs.ends.newer)
}

// add remembers an order that is not known yet.
func (rs *records) add(id digest, known remembered) {
	if int(rs.count) == len(rs.blocks)*blockSize {
		rs.blocks = append(rs.blocks, new([blockSize]record))
	}
	rs.count++
	r := rs.at(rs.count)
	r.id, r.fingerprint, r.past, r.forget = id, known.fingerprint, known.past, known.forget
	rs.keep(r, known.answer)
	rs.numbers[id] = rs.count

	r.links = links{older: rs.ends.older}
	rs.join(rs.count)
}

// drop forgets an order, if it is known.
func (rs *records) drop(id digest) {
	n, ok := rs.numbers[id]
	if !ok {
		return
	}
	delete(rs.numbers, id)
	delete(rs.whole, id)
	gone := rs.at(n).links
	rs.linksOf(gone.older).newer, rs.linksOf(gone.newer).older = gone.newer, gone.older
	if n != rs.count {
		*rs.at(n) = *rs.at(rs.count)
		rs.numbers[rs.at(n).id] = n
		rs.join(n)
	}
	rs.count--

	switch free := len(rs.blocks)*blockSize - int(rs.count); {
	case rs.count == 0:
		*rs = newRecords() // a map never shrinks
	case free >= 2*blockSize: // one stays for those that come next
		rs.blocks[len(rs.blocks)-1] = nil
		rs.blocks = rs.blocks[:len(rs.blocks)-1]
	}
}

func (rs *records) at(n uint32) *record { return &rs.blocks[(n-1)/blockSize][(n-1)%blockSize] }

func (rs *records) linksOf(n uint32) *links {
	if n == 0 {
		return &rs.ends
	}
	return &rs.at(n).links
}

// join lets the neighbours of a record know where it is.
func (rs *records) join(n uint32) {
	r := rs.at(n)
	rs.linksOf(r.older).newer, rs.linksOf(r.newer).older = n, n
}

// keep puts an answer into a record, or aside as a whole.
func (rs *records) keep(r *record, answer Answer) {
	n := -1
	if len(answer.Body) <= bodySize && answer.Cause == nil {
		n = rs.number(head{
			answer.Outcome, answer.Attempts, answer.Replayed, answer.Errcode, answer.Problem, answer.Status, answer.ContentType,
		})
	}
	if n < 0 {
		rs.whole[r.id] = answer
		return
	}
	r.head, r.length = uint8(n), uint8(copy(r.body[:], answer.Body)) //nolint:gosec // both fit: see maxHeads and bodySize
}

// number returns a head's number, -1 if there are too many.
func (rs *records) number(h head) int {
	n := slices.Index(rs.heads, h)
	if n < 0 && len(rs.heads) < maxHeads {
		n = len(rs.heads)
		rs.heads = append(rs.heads, h)
	}
	return n
}

// answer returns the answer in a record. The body is a copy: the record may be another
// order's a moment later.
func (rs *records) answer(r *record) Answer {
	if whole, ok := rs.whole[r.id]; ok {
		return whole
	}
	h := rs.heads[r.head]
	return Answer{
		Outcome:     h.outcome,
		Attempts:    h.attempts,
		Replayed:    h.replayed,
		Errcode:     h.errcode,
		Problem:     h.problem,
		Status:      h.status,
		ContentType: h.contentType,
		Body:        append([]byte(nil), r.body[:r.length]...),
	}
}
