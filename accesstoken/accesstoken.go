// Package accesstoken keeps an app's access_token at hand.
package accesstoken

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"midas-sidecar/secrets"
	"midas-sidecar/upstream"
	"midas-sidecar/wechat"
)

const (
	// look is how often WeChat is asked for the token, which is what it advises
	// to independent callers: a token that another process had replaced is good
	// for five minutes more.
	look = 5 * time.Minute
	// patience is how long one fetch may take.
	patience = 5 * time.Second
	// pause is how long WeChat is left alone after a fetch that failed.
	pause = time.Second
)

// Asker sends a message to WeChat that may be repeated without harm.
type Asker interface {
	Ask(context.Context, wechat.Outbound) (upstream.Exchange, error)
}

// Stable gets the app's token from stable_token in normal mode. Any number of
// processes may do so side by side: none takes the token of another away.
//
// A token is renewed in the background while it is still good; callers wait only
// where there is none, and then for one fetch between them.
type Stable struct {
	appID  string
	secret func(context.Context) (secrets.Value, error)
	asker  Asker

	now   atomic.Pointer[state]
	fetch singleflight.Group
}

// state is what is known of the token: the token, or why there is none.
type state struct {
	token   secrets.Value
	expires time.Time
	err     error
	asked   time.Time // when WeChat was last asked
	renew   time.Time // when to ask again
}

// NewStable returns the token of the app with the appid. secret reads the app
// secret whenever it is needed.
func NewStable(appID string, secret func(context.Context) (secrets.Value, error), asker Asker) *Stable {
	return &Stable{appID: appID, secret: secret, asker: asker}
}

// Token returns a token that is good now.
func (s *Stable) Token(ctx context.Context) (secrets.Value, error) {
	known, now := s.now.Load(), time.Now()
	if known == nil || !known.good(now) {
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
func (s *Stable) Renew(ctx context.Context, failed secrets.Value) (secrets.Value, error) {
	known, now := s.now.Load(), time.Now()
	if known != nil && known.token == failed {
		if err := rest(ctx, known.asked.Add(pause).Sub(now)); err != nil {
			return secrets.Value{}, err
		}
		due := *known
		due.renew = time.Time{}
		s.now.CompareAndSwap(known, &due)
	}
	return s.wait(ctx)
}

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

// refresh fetches the token, once however many ask, whoever of them goes away.
func (s *Stable) refresh() <-chan singleflight.Result {
	return s.fetch.DoChan("", func() (any, error) {
		if known := s.now.Load(); known != nil && time.Now().Before(known.renew) {
			return known, nil // another caller was here before
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()

		token, life, err := s.ask(ctx)
		now := time.Now()
		next := &state{token: token, expires: now.Add(life), renew: now.Add(min(look, life/2))}
		if err != nil {
			next = &state{err: err}
			if before := s.now.Load(); before != nil && before.good(now) {
				next.token, next.expires = before.token, before.expires
			}
			next.renew = now.Add(pause)
		}
		next.asked = now
		s.now.Store(next)
		return next, nil
	})
}

func (s *Stable) ask(ctx context.Context) (secrets.Value, time.Duration, error) {
	secret, err := s.secret(ctx)
	if err != nil {
		return secrets.Value{}, 0, fmt.Errorf("reading the app secret: %w", err)
	}
	answer, err := s.asker.Ask(ctx, wechat.StableToken(s.appID, secret))
	if err != nil {
		return secrets.Value{}, 0, fmt.Errorf("asking for the access_token: %w", err)
	}
	token, life, err := wechat.ReadToken(answer.Body)
	if err == nil && life == 0 {
		err = errExpired
	}
	return token, life, err
}
