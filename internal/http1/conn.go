package http1

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// conn is a connection that carries one request at a time.
type conn struct {
	net.Conn // the wire, or TLS on it
	wire     *wire
	tls      *tls.ConnectionState // nil without TLS
	key      string
	idle     *idle
	since    time.Time // when it was put there
	limit    int64
	reader   *bufio.Reader
	writer   *bufio.Writer
	left     int64 // how much of a header may still be read, -1 for any number of bytes
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

// nothingWrittenError is the error of a request of which no byte reached the network.
type nothingWrittenError struct{ error }

func (e nothingWrittenError) Unwrap() error { return e.error }

// exchange writes the request and reads the answer's header. The end of the request's
// context ends both, and the connection with them.
func (c *conn) exchange(req *http.Request) (*http.Response, error) {
	// Closed and not given a deadline, which a wrapped connection may put off again.
	release := context.AfterFunc(req.Context(), func() { _ = c.wire.Close() })
	res, err := c.send(req)
	if err != nil {
		release()
		_ = c.Close()
		if ctx := req.Context(); ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	res.TLS = c.tls
	b := &body{
		ReadCloser: res.Body, req: req, conn: c, release: release,
		keep: !req.Close && !res.Close && res.StatusCode >= 200,
	}
	b.atEnd.Store(res.Body == http.NoBody)
	res.Body = b
	return res, nil
}

func (c *conn) send(req *http.Request) (*http.Response, error) {
	before := c.wire.written
	err := req.Write(c.writer)
	if err == nil {
		err = c.writer.Flush()
	}
	if err != nil {
		if c.wire.written == before {
			return nil, nothingWrittenError{err}
		}
		return nil, err
	}
	// Once for all, so that preliminary answers have an end.
	c.left = c.limit
	for {
		res, err := http.ReadResponse(c.reader, req)
		if err != nil && c.left == 0 {
			return nil, errHeaderTooLarge
		}
		if err != nil {
			return nil, err
		}
		if preliminary := res.StatusCode >= 100 && res.StatusCode < 200; !preliminary || res.StatusCode == http.StatusSwitchingProtocols {
			c.left = -1
			return res, nil
		}
	}
}

// quiet reports whether the other side has neither ended a kept connection nor said more
// than it was asked, which the next request would take for its answer.
func (c *conn) quiet() bool {
	if !c.wire.silent() {
		return false
	}
	// What was read and not yet asked for, in TLS above all, the kernel does not know.
	c.wire.deaf = true
	_, err := c.reader.Peek(1)
	c.wire.deaf = false
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// body is the body of an answer. Once it was read to its end and closed, the connection
// is free for others.
type body struct {
	io.ReadCloser
	req     *http.Request
	conn    *conn
	release func() bool // of the context; false where that has ended
	keep    bool
	atEnd   atomic.Bool
	closed  atomic.Bool
}

func (b *body) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF { //nolint:errorlint // an error that wraps it is not the end of a body
		b.atEnd.Store(true)
	} else if ctx := b.req.Context(); err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return n, err
}

// Close keeps the connection where the body was read to its end and nothing more came.
// It may be called while another goroutine reads, to which it then is the end.
func (b *body) Close() error {
	if b.closed.Swap(true) {
		return nil
	}
	inTime := b.release()
	if b.keep && inTime && b.atEnd.Load() && b.conn.reader.Buffered() == 0 {
		b.conn.idle.put(b.conn)
	} else {
		_ = b.conn.Close()
	}
	return nil
}
