package http1

import (
	"net"
	"os"
	"syscall"
)

// wire is what a connection is below TLS. It counts what is really written to the
// network.
type wire struct {
	net.Conn
	socket  syscall.RawConn // nil where there is none to be asked
	written int64
	deaf    bool // reads nothing: as if a deadline had passed, after which TLS goes on
}

func newWire(c net.Conn) *wire {
	w := &wire{Conn: c}
	if s, ok := c.(syscall.Conn); ok && canAsk {
		w.socket, _ = s.SyscallConn()
	}
	return w
}

func (w *wire) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	w.written += int64(n)
	return n, err
}

func (w *wire) Read(b []byte) (int, error) {
	if w.deaf {
		return 0, os.ErrDeadlineExceeded
	}
	return w.Conn.Read(b)
}
