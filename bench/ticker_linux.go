package main

import (
	"encoding/binary"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A ticker is a clock of Linux that the runtime waits for as it does for sockets.
// Timers of Go's own are up to a millisecond late where nothing else goes on, which
// is more than what is measured here.
type ticker struct{ file *os.File }

func newTicker() (ticker, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return ticker{}, os.NewSyscallError("timerfd_create", err)
	}
	return ticker{os.NewFile(uintptr(fd), "timerfd")}, nil
}

// set makes the ticker tick after first, and then each interval, if there is one.
func (t ticker) set(first, interval time.Duration) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(first.Nanoseconds()), Interval: unix.NsecToTimespec(interval.Nanoseconds())}
	raw, err := t.file.SyscallConn() // Fd would make it blocking
	if err != nil {
		return err
	}
	var failure error
	err = raw.Control(func(fd uintptr) { failure = unix.TimerfdSettime(int(fd), 0, &spec, nil) })
	if err != nil {
		return err
	}
	return os.NewSyscallError("timerfd_settime", failure)
}

// wait waits until it has ticked, and tells how often it did since the last time.
func (t ticker) wait() (int, error) {
	var count [8]byte
	if _, err := t.file.Read(count[:]); err != nil {
		return 0, err
	}
	return int(binary.NativeEndian.Uint64(count[:])), nil //nolint:gosec // a count
}

func (t ticker) close() { _ = t.file.Close() }
