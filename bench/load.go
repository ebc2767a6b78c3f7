package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// job is what the load is told to do.
type job struct {
	Address     string // of the proxy
	Family      string // of the API
	Outcome     bool   // its answers must carry Midas-Outcome: applied
	Connections int
	Players     int // each payment is the next one's
	Apps        int // of the players, 0 where a payment names none
	// Payments ends the job after that many, so that each player can have a turn.
	// Otherwise it goes on for Warm, which does not count, and for Measure.
	Payments      int
	Warm, Measure time.Duration
	// Rate is how many payments a second are due, whatever becomes of those before;
	// 0 makes each connection pay again as soon as it has its answer.
	Rate int
}

// outcome is what became of a job.
type outcome struct {
	Payments, Failures int
	Failure            string // the first
	P50, P99           time.Duration
	Seconds            float64
}

// started is said when the time begins that is measured.
type started struct{}

// load does the jobs that it is told.
func load(in *json.Decoder, out *json.Encoder) error {
	orders := time.Now().UnixMicro() // so that no bill_no comes twice
	for {
		var j job
		if err := in.Decode(&j); err != nil {
			return err
		}
		w := work{job: j, firstOrder: orders, zero: time.Now()}
		callers, err := newCallers(j)
		if err != nil {
			w.fail(err)
		}
		w.begin(callers)
		if err := out.Encode(started{}); err != nil {
			return err
		}
		if err := out.Encode(w.finish()); err != nil {
			return err
		}
		orders += w.next.Load()
		for _, c := range callers {
			c.close()
		}
	}
}

// work is a job that is being done.
type work struct {
	job
	firstOrder int64
	next       atomic.Int64
	due        chan time.Time // when payments are, in an open loop
	stop       atomic.Bool
	callers    sync.WaitGroup
	zero       time.Time     // all times are since then
	from       time.Duration // when what is measured began

	mu       sync.Mutex
	done     []payment
	failures int
	failure  error
}

// payment tells when one was due, and when it was answered.
type payment struct{ due, answered time.Duration }

// begin starts to call, and returns when all is warm.
func (w *work) begin(callers []*caller) {
	if w.Rate > 0 && len(callers) > 0 {
		w.due = make(chan time.Time, w.Rate*60) // what is late waits here, and is paid in the end
		go w.pace()
	}
	for i, c := range callers {
		w.callers.Go(func() { w.callAgainAndAgain(c) })
		// All at once, thousands would overrun the queue of a socket that listens.
		if i%100 == 99 {
			time.Sleep(50 * time.Millisecond)
		}
	}
	if w.Payments > 0 {
		return
	}
	time.Sleep(w.Warm)
	w.waitFor(2 * int64(w.Connections)) // by then each connection, there and back, is open
	w.from = time.Since(w.zero)
}

// finish returns what became of the job in its time.
func (w *work) finish() outcome {
	if w.Payments == 0 {
		orders := w.next.Load()
		time.Sleep(w.Measure)
		w.waitFor(orders + int64(w.Connections) + 1) // on a machine that is very busy
	}
	to := time.Since(w.zero)
	w.stop.Store(w.Payments == 0)
	w.callers.Wait()
	if w.Payments > 0 {
		to = time.Since(w.zero)
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	o := outcome{Failures: w.failures, Seconds: (to - w.from).Seconds()}
	if w.failure != nil {
		o.Failure = w.failure.Error()
	}
	// A closed loop counts what it got done, an open one what was due.
	var took []time.Duration
	for _, p := range w.done {
		at := p.answered
		if w.Rate > 0 {
			at = p.due
		}
		if at >= w.from && at < to {
			took = append(took, p.answered-p.due)
		}
	}
	if o.Payments = len(took); o.Payments > 0 {
		slices.Sort(took)
		o.P50, o.P99 = quantile(took, 50), quantile(took, 99)
	}
	return o
}

// waitFor waits until so many orders have been given out, but not for ever.
func (w *work) waitFor(orders int64) {
	for start := time.Now(); w.next.Load() < orders && time.Since(start) < patience; {
		time.Sleep(10 * time.Millisecond)
	}
}

// pace tells when payments are due.
func (w *work) pace() {
	defer close(w.due)
	clock, err := newTicker()
	if err != nil {
		w.fail(err)
		return
	}
	defer clock.close()
	interval := time.Second / time.Duration(w.Rate)
	due := time.Now()
	if err := clock.set(interval, interval); err != nil {
		w.fail(err)
		return
	}
	for !w.stop.Load() {
		ticks, err := clock.wait()
		if err != nil {
			w.fail(err)
			return
		}
		for range ticks {
			due = due.Add(interval)
			w.due <- due
		}
	}
}

// callAgainAndAgain pays one order after the other on one connection.
func (w *work) callAgainAndAgain(c *caller) {
	var done []payment
	for {
		due, more := w.wait()
		order := w.next.Add(1) - 1
		if !more || w.Payments > 0 && order >= int64(w.Payments) {
			break
		}
		if err := c.pay(w.firstOrder+order, int(order)%w.Players); err != nil {
			w.fail(err)
			time.Sleep(10 * time.Millisecond)
			if err := c.redial(); err != nil {
				w.fail(err)
			}
			continue
		}
		done = append(done, payment{due.Sub(w.zero), time.Since(w.zero)})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = append(w.done, done...)
}

// wait returns when the next payment is due: at once in a closed loop. In an open one
// that may have been before: what it waited for a connection counts, and what is due
// is paid, however late.
func (w *work) wait() (due time.Time, more bool) {
	if w.Rate == 0 {
		return time.Now(), !w.stop.Load()
	}
	due, more = <-w.due
	return due, more
}

func (w *work) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures++
	if w.failure == nil {
		w.failure = err
	}
}

// quantile returns what n per cent of the times do not exceed.
func quantile(sorted []time.Duration, n int) time.Duration {
	return sorted[max(0, (len(sorted)*n+99)/100-1)]
}

// longest is how long a job may take: a proxy that hangs must not hang the benchmark.
const longest = 5 * time.Minute

// caller is a game server at the end of one connection. Its request is written once,
// and for each payment only what differs is written over.
type caller struct {
	job
	conn                net.Conn
	in                  *bufio.Reader
	body                []byte
	request             []byte
	billNo, player, app []byte // within the request
}

// newCallers connects as many as the job asks for.
func newCallers(j job) (callers []*caller, err error) {
	for range j.Connections {
		c, err := newCaller(j)
		if err != nil {
			return callers, err
		}
		callers = append(callers, c)
	}
	return callers, nil
}

func newCaller(j job) (*caller, error) {
	c := &caller{job: j}
	f := familyOf(j.Family)
	body := fmt.Sprintf(`{"openid":%q,%q:1,"bill_no":%q`, openID(0), f.amount, billNo(0))
	if j.Apps > 0 {
		body += fmt.Sprintf(`,"appid":%q`, appID(0))
	}
	body += "}"
	c.request = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", f.path, j.Address, len(body), body)
	c.player, c.billNo, c.app = c.find(openID(0)), c.find(billNo(0)), c.find(appID(0))
	return c, c.redial()
}

// find returns the place of text in the request, empty where it is not there.
func (c *caller) find(text string) []byte {
	at := bytes.Index(c.request, []byte(text))
	if at < 0 {
		return nil
	}
	return c.request[at : at+len(text)]
}

func (c *caller) redial() error {
	c.close()
	conn, err := net.DialTimeout("tcp", c.Address, patience) //nolint:noctx // it has its timeout
	if err != nil {
		return err
	}
	c.conn, c.in = conn, bufio.NewReaderSize(conn, 2<<10)
	return conn.SetDeadline(time.Now().Add(longest))
}

func (c *caller) close() {
	if c.conn != nil {
		_ = c.conn.Close()
	}
}

// pay pays one order and makes sure that it was.
func (c *caller) pay(order int64, player int) error {
	writeNumber(c.billNo, order)
	writeNumber(c.player[len(c.player)-9:], int64(player))
	if c.app != nil {
		writeNumber(c.app[2:], int64(firstApp+player%c.Apps))
	}
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	status := string(bytes.TrimSpace(line))
	h, err := readHead(c.in)
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if c.body, err = readBody(c.in, h.length, c.body); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	paid, _ := billNoOf(c.body)
	switch {
	case status != "HTTP/1.1 200 OK" || !bytes.Contains(c.body, []byte(`"errcode":0,`)):
		return fmt.Errorf("the answer is %s %.200s", status, c.body)
	case !bytes.Equal(paid, c.billNo):
		return errors.New("the answer is another order's")
	case c.Outcome && !h.outcome:
		return errors.New("the answer has no Midas-Outcome: applied")
	}
	return nil
}

// writeNumber writes a number over the end of digits, which are zeros or numbers
// before.
func writeNumber(digits []byte, n int64) {
	var buffer [20]byte
	text := strconv.AppendInt(buffer[:0], n, 10)
	zeros := len(digits) - len(text)
	for i := range zeros {
		if digits[i] >= '0' && digits[i] <= '9' {
			digits[i] = '0'
		}
	}
	copy(digits[zeros:], text)
}
