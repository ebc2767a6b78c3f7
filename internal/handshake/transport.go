package handshake

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// Transport is an http.RoundTripper that leaves ML-KEM out of its handshakes with the
// hosts that a Hosts remembers, behind a proxy too.
type Transport struct {
	hosts         *Hosts
	base, without *http.Transport // the same where ML-KEM cannot be left out
}

// defaultTimeout is how long a handshake without ML-KEM may take where nothing else is
// set, as in http.DefaultTransport: net/http goes on with one whose request has ended.
const defaultTimeout = 10 * time.Second

// NewTransport returns a transport over base, which is to be used for nothing else: its
// TLSHandshakeTimeout becomes TimeoutWithMLKEM. Where base makes its handshakes in a
// DialTLSContext of its own, or offers no choice, they stay as they are.
func NewTransport(base *http.Transport, hosts *Hosts) *Transport {
	config := WithoutMLKEM(base.TLSClientConfig)
	if config == nil || base.DialTLSContext != nil {
		return &Transport{nil, base, base}
	}
	without := base.Clone()
	without.TLSClientConfig = config
	if _, http2 := base.TLSNextProto["h2"]; http2 {
		// What base has there leads to base's own connections.
		without.TLSNextProto, without.ForceAttemptHTTP2 = nil, true
	}
	base.TLSHandshakeTimeout = TimeoutWithMLKEM(base.TLSHandshakeTimeout)
	if without.TLSHandshakeTimeout == 0 {
		without.TLSHandshakeTimeout = defaultTimeout
	}
	return &Transport{hosts, base, without}
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil || req.URL.Scheme != "https" {
		return t.base.RoundTrip(req)
	}
	host, transport := req.URL.Host, t.base
	offered := t.hosts.OffersMLKEM(host)
	if !offered {
		transport = t.without
	}
	var unfinished atomic.Bool
	watched := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		TLSHandshakeStart: func() { unfinished.Store(true) },
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			unfinished.Store(isTimeout(err))
			if err == nil {
				_ = t.hosts.Ended(host, offered, nil)
			}
		},
	})
	res, err := transport.RoundTrip(req.WithContext(watched))
	if err == nil || !unfinished.Load() {
		return res, err
	}
	if errors.Is(req.Context().Err(), context.DeadlineExceeded) {
		err = ErrTimeout // net/http says why the context has ended
	}
	return nil, t.hosts.Ended(host, offered, err)
}

// CloseIdleConnections closes the connections that no request uses.
func (t *Transport) CloseIdleConnections() {
	t.base.CloseIdleConnections()
	t.without.CloseIdleConnections()
}
