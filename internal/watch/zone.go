package watch

import (
	"time"

	"midas-sidecar/internal/payment"
	"midas-sidecar/internal/wechat"
)

const (
	// busyAnswers is how many answers in a row must be -1 before it is worth a word.
	busyAnswers = 20
	// maxZones is how many zones are watched at once. Callers choose their names.
	maxZones = 1000
	// idleZone is how long a zone without an answer counts.
	idleZone = 10 * time.Minute
)

// zone is what a game server calls, as WeChat publishes it.
type zone struct {
	appID       string
	environment wechat.Environment
	id          string
}

// streak is a row of answers of a zone that were all -1.
type streak struct {
	answers int
	since   time.Time
	last    time.Time
}

// observeZone notices a zone whose every answer is -1: one that is not published, or not
// enabled. WeChat gives it no other code.
func (w *Watch) observeZone(a payment.Attempt) {
	z, now := zone{a.AppID, a.Endpoint.Environment, a.ZoneID}, time.Now()
	busy := a.Answer.Errcode == wechat.Busy && a.Action == wechat.Unsure
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.zones[z]
	switch {
	case busy && s == nil:
		w.makeRoom(now)
		w.zones[z] = &streak{1, now, now}
	case busy:
		s.answers++
		s.last = now
		if s.answers == busyAnswers {
			w.log.Warn("WeChat answers -1 to everything: is the zone published in this environment, and virtual payment enabled?",
				"appid", z.appID, "environment", z.environment, "zone_id", z.id, "answers", s.answers, "since", s.since)
		}
	case s != nil:
		delete(w.zones, z)
		if s.answers >= busyAnswers {
			w.log.Info("WeChat no longer answers -1 to everything", "appid", z.appID, "environment", z.environment, "zone_id", z.id, "answers", s.answers)
		}
	}
}

// makeRoom forgets zones that no longer count, or any if all of them do.
func (w *Watch) makeRoom(now time.Time) {
	if len(w.zones) < maxZones {
		return
	}
	for z, s := range w.zones {
		if now.Sub(s.last) > idleZone {
			delete(w.zones, z)
		}
	}
	for z := range w.zones {
		if len(w.zones) < maxZones {
			return
		}
		delete(w.zones, z)
	}
}

// BusyZones calls yield with each app and environment that has zones whose every answer is
// -1, and how many.
func (w *Watch) BusyZones(yield func(appID string, environment wechat.Environment, zones int)) {
	type place struct {
		appID       string
		environment wechat.Environment
	}
	counts := make(map[place]int)
	w.mu.Lock()
	for z, s := range w.zones {
		if s.answers >= busyAnswers && time.Since(s.last) <= idleZone {
			counts[place{z.appID, z.environment}]++
		}
	}
	w.mu.Unlock()
	for p, zones := range counts {
		yield(p.appID, p.environment, zones)
	}
}
