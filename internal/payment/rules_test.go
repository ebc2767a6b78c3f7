package payment_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/ledger"
	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/payment"
	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/upstream"
	"midas-sidecar/internal/wechat"
)

// What README promises to those who call: its loops and rules are enough. Game servers
// that keep them call any of several sidecars, which know nothing of each other, are
// restarted, and killed with orders in flight; they hang up, die themselves, repeat, give
// up and cancel. In the end, when WeChat is well again, every order is settled: each player
// has what he paid for, once, and nothing else, and no order that is known to be paid was
// cancelled because a loop said so.
func TestFourRulesAreEnoughForCallersOfAnySidecar(t *testing.T) {
	var total takings
	eachHistory(t, func(t *testing.T, seed uint64) {
		s := newShop(t, seed)
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("%d sidecars, on_unknown cancel %t: %v", len(s.sidecars), s.processor.CancelUnknown, s.sales)
			}
		})
		s.open()
		s.clearUp()
		s.audit()
		total.add(s)
	})
	t.Log(total)
}

// shop is a game server, or several with the same records.
type shop struct {
	*history
	sidecars []*sidecar
	restarts bool
	sales    []*sale

	killed, restarted int // sidecars
}

// sidecar is one process.
type sidecar struct {
	*payment.Processor
	name    int
	life    context.Context // ends when the process is killed
	kill    context.CancelFunc
	flights int
}

// mortal sends for as long as its process lives.
type mortal struct {
	payment.Sender
	life context.Context
}

// Send loses what is on its way when the process is killed.
func (m mortal) Send(ctx context.Context, host int, message wechat.Outbound) upstream.Exchange {
	if m.life.Err() != nil {
		return upstream.Exchange{Err: m.life.Err()}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.life, cancel)()
	return m.Sender.Send(ctx, host, message)
}

// sale is an order as it is in the records. What they hold outlives the game server.
type sale struct {
	pay, cancel wechat.Request
	called      bool // stored before the first call
	end         saleEnd

	patience  []time.Duration
	regretted bool // given back by the player
	paid      bool // a sidecar has said so
	duplicate bool // it was a duplicate that said so
	told      []string
}

// saleEnd is what a game server takes for the truth.
type saleEnd string

const (
	open       saleEnd = "open"
	given      saleEnd = "given"
	refused    saleEnd = "refused"
	cancelling saleEnd = "cancelling" // stored before the first call
	cancelled  saleEnd = "cancelled"
)

func (s *sale) settled() bool { return s.end != open && s.end != cancelling }

func (s *sale) String() string { return fmt.Sprintf("\n%s %s: %v", s.pay.BillNo(), s.end, s.told) }

func newShop(t *testing.T, seed uint64) *shop {
	s := &shop{history: newHistory(t, seed)}
	s.sidecars = make([]*sidecar, 1+s.random.IntN(3))
	s.restarts = s.random.IntN(2) == 0
	if len(s.sidecars) > 1 {
		s.processor.CancelUnknown = false
	}
	for i := range s.sidecars {
		s.start(i)
	}
	t.Cleanup(func() {
		for _, one := range s.sidecars {
			one.kill()
		}
	})
	return s
}

// forgets reports whether the sidecar that is asked may know nothing of an earlier call.
func (s *shop) forgets() bool {
	return len(s.sidecars) > 1 || s.restarts || s.processor.Replay == 0
}

// start has a process that knows nothing take the place of another one.
func (s *shop) start(i int) {
	one := &sidecar{name: i}
	one.life, one.kill = context.WithCancel(context.Background())
	processor := *s.processor
	processor.Ledger = ledger.New()
	processor.Sender = mortal{processor.Sender, one.life}
	one.Processor = &processor
	s.sidecars[i] = one
}

// upset restarts a sidecar: with its orders at their end, or killed in the middle of them.
func (s *shop) upset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.any()
	switch {
	case s.random.IntN(2) == 0:
		one.kill()
		s.killed++
	case one.flights > 0:
		return
	default:
		s.restarted++
	}
	s.start(one.name)
}

// open sells some things, one after the other or at once, while all goes wrong.
func (s *shop) open() {
	var selling sync.WaitGroup
	for i := range 1 + s.random.IntN(4) {
		s.mu.Lock() // those who call draw, too
		sale := s.draw(i)
		s.mu.Unlock()
		s.sales = append(s.sales, sale)
		selling.Go(func() { s.attend(sale) })
		s.mu.Lock()
		wait := s.some(4 * time.Second)
		if s.random.IntN(6) == 0 {
			s.logIn()
		}
		s.mu.Unlock()
		time.Sleep(wait)
		if s.chance(4) && s.restarts {
			s.upset()
		}
	}
	for s.restarts && s.chance(2) {
		s.mu.Lock()
		wait := s.some(20 * time.Second)
		s.mu.Unlock()
		time.Sleep(wait)
		s.upset()
	}
	selling.Wait()
}

func (s *shop) draw(i int) *sale {
	drawn := &sale{end: open, patience: patience[:1+s.random.IntN(len(patience))], regretted: s.random.IntN(4) == 0}
	if s.random.Float64() < s.v2 {
		drawn.pay = s.request(wechat.At(wechat.PayV2, wechat.Official), fmt.Sprintf(`{"openid":%q,"amount":100,"bill_no":"b%d"}`, player, i))
		drawn.cancel = s.request(wechat.At(wechat.CancelPayV2, wechat.Official), fmt.Sprintf(`{"openid":%q,"amount":100,"bill_no":"r%d","pay_bill_no":"b%d"}`, player, i, i))
		return drawn
	}
	drawn.pay = s.request(wechat.At(wechat.Pay, wechat.Official), fmt.Sprintf(`{"openid":%q,"amt":100,"bill_no":"b%d"}`, player, i))
	drawn.cancel = s.request(wechat.At(wechat.CancelPay, wechat.Official), fmt.Sprintf(`{"openid":%q,"bill_no":"b%d"}`, player, i))
	return drawn
}

// patience is how long README's loops wait before each call.
var patience = []time.Duration{0, time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute}

// attend does what is to be done about an order, a few times over, and lets the player
// change his mind. What is not settled then is for later.
func (s *shop) attend(sale *sale) {
	for range 3 {
		s.goOn(sale, s.chance(2))
		if sale.settled() {
			break
		}
	}
	if sale.end == given && sale.regretted {
		s.takeBack(sale)
	}
}

// goOn takes an order up where the records say that it is.
func (s *shop) goOn(sale *sale, cancel bool) {
	if sale.end == open && !s.pays(sale) && (cancel || s.processor.CancelUnknown) {
		require.False(s.t, sale.paid && !s.processor.CancelUnknown, "a paid order is cancelled, for its loop is at its end: %v", sale)
		s.takeBack(sale)
		return
	}
	if sale.end == cancelling {
		s.takeBack(sale)
	}
}

// pays is README's loop. It tells whether there is nothing more to be done now: the order
// is settled, or the game server died.
func (s *shop) pays(sale *sale) bool {
	unknown := sale.called
	sale.called = true
	for _, wait := range sale.patience {
		if unknown && s.processor.CancelUnknown {
			return false // the sidecar may have cancelled it, or may be about to
		}
		time.Sleep(wait)
		answer, answered := s.call(sale, sale.pay)
		if s.chance(10) {
			return true // the game server dies before it has stored what it was told
		}
		switch said := answer.Outcome; {
		case said == outcome.Applied, said == outcome.AlreadyApplied,
			said == outcome.Duplicate && !s.processor.CancelUnknown:
			sale.end, sale.paid, sale.duplicate = given, true, said == outcome.Duplicate
			return true
		case said == outcome.Duplicate:
			return false // the sidecar may have cancelled it before it was restarted
		case !unknown && (said == outcome.Rejected || said == outcome.NotSent && answer.Status < 500):
			sale.end = refused
			return true
		case !answered || said == outcome.Unknown:
			unknown = true
		}
	}
	return false
}

// takeBack cancels until it is known that the coins are the player's.
func (s *shop) takeBack(sale *sale) {
	sale.end = cancelling
	if s.forgets() {
		time.Sleep(s.processor.Deadline) // the pay may be in flight
	}
	for _, wait := range patience {
		time.Sleep(wait)
		answer, _ := s.call(sale, sale.cancel)
		if s.chance(10) {
			return
		}
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
	hangUp := time.Hour
	if s.random.IntN(4) == 0 {
		hangUp = s.grain + s.some(3*time.Second)
	}
	s.mu.Unlock()

	ctx, cancel := context.WithTimeout(asked.life, hangUp)
	defer cancel()
	began, answers := time.Now(), make(chan outcome.Answer, 1)
	go func() {
		answers <- asked.Process(ctx, request, s.credentials)
		s.mu.Lock()
		defer s.mu.Unlock()
		asked.flights--
	}()
	select {
	case answer = <-answers:
		answered = asked.life.Err() == nil
	case <-ctx.Done():
	}
	if !answered {
		answer = outcome.Answer{} // what a dead process says is heard by no caller
	}
	sale.told = append(sale.told, fmt.Sprintf("\n  %s at %d from %s to %s: %s %d", request.Endpoint().Path,
		asked.name, began.Format("04:05.000"), time.Now().Format("04:05.000"), answer.Outcome, answer.Errcode))
	return answer, answered
}

func (s *shop) any() *sidecar { return s.sidecars[s.random.IntN(len(s.sidecars))] }

// chance is true once in n times.
func (s *shop) chance(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random.IntN(n) == 0
}

// clearUp goes on with what is not settled, now that all is well. What was carried out
// is then found to be so, unless WeChat says that the balance is short before it looks.
func (s *shop) clearUp() {
	s.weChat.Forget()
	s.well.Store(true)
	time.Sleep(time.Hour) // of what is in flight
	require.NoError(s.t, s.weChat.Settle(context.Background()))
	for _, sale := range s.sales {
		order, purse := s.order(sale), s.weChat.Purse(appID, player, wechat.Official)
		plain := sale.end == open && paid(order) && !s.processor.CancelUnknown && purse.Balance >= order.Amount
		sale.patience = patience
		for range 20 {
			if sale.settled() {
				break
			}
			s.goOn(sale, true)
		}
		if plain {
			require.Equal(s.t, given, sale.end, "paid and not given: %v", sale)
		}
	}
}

func (s *shop) order(sale *sale) simulator.Order {
	order, _ := s.weChat.Order(orderOf(sale.pay))
	return order
}

func paid(order simulator.Order) bool { return order.Applied == 1 && order.Refunded == 0 }

// audit compares what is in the records with the books.
func (s *shop) audit() {
	for _, sale := range s.sales {
		order := s.order(sale)
		require.LessOrEqual(s.t, order.Applied, 1, "paid twice: %v", sale)
		switch sale.end {
		case given:
			require.True(s.t, paid(order), "given and not paid: %+v", order)
		case refused, cancelled:
			require.True(s.t, order.Applied == 0 || order.Returned, "%s and paid: %+v", sale.end, order)
		default:
			// v2 refuses a refund of what on_unknown cancel has given back already, and
			// does not say so: that is left to a person.
			require.True(s.t, s.processor.CancelUnknown && sale.pay.Endpoint().API == wechat.PayV2 && order.Returned, "never settled: %+v", order)
		}
	}
	s.auditBooks()
}

// takings counts what the histories held.
type takings struct {
	histories, calls, killed, restarted, byDuplicate int
	ends                                             map[saleEnd]int
}

func (t *takings) add(s *shop) {
	if t.ends == nil {
		t.ends = make(map[saleEnd]int)
	}
	t.histories++
	t.killed += s.killed
	t.restarted += s.restarted
	for _, sale := range s.sales {
		t.ends[sale.end]++
		t.calls += len(sale.told)
		if sale.duplicate {
			t.byDuplicate++
		}
	}
}

func (t takings) String() string {
	return fmt.Sprintf("%d histories, %d calls, %d sidecars killed with what they did, %d restarted: orders %v, %d of them given on the word duplicate; none is wrong",
		t.histories, t.calls, t.killed, t.restarted, t.ends, t.byDuplicate)
}
