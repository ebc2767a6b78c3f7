package watch

import (
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// maxOffset is how far apart two clocks may be. WeChat refuses calls whose ts is off,
	// and does not say by how much.
	maxOffset = time.Minute
	// slack keeps clocks that are as far apart as that from being told again and again.
	slack = 5 * time.Second
	// checkInterval is how often the header is read.
	checkInterval = time.Second
)

// clock compares WeChat's clock with the host's.
type clock struct {
	next   atomic.Int64 // when the header is read again, in Unix nanoseconds
	known  atomic.Bool
	offset atomic.Int64
	apart  atomic.Int32 // -1, 0 or 1: the sign of an offset that was told
}

// observe takes in the header Date of an answer that has just come, "" for none.
func (c *clock) observe(date string, log *slog.Logger) {
	now := time.Now()
	next := c.next.Load()
	if date == "" || now.UnixNano() < next || !c.next.CompareAndSwap(next, now.Add(checkInterval).UnixNano()) {
		return
	}
	said, err := http.ParseTime(date)
	if err != nil {
		return
	}
	offset := said.Sub(now)
	if offset > -time.Second && offset <= 0 {
		offset = 0 // the header knows no fractions
	}
	c.offset.Store(int64(offset))
	c.known.Store(true)

	apart := c.apart.Load()
	switch {
	case offset > maxOffset && apart != 1, offset < -maxOffset && apart != -1:
		sign := int32(1)
		if offset < 0 {
			sign = -1
		}
		if c.apart.CompareAndSwap(apart, sign) {
			log.Warn("this host's clock and WeChat's are apart: WeChat may refuse what is signed now; set the host's time", "wechat_ahead", offset.Round(time.Second))
		}
	case offset.Abs() <= maxOffset-slack && apart != 0:
		if c.apart.CompareAndSwap(apart, 0) {
			log.Info("this host's clock and WeChat's agree again", "wechat_ahead", offset.Round(time.Second))
		}
	}
}

// ClockOffset returns how far WeChat's clock was ahead of the host's when it was last seen,
// and false where it has not been seen.
func (w *Watch) ClockOffset() (offset time.Duration, ok bool) {
	return time.Duration(w.clock.offset.Load()), w.clock.known.Load()
}
