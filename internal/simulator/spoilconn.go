package simulator

import (
	"context"
	"io"
	"math"
	"net"
	"net/http"
	"time"
)

// lose closes the connection without an answer.
func lose(_ *victim, out *reply) {
	out.deliver = func(http.ResponseWriter, *http.Request, []byte) { abort() }
}

// hang says nothing for as long as the client listens.
func hang(v *victim, out *reply) {
	out.deliver = func(_ http.ResponseWriter, r *http.Request, _ []byte) {
		v.pause(r.Context(), forever)
		abort()
	}
}

// cut breaks off in the middle of the body.
func cut(_ *victim, out *reply) {
	out.deliver = func(w http.ResponseWriter, _ *http.Request, text []byte) {
		writeHalf(w, text)
		abort()
	}
}

func reset(_ *victim, out *reply) {
	out.deliver = func(w http.ResponseWriter, _ *http.Request, _ []byte) { sendReset(takeOver(w)) }
}

func resetHeaders(_ *victim, out *reply) {
	out.deliver = func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		conn := takeOver(w)
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: applica")
		sendReset(conn)
	}
}

func resetBody(_ *victim, out *reply) {
	out.deliver = func(w http.ResponseWriter, _ *http.Request, text []byte) {
		writeHalf(w, text)
		sendReset(takeOver(w))
	}
}

// drip writes the body byte by byte. When the faults are over, so is the wait.
func drip(v *victim, out *reply) {
	out.deliver = func(w http.ResponseWriter, r *http.Request, text []byte) {
		control := http.NewResponseController(w)
		for i := range text {
			_, _ = w.Write(text[i : i+1])
			if control.Flush() != nil || r.Context().Err() != nil {
				return
			}
			v.pause(r.Context(), v.delay)
		}
	}
}

// deadConnection answers well, and keeps the connection only until its client
// trusts it with another request: what that client sees is the end of a connection
// that it has written to, without a hint of how much was read.
func deadConnection(v *victim, out *reply) {
	out.deliver = func(w http.ResponseWriter, r *http.Request, text []byte) {
		_, _ = w.Write(text)
		control := http.NewResponseController(w)
		_ = control.Flush()
		conn, buffered, err := control.Hijack()
		if err != nil {
			return // HTTP/2
		}
		out.then = func() {
			used := make(chan struct{})
			go func() {
				defer close(used)
				_, _ = buffered.Peek(1) // the next request, or the client's end
			}()
			select {
			case <-used:
			case <-v.over:
			case <-r.Context().Done():
			}
			_ = conn.Close()
			<-used
		}
	}
}

// writeHalf writes the headers of the whole answer and half of its body.
func writeHalf(w http.ResponseWriter, text []byte) {
	_, _ = w.Write(half(text))
	_ = http.NewResponseController(w).Flush()
}

// abort ends a call without an answer or in the middle of it: net/http then closes
// the connection, or resets the stream of HTTP/2.
func abort() { panic(http.ErrAbortHandler) }

// takeOver returns the connection that a call came on.
func takeOver(w http.ResponseWriter) net.Conn {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		abort() // HTTP/2
	}
	return conn
}

// sendReset ends a connection by a reset in place of an orderly close.
func sendReset(conn net.Conn) {
	raw := conn
	if encrypted, ok := conn.(interface{ NetConn() net.Conn }); ok {
		raw = encrypted.NetConn() // TLS would say goodbye
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = raw.Close()
}

const forever time.Duration = math.MaxInt64

// pause waits for d, unless the client leaves before, or other faults are set.
func (v *victim) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-v.over:
	}
}
