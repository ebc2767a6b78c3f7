// Package direct sends HTTP/1.1 requests on the goroutine of whoever asks. The transport
// of net/http hands each request to two goroutines of the connection and back, which
// costs more than signing it; here the caller writes and reads for himself. Parsing and
// writing are net/http's own.
package direct

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"time"
)

// maxHeader is how many bytes of an answer's header are read, as in net/http.
const maxHeader = 10 << 20

// Transport is an http.RoundTripper for HTTP/1.1, with and without TLS.
//
// It sends a request once, at most: where a kept connection turns out to be dead before
// any byte of the request was written, it takes another; after that it never repeats.
// Its httptrace hooks are GetConn and GotConn: without the latter nothing was sent.
type Transport struct {
	base *http.Transport
	tls  *tls.Config
	idle idle
}

// New returns a transport that dials, encrypts and keeps connections as base is set up
// to: of its fields, DialContext, DialTLSContext, TLSClientConfig, TLSHandshakeTimeout,
// DisableKeepAlives, IdleConnTimeout, MaxIdleConnsPerHost and MaxResponseHeaderBytes
// count. What base would send by a proxy, base itself sends.
func New(base *http.Transport) *Transport {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if base.TLSClientConfig != nil {
		config = base.TLSClientConfig.Clone()
	}
	config.NextProtos = []string{"http/1.1"}
	if config.ClientSessionCache == nil {
		config.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	return &Transport{base: base, tls: config, idle: idle{timeout: base.IdleConnTimeout, most: base.MaxIdleConnsPerHost}}
}

// RoundTrip sends the request and returns the answer as soon as its header is there. The
// context of the request holds until the answer's body is closed.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.base.Proxy != nil {
		if proxy, err := t.base.Proxy(req); proxy != nil || err != nil {
			return t.base.RoundTrip(req)
		}
	}
	if req.Body != nil {
		defer req.Body.Close()
	}
	trace := httptrace.ContextClientTrace(req.Context())
	if trace != nil && trace.GetConn != nil {
		trace.GetConn(req.URL.Host)
	}
	for {
		c, kept, err := t.connection(req.Context(), req.URL)
		if err != nil {
			return nil, err
		}
		if trace != nil && trace.GotConn != nil {
			trace.GotConn(httptrace.GotConnInfo{Conn: c.Conn, Reused: kept})
		}
		res, err := c.exchange(req)
		if errors.Is(err, errNothingWritten) && kept && rewind(req) {
			continue
		}
		return res, err
	}
}

// rewind makes a request whose body may have been read ready to be written again.
func rewind(req *http.Request) bool {
	if req.Body == nil || req.Body == http.NoBody {
		return true
	}
	if req.GetBody == nil {
		return false
	}
	body, err := req.GetBody()
	req.Body = body
	return err == nil
}

// connection returns one that was kept, or a new one.
func (t *Transport) connection(ctx context.Context, to *url.URL) (c *conn, kept bool, err error) {
	key := to.Scheme + "://" + to.Host
	if c := t.idle.take(key); c != nil {
		return c, true, nil
	}
	dialed, err := t.dial(ctx, to)
	if err != nil {
		return nil, false, err
	}
	keep := &t.idle
	if t.base.DisableKeepAlives {
		keep = nil
	}
	limit := t.base.MaxResponseHeaderBytes
	if limit <= 0 {
		limit = maxHeader
	}
	return newConn(dialed, key, limit, keep), false, nil
}

func (t *Transport) dial(ctx context.Context, to *url.URL) (dialed, error) {
	address := canonical(to)
	secure := to.Scheme == "https"
	if secure && t.base.DialTLSContext != nil {
		c, err := t.base.DialTLSContext(ctx, "tcp", address)
		return dialed{Conn: c}, err
	}
	dial := t.base.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	raw, err := dial(ctx, "tcp", address)
	if err != nil {
		return dialed{}, err
	}
	w := &wire{Conn: raw}
	if !secure {
		return dialed{Conn: w, wire: w}, nil
	}
	secured, err := t.handshake(ctx, w, to.Hostname())
	if err != nil {
		_ = raw.Close()
		return dialed{}, err
	}
	return dialed{Conn: secured, wire: w}, nil
}

func (t *Transport) handshake(ctx context.Context, w *wire, host string) (*tls.Conn, error) {
	config := t.tls
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName = host
	}
	if timeout := t.base.TLSHandshakeTimeout; timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	secured := tls.Client(w, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return secured, nil
}

// canonical is the address to dial.
func canonical(to *url.URL) string {
	port := to.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[to.Scheme]
	}
	return net.JoinHostPort(to.Hostname(), port)
}

// CloseIdleConnections closes the connections that nobody uses.
func (t *Transport) CloseIdleConnections() {
	t.idle.closeAll()
	t.base.CloseIdleConnections()
}

// longAgo as a deadline ends what a connection is doing.
var longAgo = time.Unix(1, 0)
