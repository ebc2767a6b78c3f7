package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/wechat"
)

// numbered returns a hash that is another for each n.
func numbered(n int) hash { return hash(fmt.Appendf(nil, "%016d", n)) }

// told returns an answer of each n's own.
func told(n int) outcome.Answer {
	return outcome.Answer{Outcome: outcome.Applied, Attempts: 1, Status: 200, ContentType: "application/json", Body: fmt.Appendf(nil, `{"errcode":0,"order":%d}`, n)}
}

func requireKnown(t *testing.T, s *memory, id hash, want record) {
	t.Helper()
	known, ok := s.get(id)
	require.True(t, ok)
	require.Equal(t, want, known)
}

func TestTheGarbageCollectorFindsNoPointerInARecord(t *testing.T) {
	s := newMemory()
	requireNoPointer(t, reflect.TypeOf(s.blocks).Elem().Elem())
	requireNoPointer(t, reflect.TypeOf(s.numbers).Key())
	requireNoPointer(t, reflect.TypeOf(s.numbers).Elem())
}

func requireNoPointer(t *testing.T, kind reflect.Type) {
	t.Helper()
	switch kind.Kind() {
	case reflect.Struct:
		for field := range kind.Fields() {
			requireNoPointer(t, field.Type)
		}
	case reflect.Array:
		requireNoPointer(t, kind.Elem())
	default:
		require.True(t, reflect.Bool <= kind.Kind() && kind.Kind() <= reflect.Complex128, kind)
	}
}

func TestEveryFieldOfAnAnswerIsKept(t *testing.T) {
	for i := range reflect.TypeFor[outcome.Answer]().NumField() {
		for _, number := range []int64{1, -1, math.MaxInt64, math.MinInt64} {
			var answer outcome.Answer
			switch field := reflect.ValueOf(&answer).Elem().Field(i); field.Interface().(type) {
			case []byte:
				field.SetBytes([]byte("a"))
			case bool:
				field.SetBool(true)
			case int:
				field.SetInt(number)
			case wechat.Trace:
				field.Set(reflect.ValueOf(wechat.Trace{Name: "rid", ID: "a-b"}))
			case error, nil:
				field.Set(reflect.ValueOf(errors.New("a cause")))
			default:
				field.SetString("a word")
			}
			s := newMemory()
			s.add(numbered(0), record{answer: answer})
			requireKnown(t, s, numbered(0), record{answer: answer})
		}
	}
}

func TestWhatIsKnownBesidesTheAnswerIsKept(t *testing.T) {
	s := newMemory()
	all := []record{
		{params: numbered(7), forget: math.MaxInt64},
		{facts: facts{maybeApplied: true}, answer: outcome.Answer{Outcome: outcome.Unknown}},
		{facts: facts{confirmedApplied: true}, answer: told(1), forget: -time.Hour},
	}
	for n, known := range all {
		s.add(numbered(n), known)
	}
	for n, known := range all {
		requireKnown(t, s, numbered(n), known)
	}
	_, ok := s.get(numbered(len(all)))
	require.False(t, ok)
}

func TestOnlyAnAnswerThatFitsIsKeptInARecord(t *testing.T) {
	for length, fits := range map[int]bool{0: true, 1: true, 128: true, bodySize: true, bodySize + 1: false, 256: false, 1 << 16: false} {
		s, answer := newMemory(), told(0)
		answer.Body = bytes.Repeat([]byte("a"), length)
		s.add(numbered(0), record{answer: answer})
		require.Equal(t, fits, len(s.whole) == 0, length)
		known, _ := s.get(numbered(0))
		require.Equal(t, string(answer.Body), string(known.answer.Body))
		answer.Body, known.answer.Body = nil, nil
		require.Equal(t, answer, known.answer)

		s.drop(numbered(0))
		s.add(numbered(0), record{answer: told(1)})
		requireKnown(t, s, numbered(0), record{answer: told(1)})
	}
}

func TestAPaysAnswerFitsIntoARecordWhateverItsNumber(t *testing.T) {
	s, answer := newMemory(), told(0)
	answer.Body = fmt.Appendf(nil, `{"errcode":0,"errmsg":"ok","bill_no":%q,"balance":123456789,"used_present_amount":123456789}`, strings.Repeat("b", 63))
	s.add(numbered(0), record{answer: answer})
	require.Empty(t, s.whole)
}

func TestAnswersOfMoreKindsThanHaveANumberAreKept(t *testing.T) {
	s := newMemory()
	const more = 10
	kind := func(n int) outcome.Answer {
		answer := told(n)
		answer.ContentType = fmt.Sprint("text/", n)
		return answer
	}
	for n := range maxHeads + more {
		s.add(numbered(n), record{answer: kind(n)})
	}
	require.Len(t, s.whole, more)
	for n := range maxHeads + more {
		requireKnown(t, s, numbered(n), record{answer: kind(n)})
	}
	for n := maxHeads; n < maxHeads+more; n++ {
		s.drop(numbered(n))
	}
	require.Empty(t, s.whole)
}

func TestABodyThatWasHandedOutStaysAsItIs(t *testing.T) {
	s, answer := newMemory(), told(1)
	s.add(numbered(1), record{answer: answer})
	clear(answer.Body)
	requireKnown(t, s, numbered(1), record{answer: told(1)})

	known, _ := s.get(numbered(1))
	s.add(numbered(2), record{answer: told(2)})
	s.drop(numbered(1)) // whose place becomes 2's
	require.Equal(t, told(1), known.answer)
	clear(known.answer.Body)
	requireKnown(t, s, numbered(2), record{answer: told(2)})
}

// Whatever comes and goes, what is known is what was added and not dropped, in the order
// in which it was added, in no more blocks than that takes and one to spare.
func TestRecordsThatComeAndGoInAnyOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	s := newMemory()
	known := make(map[int]record)
	var order []int // as they were added
	most := 0
	for n := range 20_000 {
		switch at := random.IntN(len(order) + 1); {
		case random.IntN(2000) == 0: // the rush is over
			for _, n := range order {
				oldest, _, ok := s.oldest()
				require.True(t, ok)
				require.Equal(t, numbered(n), oldest)
				s.drop(numbered(n))
				requireSnug(t, s)
			}
			order = nil
			clear(known)
			require.Equal(t, newMemory(), s)
		case random.IntN(3) > 0 || at == len(order):
			known[n] = record{params: numbered(-n), forget: time.Duration(n), answer: told(n)}
			if n%10 == 0 {
				r := known[n]
				r.answer.Cause = errors.New("kept as a whole")
				known[n] = r
			}
			order = append(order, n)
			s.add(numbered(n), known[n])
		default:
			if random.IntN(2) == 0 {
				at = 0
			}
			s.drop(numbered(order[at]))
			delete(known, order[at])
			order = slices.Delete(order, at, at+1)
		}
		s.drop(numbered(-1)) // which never was
		requireSnug(t, s)
		if most = max(most, len(order)); n%100 == 0 {
			requireAll(t, s, order, known)
		}
	}
	require.Greater(t, most, 4*blockSize)
}

func TestWhatComesAndGoesAtTheEdgeOfABlockTakesNoNewOne(t *testing.T) {
	s := newMemory()
	for n := range blockSize + 1 {
		s.add(numbered(n), record{answer: told(n)})
	}
	last := s.blocks[1]
	for range 3 {
		s.drop(numbered(blockSize))
		s.add(numbered(blockSize), record{answer: told(blockSize)})
	}
	require.Len(t, s.blocks, 2)
	require.Same(t, last, s.blocks[1])
}

func requireSnug(t *testing.T, s *memory) {
	t.Helper()
	needed := (int(s.count) + blockSize - 1) / blockSize
	require.GreaterOrEqual(t, len(s.blocks), needed)
	require.LessOrEqual(t, len(s.blocks), needed+1)
	for _, given := range s.blocks[len(s.blocks):cap(s.blocks)] {
		require.Nil(t, given, "a block that was given back is not held")
	}
}

func requireAll(t *testing.T, s *memory, order []int, known map[int]record) {
	t.Helper()
	require.Len(t, order, int(s.count))
	require.Len(t, s.numbers, int(s.count))
	oldest, newest := s.ends.newer, s.ends.older
	for i, n := range order {
		requireKnown(t, s, numbered(n), known[n])
		require.Equal(t, numbered(n), s.at(oldest).id)
		require.Equal(t, numbered(order[len(order)-1-i]), s.at(newest).id)
		oldest, newest = s.at(oldest).newer, s.at(newest).older
	}
	require.Zero(t, oldest)
	require.Zero(t, newest)
	require.LessOrEqual(t, len(s.whole), int(s.count))
}
