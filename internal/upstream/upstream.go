// Package upstream sends one message to WeChat and tells exactly how that ended.
package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"midas-sidecar/internal/handshake"
	"midas-sidecar/internal/wechat"
)

// maxAnswer is the size in bytes above which an answer is not read: WeChat's have
// a few hundred.
const maxAnswer = 64 << 10

// Client sends to WeChat's access points.
type Client struct {
	hosts     []*url.URL
	transport http.RoundTripper
}

// New returns a client for the hosts, in order of preference, given as
// "https://api.weixin.qq.com": nothing but scheme and host. The transport must not
// follow redirects, as no http.RoundTripper does.
func New(hosts []string, transport http.RoundTripper) (*Client, error) {
	c := &Client{transport: transport}
	for _, host := range hosts {
		u, err := url.Parse(host)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" ||
			u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
			// Not quoted: a part that should not be there may be a password.
			return nil, fmt.Errorf("upstream: must be http:// or https:// and a host, nothing more; number %d is not", len(c.hosts)+1)
		}
		c.hosts = append(c.hosts, u)
	}
	if len(c.hosts) == 0 {
		return nil, errors.New("upstream: at least one is needed")
	}
	return c, nil
}

// Exchange is how the sending of one message ended.
type Exchange struct {
	// Sent reports whether anything may have left this host. Only false is certain.
	Sent bool
	// Err is nil where a whole answer came back. It holds no URL and no body.
	Err error

	Status      int
	ContentType string
	Date        string // the header, as it came
	Body        []byte
}

// Strange reports whether the answer's status is a redirect or none at all, of which no
// caller could make sense.
func (e Exchange) Strange() bool {
	return e.Status < 200 || e.Status > 599 || 300 <= e.Status && e.Status < 400
}

// Send sends the message once, to the host whose turn it is: attempt 0 goes to the
// first, and so on round the list.
func (c *Client) Send(ctx context.Context, attempt int, message wechat.Outbound) Exchange {
	if ctx.Err() != nil {
		return Exchange{Err: context.Cause(ctx)}
	}
	var connection connection
	req := c.request(connection.watch(ctx), c.hosts[attempt%len(c.hosts)], message)
	req.GetBody = func() (io.ReadCloser, error) {
		// On a kept connection that died before anything was written, net/http
		// takes another and needs the body again. On HTTP/2 it would also send
		// again what a server says it did not look at, and a GET whose answer was
		// lost: that is not its decision.
		if connection.http2.Load() || req.Method == http.MethodGet && connection.wrote.Load() {
			return nil, errSentOnce
		}
		return newBody(message), nil
	}

	res, err := c.transport.RoundTrip(req)
	if err != nil {
		if connection.maySend() {
			return Exchange{Sent: true, Err: lost(err)}
		}
		return Exchange{Err: withoutURL(err)}
	}
	defer res.Body.Close()
	body, err := read(res)
	if err != nil {
		return Exchange{Sent: true, Err: err}
	}
	return Exchange{Sent: true, Status: res.StatusCode, ContentType: res.Header.Get("Content-Type"), Date: res.Header.Get("Date"), Body: body}
}

// read reads a whole answer.
func read(res *http.Response) ([]byte, error) {
	if res.StatusCode == http.StatusSwitchingProtocols {
		// What follows is no answer, and net/http no longer watches the clock.
		return nil, errors.New("the answer switches to another protocol")
	}
	if res.ContentLength > maxAnswer {
		return nil, errTooLarge
	}
	if res.ContentLength <= 0 { // unknown, or none, or never set
		return readToEnd(res.Body)
	}
	answer := make([]byte, res.ContentLength)
	if _, err := io.ReadFull(res.Body, answer); err != nil {
		return nil, lost(err)
	}
	// Only its end frees the connection.
	_, _ = res.Body.Read(make([]byte, 1))
	return answer, nil
}

// readToEnd reads an answer that does not say how long it is.
func readToEnd(body io.Reader) ([]byte, error) {
	answer, err := io.ReadAll(io.LimitReader(body, maxAnswer+1))
	if err != nil {
		return nil, lost(err)
	}
	if len(answer) > maxAnswer {
		return nil, errTooLarge
	}
	return answer, nil
}

var errTooLarge = fmt.Errorf("the answer is larger than %d bytes", maxAnswer)

// Ask sends a message that may be repeated without harm, to one host after the
// other until one answers. Each gets its share of the time that is left, so that
// one that hangs does not keep the message from the next.
func (c *Client) Ask(ctx context.Context, message wechat.Outbound) (Exchange, error) {
	var exchange Exchange
	for attempt := range c.hosts {
		share, cancel := share(ctx, len(c.hosts)-attempt)
		exchange = c.Send(share, attempt, message)
		cancel()
		if exchange.Err == nil && exchange.Status < 500 || ctx.Err() != nil {
			break
		}
	}
	if errors.Is(exchange.Err, handshake.ErrTimeout) && ctx.Err() == nil {
		exchange = c.Send(ctx, 0, message) // by a smaller handshake
	}
	return exchange, exchange.Err
}

// share returns a context for one of n equal parts of the time that ctx has left.
func share(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, time.Until(deadline)/time.Duration(n))
}

// request makes the request from nothing: no header of the caller's is on it, and
// none (Idempotency-Key!) that makes net/http send a POST twice by itself. A message
// without a body is a GET; its body is empty and not nil, so that net/http has to ask
// before it sends that again.
func (c *Client) request(ctx context.Context, host *url.URL, message wechat.Outbound) *http.Request {
	req := blank.WithContext(ctx)
	req.Method = message.Method()
	req.URL = &url.URL{Scheme: host.Scheme, Host: host.Host, Path: message.Path(), RawQuery: message.Query()}
	req.Host = host.Host
	req.Header = headerOfPost
	if req.Method == http.MethodGet {
		req.Header = headerOfGet
	}
	req.Body = newBody(message)
	req.ContentLength = int64(len(message.Body()))
	return req
}

// blank is a request that says nothing yet. net/http sets a context in a copy alone.
var blank = new(http.Request)

// The headers are the same for all messages: an http.RoundTripper must not change them.
var (
	headerOfGet  = http.Header{"User-Agent": {"midas-sidecar"}}
	headerOfPost = http.Header{"Content-Type": {"application/json"}, "User-Agent": {"midas-sidecar"}}
)

// newBody returns a message's body on its way out. net/http knows this type, and that it
// need not wait for it: header and body go out in one write, and in one packet.
func newBody(message wechat.Outbound) io.ReadCloser {
	return io.NopCloser(bytes.NewReader(message.Body()))
}

var errSentOnce = errors.New("the server did not accept the message")

// connection follows what the transport does before it writes.
type connection struct{ wanted, got, wrote, http2 atomic.Bool }

func (c *connection) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { c.wanted.Store(true) },
		GotConn: func(info httptrace.GotConnInfo) {
			c.got.Store(true)
			if secured, ok := info.Conn.(*tls.Conn); ok && secured.ConnectionState().NegotiatedProtocol == "h2" {
				c.http2.Store(true)
			}
		},
		WroteHeaders: func() { c.wrote.Store(true) },
	})
}

// maySend reports whether bytes of the message may have left although the round trip
// failed. Nothing can have left only where the transport asked for a connection
// and never got one: the name was not found, the dial was refused, TLS failed, the
// time ran out before. A transport that does not tell is never believed.
func (c *connection) maySend() bool {
	return c.got.Load() || !c.wanted.Load()
}

// lost says how the exchange broke off once a connection was there. net/http
// quotes what it cannot read, and that may be an echo of what was sent or half an
// answer with a token in it: only the network's own errors keep their words.
func lost(err error) error {
	err = withoutURL(err)
	var network net.Error // context.DeadlineExceeded is one too
	switch {
	case errors.As(err, &network):
		return network
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return io.ErrUnexpectedEOF
	}
	cause := err
	for next := errors.Unwrap(cause); next != nil; next = errors.Unwrap(cause) {
		cause = next
	}
	return fmt.Errorf("the answer cannot be read (%T)", cause)
}

// withoutURL drops the URL that a *url.Error would print, access_token included.
func withoutURL(err error) error {
	var withURL *url.Error
	for errors.As(err, &withURL) {
		err = withURL.Err
	}
	return err
}
