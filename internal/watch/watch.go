// Package watch notices in WeChat's answers what no single order shows, and tells an
// operator once: a clock that is wrong, a zone that nothing gets through to, a token of
// another app, a business code that is not known yet.
package watch

import (
	"log/slog"
	"sync"
	"time"

	"midas-sidecar/internal/payment"
	"midas-sidecar/internal/wechat"
)

// Watch looks at every attempt. Create it with New.
type Watch struct {
	log   *slog.Logger
	clock clock

	mu       sync.Mutex
	zones    map[zone]*streak
	codes    map[string]bool // the unknown business codes that the log has
	otherApp map[string]time.Time
}

// New returns a Watch that has seen nothing.
func New(log *slog.Logger) *Watch {
	return &Watch{
		log:      log,
		zones:    make(map[zone]*streak),
		codes:    make(map[string]bool),
		otherApp: make(map[string]time.Time),
	}
}

// Observe takes in an attempt.
func (w *Watch) Observe(a payment.Attempt) {
	w.clock.observe(a.Date, w.log)
	if a.End != payment.Answered {
		return
	}
	w.observeZone(a)
	switch {
	case a.Answer.UnknownBusinessCode() != "":
		w.observeBusinessCode(a)
	case a.Answer.Errcode == wechat.OtherApp:
		w.observeOtherApp(a)
	}
}

// maxCodes is how many unknown business codes the log gets.
const maxCodes = 100

func (w *Watch) observeBusinessCode(a payment.Attempt) {
	code := a.Answer.UnknownBusinessCode()
	w.mu.Lock()
	seen := w.codes[code] || len(w.codes) >= maxCodes
	w.codes[code] = w.codes[code] || !seen
	w.mu.Unlock()
	if !seen {
		w.log.Warn("WeChat answers -1 with a business code that is not known: such orders stay unknown",
			"appid", a.AppID, "api", a.Endpoint.API.Name, "environment", a.Endpoint.Environment, "text", printable(a.Answer.Errmsg))
	}
}

// otherAppRest is how long an app's next 90007 is not worth another line.
const otherAppRest = 10 * time.Minute

func (w *Watch) observeOtherApp(a payment.Attempt) {
	now := time.Now()
	w.mu.Lock()
	told, ok := w.otherApp[a.AppID]
	silent := ok && now.Sub(told) < otherAppRest
	if !silent {
		w.otherApp[a.AppID] = now
	}
	w.mu.Unlock()
	if !silent {
		w.log.Warn("WeChat says that the openid and the access_token are of different apps: look at the appid and at where the token comes from",
			"appid", a.AppID, "environment", a.Endpoint.Environment, "errcode", wechat.OtherApp)
	}
}

// printable returns the beginning of a text of WeChat's, up to where it may quote what was
// sent: a quote or a bracket, or a word as long as an openid, a token or a signature.
func printable(text string) string {
	const longest, longestWord = 120, 20
	word := 0
	for i, r := range text {
		switch {
		case r < ' ' || r == 0x7f || r == '"' || r == '\'' || r == '{' || r == '[' || i >= longest:
			return text[:i]
		case r == ' ':
			word = 0
		default:
			if word++; word > longestWord {
				return text[:i-longestWord]
			}
		}
	}
	return text
}
