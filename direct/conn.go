package direct

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// errNothingWritten wraps the error of a request of which no byte reached the network.
var errNothingWritten = errors.New("nothing was written")

// wire counts what is really written to the network, below TLS.
type wire struct {
	net.Conn
	written int64
}

func (w *wire) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	w.written += int64(n)
	return n, err
}

// dialed is a connection with TLS, if there is any, and the wire below, nil where that
// is not known.
type dialed struct {
	net.Conn
	wire *wire
}

// conn is a connection that carries one request at a time.
type conn struct {
	dialed
	key    string
	limit  int64
	reader *bufio.Reader
	writer *bufio.Writer
	left   int64 // how much of a header may still be read, -1 for any number of bytes
	idle   *idle // nil where it is used once
	since  time.Time
}

func newConn(d dialed, key string, limit int64, idle *idle) *conn {
	c := &conn{dialed: d, key: key, limit: limit, idle: idle}
	c.reader, c.writer = bufio.NewReader(limited{c}), bufio.NewWriter(d)
	return c
}

// limited reads no more than a header may have.
type limited struct{ *conn }

var errHeaderTooLarge = errors.New("the header of the answer is too large")

func (l limited) Read(b []byte) (int, error) {
	if l.left == 0 {
		return 0, errHeaderTooLarge
	}
	if l.left > 0 && int64(len(b)) > l.left {
		b = b[:l.left]
	}
	n, err := l.Conn.Read(b)
	if l.left > 0 {
		l.left -= int64(n)
	}
	return n, err
}

// exchange writes the request and reads the answer's header. The end of the request's
// context ends both, and the connection with them.
func (c *conn) exchange(req *http.Request) (*http.Response, error) {
	release := context.AfterFunc(req.Context(), func() { _ = c.SetDeadline(longAgo) })
	res, err := c.send(req)
	if err != nil {
		release()
		_ = c.Close()
		if ctx := req.Context(); ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	res.Body = &body{ReadCloser: res.Body, conn: c, release: release, keep: !req.Close && !res.Close && res.StatusCode != http.StatusSwitchingProtocols}
	return res, nil
}

func (c *conn) send(req *http.Request) (*http.Response, error) {
	before := c.wire.count()
	err := req.Write(c.writer)
	if err == nil {
		err = c.writer.Flush()
	}
	if err != nil {
		if c.wire != nil && c.wire.count() == before {
			return nil, fmt.Errorf("%w: %w", errNothingWritten, err)
		}
		return nil, err
	}
	// More than a few preliminary answers (RFC 9110, 15.2) are a joke at our expense.
	for range 5 {
		c.left = c.limit
		res, err := http.ReadResponse(c.reader, req)
		if err != nil {
			return nil, err
		}
		c.left = -1
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			return res, nil
		}
	}
	return nil, errors.New("there is no end of preliminary answers")
}

func (w *wire) count() int64 {
	if w == nil {
		return 0
	}
	return w.written
}

// quiet tells whether the other side has neither ended a kept connection nor said more
// than it was asked, which the next request would take for its answer.
func (c *conn) quiet() bool {
	if c.wire != nil && !c.wire.silent() {
		return false
	}
	if _, secure := c.Conn.(*tls.Conn); !secure {
		return true
	}
	// What TLS has read already, the kernel does not know.
	if c.SetReadDeadline(longAgo) != nil {
		return false
	}
	_, err := c.reader.Peek(1)
	return errors.Is(err, os.ErrDeadlineExceeded) && c.SetReadDeadline(time.Time{}) == nil
}

// body is the body of an answer. At its end the connection is free for others.
type body struct {
	io.ReadCloser
	conn    *conn
	release func() bool // of the context; false where that has ended
	keep    bool
	atEnd   bool
	closed  bool
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.atEnd = true
	}
	return n, err
}

// Close keeps the connection where the body was read to its end and nothing more came.
func (b *body) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	inTime := b.release()
	if b.keep && b.atEnd && inTime && b.conn.idle != nil && b.conn.reader.Buffered() == 0 {
		b.conn.idle.put(b.conn)
		return nil
	}
	return b.conn.Close()
}
