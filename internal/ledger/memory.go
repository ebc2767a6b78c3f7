package ledger

import (
	"slices"
	"time"

	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/wechat"
)

// memory is the store that lives as long as the process. The garbage collector would scan
// it again and again, were there a pointer in what is kept of each order: so there is none.
//
// Slots are numbered from 1 without a gap, for the last one moves to a place that becomes
// free: so the blocks in use are the first ones, and the others can be given back.
type memory struct {
	numbers map[hash]uint32
	blocks  []*[blockSize]slot
	count   uint32
	ends    links // what would be slot 0, after the newest and before the oldest

	heads []head                  // by their number
	whole map[hash]outcome.Answer // those that do not fit into a slot
}

const (
	blockSize = 64
	bodySize  = 156 // enough for a pay, whatever its bill_no
	maxHeads  = 256 // as a uint8 can count; answers beyond are kept whole, which only takes more room
)

// slot holds one order.
type slot struct {
	links
	forget time.Duration
	id     hash
	params hash
	facts  facts
	head   uint8 // its number
	length uint8 // of the body
	body   [bodySize]byte
}

// links are the numbers of the neighbours in a ring: as they were added, then 0.
type links struct{ older, newer uint32 }

// head is an answer without its body. There are few: most orders end well at once.
type head struct {
	outcome     outcome.Outcome
	attempts    int
	replayed    bool
	errcode     int
	errorCode   outcome.ErrorCode
	status      int
	contentType string
}

func newMemory() *memory {
	return &memory{numbers: make(map[hash]uint32), whole: make(map[hash]outcome.Answer)}
}

func (m *memory) len() int { return int(m.count) }

func (m *memory) has(id hash) bool { return m.numbers[id] != 0 }

func (m *memory) get(id hash) (record, bool) {
	n, ok := m.numbers[id]
	if !ok {
		return record{}, false
	}
	s := m.at(n)
	return record{s.params, s.facts, m.answer(s), s.forget}, true
}

func (m *memory) update(id hash, change func(*facts)) {
	if n, ok := m.numbers[id]; ok {
		change(&m.at(n).facts)
	}
}

func (m *memory) oldest() (id hash, forget time.Duration, ok bool) {
	if m.count == 0 {
		return hash{}, 0, false
	}
	s := m.at(m.ends.newer)
	return s.id, s.forget, true
}

func (m *memory) add(id hash, r record) {
	if int(m.count) == len(m.blocks)*blockSize {
		m.blocks = append(m.blocks, new([blockSize]slot))
	}
	m.count++
	s := m.at(m.count)
	s.id, s.params, s.facts, s.forget = id, r.params, r.facts, r.forget
	m.keepAnswer(s, r.answer)
	m.numbers[id] = m.count

	s.links = links{older: m.ends.older}
	m.join(m.count)
}

func (m *memory) drop(id hash) {
	n, ok := m.numbers[id]
	if !ok {
		return
	}
	delete(m.numbers, id)
	delete(m.whole, id)
	gone := m.at(n).links
	m.linksOf(gone.older).newer, m.linksOf(gone.newer).older = gone.newer, gone.older
	if n != m.count {
		*m.at(n) = *m.at(m.count)
		m.numbers[m.at(n).id] = n
		m.join(n)
	}
	m.count--

	switch free := len(m.blocks)*blockSize - int(m.count); {
	case m.count == 0:
		*m = *newMemory() // a map never shrinks
	case free >= 2*blockSize: // one stays for those that come next
		m.blocks[len(m.blocks)-1] = nil
		m.blocks = m.blocks[:len(m.blocks)-1]
	}
}

func (m *memory) at(n uint32) *slot { return &m.blocks[(n-1)/blockSize][(n-1)%blockSize] }

func (m *memory) linksOf(n uint32) *links {
	if n == 0 {
		return &m.ends
	}
	return &m.at(n).links
}

// join tells the neighbors of a slot its number.
func (m *memory) join(n uint32) {
	s := m.at(n)
	m.linksOf(s.older).newer, m.linksOf(s.newer).older = n, n
}

// keepAnswer puts an answer into a slot, or aside as a whole.
func (m *memory) keepAnswer(s *slot, a outcome.Answer) {
	n := -1
	if len(a.Body) <= bodySize && a.Cause == nil && a.Trace == (wechat.Trace{}) {
		n = m.headNumber(head{a.Outcome, a.Attempts, a.Replayed, a.Errcode, a.ErrorCode, a.Status, a.ContentType})
	}
	if n < 0 {
		m.whole[s.id] = a
		return
	}
	s.head, s.length = uint8(n), uint8(copy(s.body[:], a.Body)) //nolint:gosec // both fit: see maxHeads and bodySize
}

// headNumber returns a head's number, -1 if there are too many heads.
func (m *memory) headNumber(h head) int {
	n := slices.Index(m.heads, h)
	if n < 0 && len(m.heads) < maxHeads {
		n = len(m.heads)
		m.heads = append(m.heads, h)
	}
	return n
}

// answer returns the answer in a slot. The body is a copy: the slot may be another order's
// a moment later.
func (m *memory) answer(s *slot) outcome.Answer {
	if whole, ok := m.whole[s.id]; ok {
		return whole
	}
	h := m.heads[s.head]
	return outcome.Answer{
		Outcome:     h.outcome,
		Attempts:    h.attempts,
		Replayed:    h.replayed,
		Errcode:     h.errcode,
		ErrorCode:   h.errorCode,
		Status:      h.status,
		ContentType: h.contentType,
		Body:        append([]byte(nil), s.body[:s.length]...),
	}
}
