package payment_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
)

var (
	histories = flag.Int("histories", defaultHistories, "how many random histories to try")
	seed      = flag.Uint64("seed", 0, "the seed of the first history, 0 for a random one")
)

// The promise: whatever fails, whoever calls at once or hangs up, no answer lies
// about money. Random histories of orders, cancels, repeats, logins and changes of
// the config, with a random fault in every other attempt, are judged by the books
// of a WeChat that verifies every signature. Time is not real, so that pauses and
// timeouts cost nothing.
func TestNoAnswerLiesAboutMoney(t *testing.T) {
	var total tally
	eachHistory(t, func(t *testing.T, seed uint64) {
		h := newHistory(t, seed)
		t.Cleanup(func() {
			if t.Failed() {
				t.Log(h.calls)
			}
		})
		h.live()
		h.audit()
		total.add(h)
	})
	t.Log(total.String())
}

// eachHistory lets as many histories happen as the flags say, in fake time, until one
// fails, and says how to see that one again.
func eachHistory(t *testing.T, happen func(t *testing.T, seed uint64)) {
	t.Helper()
	first := *seed
	if first == 0 {
		first = rand.Uint64()
	}
	for i := range *histories {
		s := first + uint64(i)
		synctest.Test(t, func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("this history again: go test ./internal/payment -run %s -args -histories 1 -seed %d", t.Name(), s)
				}
			})
			happen(t, s)
		})
		if t.Failed() {
			return
		}
	}
}

// history is one random sequence of calls.
type history struct {
	*world
	random *rand.Rand
	v2     float64       // the share of calls of v2
	fickle bool          // whether the memory is turned on and off
	grain  time.Duration // all times are multiples of it: the larger, the more happens at once

	mu    sync.Mutex
	calls []*call
}

// call is what one caller asked and was told.
type call struct {
	request wechat.Request
	began   time.Time
	ended   time.Time
	hungUp  bool
	forgets bool // there was no memory to keep it
	answer  outcome.Answer
	// What the books said when the call began and when the answer was given.
	before, order simulator.Order
	known         bool
}

func newHistory(t *testing.T, seed uint64) *history {
	random := rand.New(rand.NewPCG(seed, 0))
	h := &history{random: random}
	h.world = newWorld(t, simulator.Options{BalanceFirst: random.IntN(2) == 0})
	h.v2 = []float64{0, 0.5, 1, 1}[random.IntN(4)]
	h.grain = []time.Duration{time.Millisecond, 500 * time.Millisecond}[random.IntN(2)]
	h.processor.CancelUnknown = random.IntN(4) == 0
	switch random.IntN(5) {
	case 0:
		h.processor.Replay = 0
	case 1:
		h.fickle = true
	}

	kinds, latest := simulator.Kinds(), int64(h.processor.AttemptTimeout)
	share := random.Float64() * 0.7
	var mu sync.Mutex // faults are drawn by many at once
	faults := rand.New(rand.NewPCG(seed, 1))
	h.weChat.Misbehave(func(simulator.Call) simulator.Fault {
		mu.Lock()
		defer mu.Unlock()
		if faults.Float64() >= share {
			return simulator.Fault{}
		}
		f := simulator.Fault{Kind: kinds[faults.IntN(len(kinds))].Name}
		if f.Kind == "late" { // than that, nobody can know
			f.Delay = time.Duration(faults.Int64N(latest))
		}
		return f
	})
	if h.grain > time.Millisecond {
		h.processor.Jitter = func(d time.Duration) time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return []time.Duration{0, 0, d / 2, d}[faults.IntN(4)]
		}
	}
	refusals := random.Float64() * 0.3
	h.refuseDial = func() bool {
		mu.Lock()
		defer mu.Unlock()
		return faults.Float64() < refusals
	}
	return h
}

// live makes some calls, one after the other or at once.
func (h *history) live() {
	var callers sync.WaitGroup
	for range 2 + h.random.IntN(10) {
		request := h.draw()
		wait := time.Duration(h.random.IntN(3)) * h.some(4*time.Second)
		var hangUp time.Duration
		if h.random.IntN(5) == 0 {
			hangUp = h.grain + h.some(3*time.Second)
		}
		callers.Go(func() { h.call(request, hangUp) })
		time.Sleep(wait)
		switch h.random.IntN(12) {
		case 0:
			h.mu.Lock()
			h.reload()
			h.mu.Unlock()
		case 1:
			h.logIn()
		case 2:
			h.rotateMidasKey()
		case 3:
			if h.fickle {
				h.mu.Lock()
				h.reload()
				h.processor.Replay = replay - h.processor.Replay
				h.mu.Unlock()
			}
		}
	}
	callers.Wait()
}

// some returns a random duration below d.
func (h *history) some(d time.Duration) time.Duration {
	return time.Duration(h.random.IntN(int(d/h.grain))) * h.grain
}

// draw returns a random call about one of few orders, so that calls meet.
func (h *history) draw() wechat.Request {
	if h.random.Float64() < h.v2 {
		return h.drawV2()
	}
	billNo := fmt.Sprint("b", h.random.IntN(3))
	amount := 100
	if h.random.IntN(8) == 0 {
		amount = 200 // another order under the same number
	}
	env := []wechat.Environment{wechat.Official, wechat.Official, wechat.Sandbox}[h.random.IntN(3)]
	switch h.random.IntN(8) {
	case 0:
		return h.request(wechat.At(wechat.GetBalance, env), fmt.Sprintf(`{"openid":%q}`, player))
	case 1, 2:
		return h.request(wechat.At(wechat.CancelPay, env), fmt.Sprintf(`{"openid":%q,"bill_no":%q}`, player, billNo))
	case 3:
		return h.request(wechat.At(wechat.Present, env), fmt.Sprintf(`{"openid":%q,"present_counts":%d,"bill_no":%q}`, player, amount, billNo))
	default:
		return h.request(wechat.At(wechat.Pay, env), fmt.Sprintf(`{"openid":%q,"amt":%d,"bill_no":%q}`, player, amount, billNo))
	}
}

// drawV2 is draw for v2, where refunds have numbers of their own, and few numbers mean that
// one may be another API's already.
func (h *history) drawV2() wechat.Request {
	env, zone, number := wechat.Official, "1", "b0"
	switch h.random.IntN(10) {
	case 0:
		env = wechat.Sandbox
	case 1:
		zone = "2"
	case 2, 3, 4:
		number = "b1"
	}
	call := func(api *wechat.API, members string) wechat.Request {
		return h.request(wechat.At(api, env), fmt.Sprintf(`{"openid":%q,"zone_id":%q%s}`, player, zone, members))
	}
	amount := []int{100, 100, 100, 100, 100, 100, 200}[h.random.IntN(7)]
	switch h.random.IntN(12) {
	case 0:
		return call(wechat.GetBalanceV2, "")
	case 1:
		return call(wechat.QueryOrderInfo, fmt.Sprintf(`,"out_trade_no":%q,"biz_id":1`, number))
	case 2:
		return call(wechat.PresentV2, fmt.Sprintf(`,"amount":%d,"bill_no":%q`, amount, number))
	case 3, 4, 5, 6:
		refund := []string{"r0", "r1", "r2", "b0", "b1"}[h.random.IntN(5)]
		part := []int{40, 60, 100}[h.random.IntN(3)]
		return call(wechat.CancelPayV2, fmt.Sprintf(`,"amount":%d,"bill_no":%q,"pay_bill_no":%q`, part, refund, number))
	default:
		return call(wechat.PayV2, fmt.Sprintf(`,"amount":%d,"bill_no":%q`, amount, number))
	}
}

// call is one caller.
func (h *history) call(request wechat.Request, hangUp time.Duration) {
	c := &call{request: request, began: time.Now(), hungUp: hangUp > 0}
	c.before, _ = h.weChat.Order(orderOf(request))
	h.mu.Lock()
	h.calls = append(h.calls, c)
	processor, creds := h.processor, h.credentials
	c.forgets = processor.Replay == 0
	h.mu.Unlock()

	ctx := context.Background()
	if c.hungUp {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, hangUp)
		defer cancel()
	}
	answer := processor.Process(ctx, request, creds)
	order, known := h.weChat.Order(orderOf(request))

	h.mu.Lock()
	defer h.mu.Unlock()
	c.answer, c.order, c.known, c.ended = answer, order, known, time.Now()
}

func orderOf(request wechat.Request) simulator.OrderID { return numbered(request, request.BillNo()) }

// numbered returns the order that is called so where the request goes.
func numbered(request wechat.Request, billNo string) simulator.OrderID {
	id := simulator.OrderID{AppID: appID, Environment: request.Endpoint().Environment, BillNo: billNo}
	if request.Endpoint().API.Family == wechat.V2 {
		id.OpenID, id.ZoneID = request.OpenID(), request.Get("zone_id")
	}
	return id
}

// paidBy returns the pay that a cancel takes back.
func paidBy(cancel wechat.Request) simulator.OrderID { return numbered(cancel, cancel.PayBillNo()) }

func (c *call) String() string {
	return fmt.Sprintf("\n%s %s zone %s, %s %s of %d from %s to %s: %s after %d attempts (%s), books: %+v",
		c.request.Endpoint().Path, c.request.Endpoint().Environment, c.request.Get("zone_id"),
		c.request.BillNo(), c.request.Get("pay_bill_no"), c.request.Amount(), c.began.Format("05.000"), c.ended.Format("05.000"),
		c.answer.Outcome, c.answer.Attempts, c.answer.Body, c.order)
}

// tally counts what the histories held.
type tally struct {
	histories, calls, v2, refunds, attempts, hungUp, replayed, takenBack int
	outcomes                                                             map[outcome.Outcome]int
}

func (t *tally) add(h *history) {
	if t.outcomes == nil {
		t.outcomes = make(map[outcome.Outcome]int)
	}
	t.histories++
	for _, c := range h.calls {
		t.calls++
		t.attempts += c.answer.Attempts
		t.outcomes[c.answer.Outcome]++
		if c.hungUp {
			t.hungUp++
		}
		if c.answer.Replayed {
			t.replayed++
		}
		if c.request.Endpoint().API.Family == wechat.V2 {
			t.v2++
		}
		if c.request.Endpoint().API == wechat.CancelPayV2 && (c.answer.Outcome == outcome.Applied || c.answer.Outcome == outcome.AlreadyApplied) {
			t.refunds++
		}
		if c.answer.ErrorCode == outcome.TakenBack {
			t.takenBack++
		}
	}
}

func (t *tally) String() string {
	var outcomes []string
	for outcome, n := range t.outcomes {
		outcomes = append(outcomes, fmt.Sprintf("%s %d", outcome, n))
	}
	slices.Sort(outcomes)
	return fmt.Sprintf("%d histories, %d calls (%d of v2, %d refunds done, %d taken back, %d hung up, %d replayed), %d attempts: %s; no answer lied",
		t.histories, t.calls, t.v2, t.refunds, t.takenBack, t.hungUp, t.replayed, t.attempts, strings.Join(outcomes, ", "))
}
