//go:build unix && !aix

package http1

import (
	"errors"

	"golang.org/x/sys/unix"
)

const canAsk = true

// silent reports whether the kernel has neither bytes of the other side nor its end. Nobody
// reads from a connection that is kept, so the kernel is asked.
func (w *wire) silent() bool {
	silent := false
	err := w.socket.Control(func(fd uintptr) {
		sockets := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}} //nolint:gosec // numbers of open files are small
		n, err := unix.Poll(sockets[:], 0)
		for errors.Is(err, unix.EINTR) { // a signal says nothing about the socket
			n, err = unix.Poll(sockets[:], 0)
		}
		silent = n == 0 && err == nil
	})
	return err == nil && silent
}
