// Package http1 sends HTTP/1.1 requests on the goroutine of whoever asks. The transport
// of net/http hands each request to two goroutines of the connection and back, which
// costs more than signing it; here the caller writes and reads for himself. Parsing and
// writing are net/http's own.
package http1

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"time"

	"golang.org/x/net/http/httpguts"

	"midas-sidecar/internal/handshake"
)

const (
	// maxHeader is how many bytes of an answer's header are read, as in net/http.
	maxHeader = 10 << 20

	// maxIdle is for how long a connection is kept where base does not say. It is not for
	// ever, as in net/http: nobody reads here, to see that the other side has left.
	maxIdle = 90 * time.Second
)

// Transport is an http.RoundTripper for HTTP/1.1, with and without TLS. It is for small
// requests: the answer is read when the whole request is written.
//
// It sends a request once, at most: where a kept connection turns out to be dead before
// any byte of the request was written, it takes another; after that it never repeats.
// Of a client's trace it calls GetConn and GotConn: without the latter nothing was sent.
type Transport struct {
	base         *http.Transport
	others       *handshake.Transport // base, for what it sends itself
	hosts        *handshake.Hosts
	tls, without *tls.Config   // with ML-KEM and without
	timeout      time.Duration // of a handshake, 0 for none
	idle         idle
}

// New returns a transport that dials, encrypts and keeps connections as base is set up
// to: of its fields, DialContext, TLSClientConfig, TLSHandshakeTimeout,
// DisableKeepAlives, IdleConnTimeout, MaxIdleConnsPerHost and MaxResponseHeaderBytes
// count; nothing is asked for in gzip. A connection whose socket the kernel cannot be
// asked about (that has no SyscallConn, or is not on Unix) is used once. What base would
// send by a proxy or by its DialTLSContext, base itself sends. Handshakes with the hosts
// that hosts remembers leave out ML-KEM; nil remembers none.
func New(base *http.Transport, hosts *handshake.Hosts) *Transport {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if base.TLSClientConfig != nil {
		config = base.TLSClientConfig.Clone()
	}
	config.NextProtos = []string{"http/1.1"}
	if config.ClientSessionCache == nil {
		config.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	t := &Transport{
		base: base, hosts: hosts, tls: config, without: handshake.WithoutMLKEM(config), timeout: base.TLSHandshakeTimeout,
		idle: idle{timeout: base.IdleConnTimeout, most: base.MaxIdleConnsPerHost},
	}
	if t.without == nil {
		t.hosts = nil
	}
	t.others = handshake.NewTransport(base, hosts)
	if t.idle.timeout <= 0 {
		t.idle.timeout = maxIdle
	}
	if t.idle.most == 0 {
		t.idle.most = http.DefaultMaxIdleConnsPerHost
	}
	return t
}

// RoundTrip sends the request and returns the answer as soon as its header is there. The
// context of the request holds until the answer's body is closed.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if !t.ours(req) {
		return t.others.RoundTrip(req)
	}
	asked := req
	if t.base.DisableKeepAlives && !req.Close {
		once := *req
		once.Close = true
		req = &once
	}
	trace := httptrace.ContextClientTrace(req.Context())
	if trace != nil && trace.GetConn != nil {
		trace.GetConn(req.URL.Host)
	}
	for {
		c, kept, err := t.connection(req.Context(), req.URL)
		if err != nil {
			if req.Body != nil {
				_ = req.Body.Close()
			}
			return nil, err
		}
		if trace != nil && trace.GotConn != nil {
			trace.GotConn(httptrace.GotConnInfo{Conn: c.Conn, Reused: kept})
		}
		res, err := c.exchange(req)
		if err == nil {
			res.Request = asked
			return res, nil
		}
		nothing, ok := errors.AsType[nothingWrittenError](err)
		if !ok {
			return nil, err
		}
		if !kept {
			return nil, nothing.error
		}
		if req = rewound(req); req == nil {
			return nil, nothing.error
		}
	}
}

// ours reports whether base would dial for this request and speak HTTP. What is wrong with
// any other, base says best.
func (t *Transport) ours(req *http.Request) bool {
	if req.URL == nil || req.URL.Host == "" || req.Method != "" && !httpguts.ValidHeaderFieldName(req.Method) {
		return false
	}
	if req.URL.Scheme != "http" && (req.URL.Scheme != "https" || t.base.DialTLSContext != nil) {
		return false
	}
	if t.base.Proxy == nil {
		return true
	}
	proxy, err := t.base.Proxy(req)
	return proxy == nil && err == nil
}

// rewound is the request with its body, which may have been read, as it was in the
// beginning, or nil where it cannot be had.
func rewound(req *http.Request) *http.Request {
	if req.Body == nil || req.Body == http.NoBody {
		return req
	}
	if req.GetBody == nil {
		return nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil
	}
	again := *req
	again.Body = body
	return &again
}

// connection returns one that was kept, or a new one.
func (t *Transport) connection(ctx context.Context, to *url.URL) (c *conn, kept bool, err error) {
	if ctx.Err() != nil {
		return nil, false, context.Cause(ctx)
	}
	key := to.Scheme + "://" + to.Host
	if c := t.idle.take(key); c != nil {
		return c, true, nil
	}
	c, err = t.dial(ctx, to)
	if err != nil {
		if ctx.Err() != nil && !errors.Is(err, handshake.ErrTimeout) {
			err = context.Cause(ctx)
		}
		return nil, false, err
	}
	c.key, c.idle, c.limit = key, &t.idle, t.base.MaxResponseHeaderBytes
	if c.limit <= 0 {
		c.limit = maxHeader
	}
	c.reader, c.writer = bufio.NewReader(limited{c}), bufio.NewWriter(c.Conn)
	return c, false, nil
}

func (t *Transport) dial(ctx context.Context, to *url.URL) (*conn, error) {
	dial := t.base.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	address, host, err := canonical(to)
	if err != nil {
		return nil, err
	}
	raw, err := dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	w := newWire(raw)
	if to.Scheme == "http" {
		return &conn{Conn: w, wire: w}, nil
	}
	secured, err := t.handshake(ctx, w, to, host)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	state := secured.ConnectionState()
	return &conn{Conn: secured, wire: w, tls: &state}, nil
}

func (t *Transport) handshake(ctx context.Context, w *wire, to *url.URL, host string) (*tls.Conn, error) {
	config, timeout := t.tls, t.timeout
	offered := t.hosts.OffersMLKEM(to.Host)
	switch {
	case !offered:
		config = t.without
	case t.hosts != nil:
		timeout = handshake.TimeoutWithMLKEM(timeout)
	}
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName = host
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	secured := tls.Client(w, config)
	err := t.hosts.Ended(to.Host, offered, secured.HandshakeContext(ctx))
	if errors.Is(err, handshake.ErrTimeout) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return secured, nil
}

// canonical is the address to dial and the name to expect there.
func canonical(to *url.URL) (address, host string, err error) {
	port := to.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[to.Scheme]
	}
	address, err = httpguts.PunycodeHostPort(net.JoinHostPort(to.Hostname(), port))
	if err != nil {
		return "", "", err
	}
	host, _, err = net.SplitHostPort(address)
	return address, host, err
}

// CloseIdleConnections closes the connections that nobody uses. One that comes back later
// is closed, too, unless there was another request; what that leaves behind ends with
// IdleConnTimeout.
func (t *Transport) CloseIdleConnections() {
	t.idle.closeAll()
	t.others.CloseIdleConnections()
}
