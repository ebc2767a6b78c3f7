package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"midas-sidecar/internal/breaker"
	"midas-sidecar/internal/secrets"
)

// failedPause is how long, at least, a login that was refused is not tried again:
// callers that come meanwhile get its error at once.
const failedPause = time.Second

// refusedPause is how long no login is tried for a reason for which Vault refused
// even a fresh token. A policy that is wrong for one path must not turn every read
// of it into a login.
const refusedPause = 10 * time.Second

// session holds the token, renews it, and gets another one where it has ended.
type session struct {
	client  *client
	auth    Auth
	log     *slog.Logger
	breaker *breaker.Breaker // stands before logins, which may fail where Vault does not

	// work is what nobody waits for but close: logins, renewals, revocations.
	// None begins once closed is set, but what one that is under way leads to.
	work sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	current  *grant      // replaced, never changed: whoever has it can tell what is newer
	next     *time.Timer // for what current will need, nil where that is nothing
	underway *login      // nil where nobody is logging in

	// refusedAt is when a fresh token was last refused, by reason.
	refusedAt map[error]time.Time
}

func newSession(client *client, auth Auth, log *slog.Logger) *session {
	return &session{
		client:    client,
		auth:      auth,
		log:       log,
		breaker:   breaker.New(log, "vault login fails", "vault login works again", breaker.NewPace(failedPause)),
		current:   &grant{},
		refusedAt: make(map[error]time.Time),
	}
}

// login is one login, for however many callers wait for it. What it led to may
// be read once done is closed.
type login struct {
	done    chan struct{}
	granted grant
	err     error
}

// do runs request with the token. If Vault refuses that, it logs in and runs
// request once more; a token that was got for this very request is not to blame.
func (s *session) do(ctx context.Context, request func(token string) error) error {
	token, fresh, err := s.token(ctx)
	if err != nil {
		return err
	}
	err = request(token)
	if refusal(err) != nil && !fresh {
		refused := token
		var failure error
		if token, fresh, failure = s.replace(ctx, refused, refusal(err)); failure != nil {
			return notReplaced(err, failure)
		}
		if token != refused {
			err = request(token)
		}
	}
	if refusal(err) != nil && fresh {
		s.refused(token, refusal(err))
	}
	return err
}

// notReplaced is a refusal of a token, and the failure to get another one.
func notReplaced(refused, failure error) error {
	switch {
	case errors.Is(failure, errInvalidToken):
		return failure // which says the same, and more
	case errors.Is(refused, errDenied):
		// Not as if the store could not be used: it may be the path.
		return fmt.Errorf("%w; %s", refused, failure.Error())
	default:
		return fmt.Errorf("%w; %w", refused, failure)
	}
}

// refusal returns which refusal of a token err is, nil where it is none.
func refusal(err error) error {
	for _, reason := range []error{errDenied, errInvalidToken} {
		if errors.Is(err, reason) {
			return reason
		}
	}
	return nil
}

// token returns a token that is not known to have ended, and whether it is
// fresh: from a login that this call waited for. Where a newer one is announced but
// cannot be had, the present one does.
func (s *session) token(ctx context.Context) (token string, fresh bool, err error) {
	token, fresh, err = s.currentUnless(ctx, func() bool { return !s.current.usable() })
	if err == nil {
		return token, fresh, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed && s.current.alive() {
		return s.current.token(), false, nil
	}
	return "", false, err
}

// replace returns a token to use instead of one that was refused: the current
// one where that is another by now, since an old refusal says nothing about it,
// or else that of a login. Where no login is due it returns the refused one.
func (s *session) replace(ctx context.Context, refused string, reason error) (token string, fresh bool, err error) {
	return s.currentUnless(ctx, func() bool {
		if !s.current.token.is(refused) {
			return !s.current.usable()
		}
		due := time.Since(s.refusedAt[reason]) >= refusedPause
		if due && errors.Is(reason, errInvalidToken) {
			s.current = &grant{} // it has ended: there is nothing to use, to renew or to revoke
		}
		return due
	})
}

// currentUnless returns the current token, or that of a login where one is due.
func (s *session) currentUnless(ctx context.Context, due func() bool) (token string, fresh bool, err error) {
	s.mu.Lock()
	if !s.closed && !due() {
		defer s.mu.Unlock()
		return s.current.token(), false, nil
	}
	underway, err := s.begin(ctx)
	s.mu.Unlock()
	if err != nil {
		return "", false, err
	}
	select {
	case <-underway.done:
		if underway.err != nil {
			return "", false, underway.err
		}
		return underway.granted.token(), true, nil
	case <-ctx.Done():
		err := context.Cause(ctx)
		if !gaveUp(ctx) {
			err = unavailable(err)
		}
		return "", false, fmt.Errorf("waiting for a login: %w", err)
	}
}

// refused remembers that a fresh token was refused.
func (s *session) refused(token string, reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.current.token.is(token) {
		return
	}
	s.refusedAt[reason] = time.Now()
}

// begin returns the login under way, a new one where there is none. It is nobody's
// own: whoever gives up waiting does not end it for the others. The caller holds mu.
func (s *session) begin(ctx context.Context) (*login, error) {
	if s.closed {
		return nil, errClosed
	}
	if s.underway != nil {
		return s.underway, nil
	}
	try, err := s.breaker.Allow()
	if err != nil {
		return nil, err
	}
	underway := &login{done: make(chan struct{})}
	s.underway = underway
	s.work.Go(func() { s.run(context.WithoutCancel(ctx), underway, try) })
	return underway, nil
}

func (s *session) run(ctx context.Context, l *login, try breaker.Try) {
	ctx, cancel := s.client.bounded(ctx)
	defer cancel()
	granted, err := s.auth.login(ctx, s.client.forLogin())

	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil && s.closed:
		try.Success()
		s.discard(&granted)
		err = errClosed
	case err == nil:
		try.Success()
		s.adopt(&granted)
	case errors.Is(err, secrets.ErrUnavailable):
		// Which says nothing about logins, and the log has heard of it.
	default:
		// The token is left to be: it may still be good elsewhere.
		err = loginError{err}
		try.Failure(err, 0)
	}
	l.granted, l.err = granted, err
	s.underway = nil
	close(l.done)
}
