// Package handshake makes TLS handshakes work on networks that drop a large ClientHello.
//
// Go offers key exchanges with ML-KEM, whose keys make the ClientHello about 1,500 bytes
// long: two packets. Some networks drop those, and the handshake ends when its time is
// over, each time anew. Without ML-KEM the ClientHello is one packet.
package handshake

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"
)

// withoutFor is how long handshakes with a host leave out ML-KEM after one has timed out.
const withoutFor = 10 * time.Minute

// withMLKEM is how long, at the most, a handshake that offers ML-KEM may take. It leaves
// time for the one without.
const withMLKEM = 2 * time.Second

// TimeoutWithMLKEM returns how long a handshake that offers ML-KEM may take where one
// without it may take timeout, 0 for any time: half of that, and no more than 2 s.
func TimeoutWithMLKEM(timeout time.Duration) time.Duration {
	if timeout <= 0 {
		return withMLKEM
	}
	return min(timeout/2, withMLKEM)
}

// ErrTimeout is the error of a handshake that has timed out.
var ErrTimeout net.Error = timeoutError{}

type timeoutError struct{}

func (timeoutError) Error() string        { return "TLS handshake timed out" }
func (timeoutError) Timeout() bool        { return true }
func (timeoutError) Temporary() bool      { return true }
func (timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// classical are Go's key exchanges without ML-KEM.
var classical = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}

// WithoutMLKEM returns a copy of config, which may be nil, that does not offer ML-KEM. It
// returns nil where config offers none, or nothing else.
func WithoutMLKEM(config *tls.Config) *tls.Config {
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	curves := classical
	if chosen := config.CurvePreferences; len(chosen) > 0 {
		curves = slices.DeleteFunc(slices.Clone(chosen), func(c tls.CurveID) bool { return !slices.Contains(classical, c) })
		if len(curves) == 0 || len(curves) == len(chosen) {
			return nil
		}
	}
	config = config.Clone()
	config.CurvePreferences = curves
	return config
}

// Hosts remembers the hosts whose handshakes leave out ML-KEM. It is safe for concurrent
// use. A nil *Hosts remembers nothing.
type Hosts struct {
	log *slog.Logger

	mu    sync.Mutex
	until map[string]time.Time // by host: when a handshake tries ML-KEM again
}

// NewHosts returns an empty memory. The log is told when a host is taken in, and when it
// is dropped.
func NewHosts(log *slog.Logger) *Hosts {
	return &Hosts{log: log, until: make(map[string]time.Time)}
}

// OffersMLKEM reports whether the next handshake with host offers ML-KEM. Ten minutes after
// a time-out one handshake does; if that does not succeed, the next in ten minutes does.
func (h *Hosts) OffersMLKEM(host string) bool {
	if h == nil {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	until, without := h.until[host]
	if !without {
		return true
	}
	if time.Now().Before(until) {
		return false
	}
	h.until[host] = time.Now().Add(withoutFor)
	return true
}

// Ended takes in how a handshake ended, offered being what OffersMLKEM said of it, and
// returns its error: ErrTimeout if it has timed out.
func (h *Hosts) Ended(host string, offered bool, err error) error {
	timedOut := isTimeout(err)
	if timedOut {
		err = ErrTimeout
	}
	if h != nil && offered && (timedOut || err == nil) {
		h.note(host, timedOut)
	}
	return err
}

// note takes in how a handshake that offered ML-KEM ended.
func (h *Hosts) note(host string, timedOut bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, without := h.until[host]
	switch {
	case timedOut:
		h.until[host] = time.Now().Add(withoutFor)
		if !without {
			h.log.Warn("TLS handshake timed out; the next ones with this host leave out ML-KEM, since some networks drop a ClientHello of two packets",
				"host", host, "for", withoutFor)
		}
	case without:
		delete(h.until, host)
		h.log.Info("TLS handshake with ML-KEM succeeded; the next ones with this host offer it again", "host", host)
	}
}

// isTimeout reports whether err says that the time was over: that of the handshake, the
// attempt or TCP, but not that the caller has gone.
func isTimeout(err error) bool {
	network, ok := errors.AsType[net.Error](err) // context.DeadlineExceeded is one too
	return ok && network.Timeout()
}
