// Package accesstoken keeps an app's access_token at hand.
package accesstoken

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"midas-sidecar/internal/breaker"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/upstream"
	"midas-sidecar/internal/wechat"
)

const (
	// look is how often WeChat is asked for the token, which is what it advises
	// to independent callers: a token that another process had replaced is good
	// for five minutes more.
	look = 5 * time.Minute
	// patience is how long one fetch may take.
	patience = 5 * time.Second
	// pause is how long WeChat is left alone after it was asked, whatever for.
	pause = time.Second
	// leisure is how long, at least, it is left alone after a fetch that failed
	// while there is a token that is good. WeChat counts the calls of a day.
	leisure = 10 * time.Second
	// longestPause is what pause grows to while WeChat gives the very token that
	// it refuses.
	longestPause = time.Minute
)

// Asker sends a message to WeChat that may be repeated without harm.
type Asker interface {
	Ask(context.Context, wechat.Outbound) (upstream.Exchange, error)
}

// AppSecret reads the app secret. Where WeChat says that it is wrong, refused is
// the one it does not take, and what is kept of that must not be believed.
type AppSecret func(ctx context.Context, refused secrets.Value) (secrets.Value, error)

// Stable gets the app's token from stable_token in normal mode. Any number of
// processes may do so side by side: none takes the token of another away.
//
// A token is renewed in the background while it is still good; callers wait only
// where there is none, and then for one fetch between them.
type Stable struct {
	appID   string
	secret  AppSecret
	asker   atomic.Pointer[Asker]
	breaker *breaker.Breaker
	log     *slog.Logger

	now   atomic.Pointer[state]
	fetch singleflight.Group
}

// state is what is known of the token. One that has expired is kept until there is
// another.
type state struct {
	token   secrets.Value
	expires time.Time
	err     error // why the last fetch brought none

	asked time.Time // when WeChat was last asked
	renew time.Time // when to ask again

	doubted bool          // WeChat has refused the token since it was asked for it
	again   int           // how many times running it then gave the same one
	refused secrets.Value // the app secret, if that was what it did not take
}

// New returns the token of the app with the appid. log is told when the token
// begins to be out of reach and when that ends.
func New(appID string, secret AppSecret, asker Asker, log *slog.Logger) *Stable {
	s := &Stable{appID: appID, secret: secret, log: log.With("appid", appID)}
	s.now.Store(new(state))
	s.SetAsker(asker)
	log = slog.New(dated{s.log.Handler(), s.goodUntil})
	s.breaker = breaker.New(log, "access_token cannot be had", "access_token can be had again", breaker.NewPace(pause))
	return s
}

// SetAsker makes asker the one who asks from now on.
func (s *Stable) SetAsker(asker Asker) { s.asker.Store(&asker) }

// Status is what may be known of a token by whoever watches it.
type Status struct {
	// Expires is when the token ends or has ended, zero where there never was one.
	Expires time.Time
	// Failure is why no other can be had, nil where one can.
	Failure error
	// Since is when that began.
	Since time.Time
}

// Status returns how things are now.
func (s *Stable) Status() Status {
	since, failure := s.breaker.State()
	return Status{s.now.Load().expires, failure, since}
}

// Forget drops the token. The next one who needs it asks WeChat, which gives the
// same one while it is good.
func (s *Stable) Forget() { s.now.Store(new(state)) }

// Token returns a token that is good now.
func (s *Stable) Token(ctx context.Context) (secrets.Value, error) {
	known, now := s.now.Load(), time.Now()
	if !known.good(now) {
		return s.wait(ctx)
	}
	if now.After(known.renew) {
		s.refresh()
	}
	return known.token, nil
}

// wait refreshes the token if that is due, and returns it.
func (s *Stable) wait(ctx context.Context) (secrets.Value, error) {
	select {
	case result := <-s.refresh():
		return result.Val.(*state).use(time.Now())
	case <-ctx.Done():
		return secrets.Value{}, fmt.Errorf("waiting for the access_token: %w", context.Cause(ctx))
	}
}

// Renew is Token where WeChat refused a token before its time. It asks WeChat again,
// in normal mode, unless that has been done since the token failed: a late refusal
// of the old token must not throw away the new one. The token stays in use until
// there is another.
//
// WeChat is left alone for a while after each question, the longer the more often it
// gave the same token again. Renew waits for that as long as the deadline of ctx allows,
// a second where there is none: an order that WeChat refuses whatever its token stretches
// the pause, and must not keep the next ones from a token that was replaced meanwhile.
func (s *Stable) Renew(ctx context.Context, failed secrets.Value) (secrets.Value, error) {
	began := time.Now()
	for range 2 { // what is under way may have begun before the token failed
		soonest, doubtful := s.doubt(failed, began)
		if !doubtful || soonest.After(latest(ctx)) {
			break
		}
		if err := rest(ctx, time.Until(soonest)); err != nil {
			return secrets.Value{}, err
		}
		if _, err := s.wait(ctx); err != nil {
			return secrets.Value{}, err
		}
		if s.now.Load().err != nil {
			break // there is no other, and waiting once is enough
		}
	}
	return s.Token(ctx)
}

// latest returns until when a renewal may wait for its turn.
func latest(ctx context.Context) time.Time {
	if deadline, ok := ctx.Deadline(); ok {
		return deadline
	}
	return time.Now().Add(pause)
}

// doubt brings the next look forward to soonest if failed is the token in use and
// WeChat has not been asked since the time began.
func (s *Stable) doubt(failed secrets.Value, began time.Time) (soonest time.Time, doubtful bool) {
	for {
		known := s.now.Load()
		if known.token != failed || !known.asked.Before(began) {
			return time.Time{}, false
		}
		next := *known
		next.doubted = true
		if soonest := known.asked.Add(known.pause()); soonest.Before(next.renew) {
			next.renew = soonest
		}
		if s.now.CompareAndSwap(known, &next) {
			return next.renew, true
		}
	}
}

// pause is how long after the last time to ask for a token in place of one that
// was refused. It doubles while WeChat gives the same one again.
func (s *state) pause() time.Duration { return min(pause<<min(s.again, 30), longestPause) }

// rest waits for d, or until ctx ends, which is its error.
func rest(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting to ask for the access_token again: %w", context.Cause(ctx))
	}
}

func (s *state) good(now time.Time) bool { return !s.token.IsZero() && now.Before(s.expires) }

var errExpired = errors.New("the access_token that WeChat gave has expired")

// use returns the token if it is good, or else why there is none: never neither.
func (s *state) use(now time.Time) (secrets.Value, error) {
	switch {
	case s.good(now):
		return s.token, nil
	case s.err != nil:
		return secrets.Value{}, s.err
	default:
		return secrets.Value{}, errExpired
	}
}
