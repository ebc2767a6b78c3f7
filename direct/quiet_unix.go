//go:build unix

package direct

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// silent tells whether the kernel has neither bytes of the other side nor its end. Nobody
// reads from a connection that is kept, so the kernel is asked.
func (w *wire) silent() bool {
	socket, ok := w.Conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	silent := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		silent = errors.Is(err, unix.EAGAIN)
	})
	return err == nil && silent
}
