package accesstoken

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"golang.org/x/sync/singleflight"

	"midas-sidecar/internal/breaker"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/wechat"
)

var errPanic = errors.New("asking for the access_token ended in a panic")

// refresh fetches the token, once however many ask, whoever of them goes away.
func (s *Stable) refresh() <-chan singleflight.Result {
	return s.fetch.DoChan("", func() (any, error) { return s.renewed(), nil })
}

// renewed asks WeChat, if that is due and the breaker allows it, and returns what is
// known then.
func (s *Stable) renewed() *state {
	known := s.now.Load()
	if time.Now().Before(known.renew) {
		return known // another caller was here before
	}
	try, err := s.breaker.Allow()
	if err != nil {
		return known // and why it failed
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	next := s.ask(ctx, known.refused)
	if next.err != nil {
		rest := restAfter(next.err)
		next = known.failed(next, rest)
		s.now.Store(&next)
		try.Failure(next.err, rest)
		return &next
	}
	if known.doubted && next.token == known.token {
		next.again = known.again + 1
	}
	s.now.Store(&next)
	try.Success()
	return &next
}

// failed is what is known after a fetch that brought no token. While there is one
// that is good, another try is in no hurry.
func (s *state) failed(fetch state, rest time.Duration) state {
	next, now := *s, time.Now()
	next.err, next.asked, next.refused = fetch.err, fetch.asked, fetch.refused
	if s.good(now) {
		next.renew = now.Add(min(max(rest, leisure), s.expires.Sub(now)))
		return next
	}
	next.renew = now.Add(max(rest, pause))
	if !s.token.IsZero() {
		// In other words than while it was good, so that the log hears of it.
		next.err = fmt.Errorf("the last access_token has expired: %w", next.err)
	}
	return next
}

// restAfter is how long to ask nothing after a failure: the longer, the less
// another try can help. What is the network's mends at any time: the breaker's pace
// is enough.
func restAfter(failure error) time.Duration {
	refusal, ok := errors.AsType[wechat.TokenError](failure)
	switch {
	case !ok, refusal.Cure() == wechat.ByRepeating:
		return 0
	case refusal.Cure() == wechat.ByWaiting:
		return time.Minute
	default:
		return 10 * time.Second
	}
}

// ask asks WeChat for the token. An app secret that WeChat refuses is read again,
// and tried if it is another by now.
func (s *Stable) ask(ctx context.Context, refused secrets.Value) state {
	began := time.Now()
	secret, err := s.secret(ctx, refused)
	switch {
	case err == nil:
	case refused.IsZero():
		return state{asked: began, err: fmt.Errorf("reading the app secret: %w", err)}
	default:
		secret = refused // WeChat may take it by now; the store cannot tell
	}
	answer := s.askWith(ctx, secret)
	if answer.refused.IsZero() {
		return answer
	}
	corrected, err := s.secret(ctx, secret)
	if err != nil || corrected == secret {
		return answer
	}
	return s.askWith(ctx, corrected)
}

func (s *Stable) askWith(ctx context.Context, secret secrets.Value) (next state) {
	// The token's life begins before its answer is here.
	asked := time.Now()
	defer func() {
		if mistake := recover(); mistake != nil {
			// Nobody else would catch it here, and its value may hold a secret.
			s.log.Error("panic", "type", fmt.Sprintf("%T", mistake), "stack", string(debug.Stack()))
			next = state{asked: asked, err: errPanic}
		}
	}()
	answer, err := (*s.asker.Load()).Ask(ctx, wechat.StableToken(s.appID, secret))
	if err != nil {
		return state{asked: asked, err: fmt.Errorf("asking for the access_token: %w", breaker.Steady(err))}
	}
	token, life, err := wechat.ReadToken(answer.Body)
	refusal, answered := errors.AsType[wechat.TokenError](err)
	expires := asked.Add(life)
	switch {
	case answered && refusal.Cure() == wechat.BySecret:
		return state{asked: asked, err: err, refused: secret}
	case err != nil && answer.Status != http.StatusOK:
		return state{asked: asked, err: fmt.Errorf("%w (HTTP status %d)", err, answer.Status)}
	case err != nil:
		return state{asked: asked, err: err}
	case !time.Now().Before(expires):
		return state{asked: asked, err: errExpired}
	}
	return state{token: token, expires: expires, asked: asked, renew: asked.Add(max(min(look, life/2), pause))}
}
