//go:build unix && !aix

package http1_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/http1"
)

// world is a server whose connections each do what a test says, and a transport that
// leads there. They meet on a socket of the file system, on which, other than by TCP,
// what one side wrote has arrived at the other once the write returns.
type world struct {
	*http1.Transport
	base           *http.Transport
	url            string
	dialed, closed atomic.Int32 // by the transport
}

// peer is the server's end of a connection, the number-th.
type peer struct {
	net.Conn
	*bufio.Reader
	number int
	gone   <-chan struct{} // where a test needs it: the other side has closed
}

func (p *peer) Read(b []byte) (int, error) { return p.Reader.Read(b) }

// heard reads one whole request, and is nil where there is none.
func (p *peer) heard() *http.Request {
	req, err := http.ReadRequest(p.Reader)
	if err != nil {
		return nil
	}
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return nil
	}
	return req
}

func (p *peer) say(s string) { _, _ = io.WriteString(p.Conn, s) }

// answer is one whole answer.
func answer(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// answers serves a connection as one should: each answer names connection and path.
func answers(p *peer) {
	for req := p.heard(); req != nil; req = p.heard() {
		p.say(answer(fmt.Sprintf("%d%s", p.number, req.URL.Path)))
	}
}

// overBoth runs a test without TLS and with it.
func overBoth(t *testing.T, test func(t *testing.T, scheme string)) {
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) { test(t, scheme) })
	}
}

// certificate is one of example.com, and who vouches for it.
var certificate = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	lender := httptest.NewTLSServer(http.NotFoundHandler())
	defer lender.Close()
	roots := x509.NewCertPool()
	roots.AddCert(lender.Certificate())
	return lender.TLS.Certificates[0], roots
})

func newWorld(t *testing.T, scheme string, serve func(*peer), changes ...func(*http.Transport)) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "http1") // t.TempDir is too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	listener, err := net.Listen("unix", filepath.Join(dir, "s"))
	require.NoError(t, err)
	certificate, roots := certificate()
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"}}

	w := &world{url: scheme + "://example.com"}
	w.base = &http.Transport{
		MaxIdleConnsPerHost: 100,
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, "unix", listener.Addr().String())
			if err != nil {
				return nil, err
			}
			w.dialed.Add(1)
			return &counted{UnixConn: c.(*net.UnixConn), closed: &w.closed}, nil
		},
	}
	for _, change := range changes {
		change(w.base)
	}
	w.Transport = http1.New(w.base, nil)

	var serving sync.WaitGroup
	var open []net.Conn
	serving.Go(func() {
		for number := 1; ; number++ {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			open = append(open, c)
			if scheme == "https" {
				c = tls.Server(c, config)
			}
			serving.Go(func() {
				defer c.Close()
				serve(&peer{Conn: c, Reader: bufio.NewReader(c), number: number})
			})
		}
	})
	t.Cleanup(func() {
		w.CloseIdleConnections()
		// One that had grown old or died before is closed by somebody else.
		require.Eventually(t, func() bool { return w.open() == 0 }, 10*time.Second, time.Millisecond, "connections are left open")
		_ = listener.Close()
		serving.Wait()
	})
	return w
}

// counted counts how many connections are closed.
type counted struct {
	*net.UnixConn
	once   sync.Once
	closed *atomic.Int32
}

func (c *counted) Close() error {
	c.once.Do(func() { c.closed.Add(1) })
	return c.UnixConn.Close()
}

func (w *world) open() int32 { return w.dialed.Load() - w.closed.Load() }

// order is a request with a body.
func (w *world) order(ctx context.Context, path string) *http.Request {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+path, strings.NewReader(`{"bill_no":"b1"}`))
	if err != nil {
		panic(err)
	}
	return req
}

// said is what the server says to a request.
func (w *world) said(t *testing.T, path string) string {
	t.Helper()
	body, err := read(w.RoundTrip(w.order(t.Context(), path)))
	require.NoError(t, err)
	return body
}

// read reads an answer to its end.
func read(res *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}
