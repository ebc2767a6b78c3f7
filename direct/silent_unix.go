//go:build unix && !aix

package direct

import (
	"errors"

	"golang.org/x/sys/unix"
)

const canAsk = true

// silent tells whether the kernel has neither bytes of the other side nor its end. Nobody
// reads from a connection that is kept, so the kernel is asked.
func (w *wire) silent() bool {
	silent := false
	err := w.socket.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		silent = errors.Is(err, unix.EAGAIN)
	})
	return err == nil && silent
}
