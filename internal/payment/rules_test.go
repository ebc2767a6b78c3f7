package payment_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/ledger"
	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/payment"
	"midas-sidecar/internal/wechat"
)

// What README promises to those who call: its rules are enough. Game servers that keep
// them call any of several sidecars, which know nothing of each other and are restarted;
// they hang up, repeat, give up and cancel. In the end each player has paid for what was
// given, and for nothing else.
func TestFourRulesAreEnoughForCallersOfAnySidecar(t *testing.T) {
	ends := make(map[saleEnd]int)
	eachHistory(t, func(t *testing.T, seed uint64) {
		s := newShop(t, seed)
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("%d sidecars: %v", len(s.sidecars), s.sales)
			}
		})
		s.open()
		s.audit()
		for _, sale := range s.sales {
			ends[sale.end]++
		}
	})
	t.Log(ends)
}

// shop is a game server, or several with the same records.
type shop struct {
	*history
	sidecars []*sidecar
	restarts bool
	sales    []*sale
}

type sidecar struct {
	*payment.Processor
	flights int
}

// sale is an order as it is in the records: stored before it is paid.
type sale struct {
	pay, cancel wechat.Request
	patience    []time.Duration
	end         saleEnd

	told []string
}

// saleEnd is what a game server takes for the truth.
type saleEnd string

const (
	given     saleEnd = "given"
	refused   saleEnd = "refused"
	cancelled saleEnd = "cancelled"
	open      saleEnd = "open"
)

func (s *sale) String() string { return fmt.Sprintf("\n%s %s: %v", s.pay.BillNo(), s.end, s.told) }

func newShop(t *testing.T, seed uint64) *shop {
	s := &shop{history: newHistory(t, seed)}
	s.sidecars = make([]*sidecar, 1+s.random.IntN(3))
	s.restarts = s.random.IntN(2) == 0
	if len(s.sidecars) > 1 {
		s.processor.CancelUnknown = false
	}
	for i := range s.sidecars {
		s.sidecars[i] = &sidecar{}
		s.restart(s.sidecars[i])
	}
	return s
}

// forgets tells whether the sidecar that is asked may know nothing of an earlier call.
func (s *shop) forgets() bool {
	return len(s.sidecars) > 1 || s.restarts || s.processor.Replay == 0
}

// restart has a sidecar forget everything, once its orders are at their end.
func (s *shop) restart(one *sidecar) {
	if one.flights > 0 {
		return
	}
	next := *s.processor
	next.Ledger = ledger.New()
	one.Processor = &next
}

// open sells some things, one after the other or at once.
func (s *shop) open() {
	var selling sync.WaitGroup
	for i := range 1 + s.random.IntN(4) {
		s.mu.Lock() // those who call draw, too
		sale := s.draw(i)
		regretted := s.random.IntN(4) == 0
		sale.patience = patience[:1+s.random.IntN(len(patience))]
		s.mu.Unlock()
		s.sales = append(s.sales, sale)
		selling.Go(func() {
			s.sell(sale)
			if sale.end == given && regretted {
				s.takeBack(sale)
			}
		})
		s.mu.Lock()
		wait := s.some(4 * time.Second)
		switch s.random.IntN(6) {
		case 0:
			if s.restarts {
				s.restart(s.any())
			}
		case 1:
			s.logIn()
		}
		s.mu.Unlock()
		time.Sleep(wait)
	}
	selling.Wait()
}

func (s *shop) draw(i int) *sale {
	if s.random.Float64() < s.v2 {
		return &sale{
			pay:    s.request(wechat.At(wechat.PayV2, wechat.Official), fmt.Sprintf(`{"openid":%q,"amount":100,"bill_no":"b%d"}`, player, i)),
			cancel: s.request(wechat.At(wechat.CancelPayV2, wechat.Official), fmt.Sprintf(`{"openid":%q,"amount":100,"bill_no":"r%d","pay_bill_no":"b%d"}`, player, i, i)),
		}
	}
	return &sale{
		pay:    s.request(wechat.At(wechat.Pay, wechat.Official), fmt.Sprintf(`{"openid":%q,"amt":100,"bill_no":"b%d"}`, player, i)),
		cancel: s.request(wechat.At(wechat.CancelPay, wechat.Official), fmt.Sprintf(`{"openid":%q,"bill_no":"b%d"}`, player, i)),
	}
}

// patience is how long README's examples wait before each call.
var patience = []time.Duration{0, time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute}

// sell pays as README's examples do.
func (s *shop) sell(sale *sale) {
	unknown := false
	for _, wait := range sale.patience {
		time.Sleep(wait)
		answer, answered := s.call(sale, sale.pay)
		switch {
		case answer.Outcome == outcome.Applied, answer.Outcome == outcome.AlreadyApplied:
			sale.end = given
			return
		case !answered || answer.Outcome == outcome.Unknown:
			unknown = true
		case !unknown && (answer.Outcome == outcome.Rejected || answer.Outcome == outcome.NotSent && answer.Status < 500):
			sale.end = refused
			return
		}
		if unknown && s.processor.CancelUnknown {
			break // the sidecar may have cancelled it, or may be about to
		}
	}
	if !unknown {
		sale.end = refused
		return
	}
	s.takeBack(sale)
}

// takeBack cancels until it is known that the coins are the player's.
func (s *shop) takeBack(sale *sale) {
	sale.end = open
	if s.forgets() {
		time.Sleep(s.processor.Deadline) // the pay may be in flight
	}
	for _, wait := range patience {
		time.Sleep(wait)
		answer, _ := s.call(sale, sale.cancel)
		switch {
		case answer.Outcome == outcome.Applied, answer.Outcome == outcome.AlreadyApplied, answer.Outcome == outcome.Duplicate,
			answer.Outcome == outcome.Rejected && answer.Errcode == wechat.NoSuchOrder:
			sale.end = cancelled
			return
		}
	}
}

// call asks any of the sidecars, and may hang up before it answers.
func (s *shop) call(sale *sale, request wechat.Request) (answer outcome.Answer, answered bool) {
	s.mu.Lock()
	asked := s.any()
	asked.flights++
	processor, hangUp := asked.Processor, time.Hour
	if s.random.IntN(4) == 0 {
		hangUp = s.grain + s.some(3*time.Second)
	}
	s.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), hangUp)
	defer cancel()
	began, answers := time.Now(), make(chan outcome.Answer, 1)
	go func() {
		answers <- processor.Process(ctx, request, s.credentials)
		s.mu.Lock()
		defer s.mu.Unlock()
		asked.flights--
	}()
	select {
	case answer = <-answers:
		answered = true
	case <-ctx.Done():
	}
	sale.told = append(sale.told, fmt.Sprintf("\n  %s at %d from %s to %s: %s %d", request.Endpoint().Path,
		slices.Index(s.sidecars, asked), began.Format("04:05.000"), time.Now().Format("04:05.000"), answer.Outcome, answer.Errcode))
	return answer, answered
}

func (s *shop) any() *sidecar { return s.sidecars[s.random.IntN(len(s.sidecars))] }

// audit compares what is in the records with the books.
func (s *shop) audit() {
	time.Sleep(time.Hour) // of what is in flight
	require.NoError(s.t, s.weChat.Settle(context.Background()))
	for _, sale := range s.sales {
		order, _ := s.weChat.Order(orderOf(sale.pay))
		paid := order.Applied == 1 && !order.Returned
		switch sale.end {
		case given:
			require.True(s.t, paid && order.Refunded == 0, "given and not paid: %+v", order)
		case refused, cancelled:
			require.False(s.t, paid, "%s and paid: %+v", sale.end, order)
		case open:
		}
	}
	s.auditBooks()
}
