package main

import "time"

// pause waits exactly as long as it is told. Its clock is made when it is first
// needed: most connections never are slow.
type pause struct {
	clock ticker
	made  bool
}

func (p *pause) wait(d time.Duration) {
	if !p.made {
		clock, err := newTicker()
		if err != nil {
			time.Sleep(d)
			return
		}
		p.clock, p.made = clock, true
	}
	if err := p.clock.set(d, 0); err == nil {
		_, err = p.clock.wait()
		if err == nil {
			return
		}
	}
	time.Sleep(d)
}

func (p *pause) close() {
	if p.made {
		p.clock.close()
	}
}
