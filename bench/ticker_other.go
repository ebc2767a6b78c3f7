//go:build !linux

package main

import "time"

// A ticker is as exact as Go's own timers are.
type ticker struct{ *state }

type state struct {
	next     time.Time
	interval time.Duration
}

func newTicker() (ticker, error) { return ticker{new(state)}, nil }

// set makes the ticker tick after first, and then each interval, if there is one.
func (t ticker) set(first, interval time.Duration) error {
	t.next, t.interval = time.Now().Add(first), interval
	return nil
}

// wait waits until it has ticked, and tells how often it did since the last time.
func (t ticker) wait() (int, error) {
	time.Sleep(time.Until(t.next))
	ticks := 1
	for t.next = t.next.Add(t.interval); t.interval > 0 && time.Now().After(t.next); ticks++ {
		t.next = t.next.Add(t.interval)
	}
	return ticks, nil
}

func (ticker) close() {}
