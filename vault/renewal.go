package vault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/vault/api"

	"midas-sidecar/internal/secrets"
)

// apart is the time, at least, between what a session does of itself.
const apart = time.Second

// jitter keeps many that were started together from asking together.
var jitter = rand.N[time.Duration]

// adopt makes granted the token to use. The one before must not outlive its use.
// The caller holds mu.
func (s *session) adopt(granted *grant) {
	before := s.current
	s.current = granted
	s.scheduleNext()
	s.discard(before)
}

// scheduleNext schedules what the current token needs after about two thirds of its
// lease. The caller holds mu.
func (s *session) scheduleNext() {
	lease := s.current.lease
	s.schedule(time.Until(s.current.asked.Add(lease*6/10 + jitter(lease/10+1))))
}

// scheduleAgain schedules what the current token needed and did not get. The caller
// holds mu.
func (s *session) scheduleAgain() {
	s.schedule(time.Until(s.current.expires()) / 3)
}

// schedule schedules nothing for a token that will have ended: who needs another one
// then will ask for it. The caller holds mu.
func (s *session) schedule(in time.Duration) {
	if s.next != nil {
		s.next.Stop()
	}
	in = max(in, apart)
	g := s.current
	if time.Now().Add(in).Before(g.expires()) {
		s.next = time.AfterFunc(in, func() { s.tend(g) })
	}
}

// tend gives a token what it needs, as long as it is the current one.
func (s *session) tend(g *grant) {
	s.mu.Lock()
	if s.closed || s.current != g {
		s.mu.Unlock()
		return
	}
	s.work.Add(1)
	defer s.work.Done()
	s.mu.Unlock()

	if g.renewable {
		s.renew(g)
	} else {
		s.succeed(g)
	}
}

// renew asks for more time for g. Where that is refused the next thing is a login.
func (s *session) renew(g *grant) {
	asked := time.Now()
	answer, err := s.client.put(context.Background(), g.token(), "auth/token/renew-self")

	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || s.current != g:
		// The answer is older than the token in use.
	case errors.Is(err, secrets.ErrUnavailable):
		s.scheduleAgain()
	case err != nil || answer == nil || answer.Auth == nil || answer.Auth.LeaseDuration <= 0:
		final := *g
		final.renewable = false
		s.current = &final
		s.schedule(apart)
	default:
		renewed := g.renewed(asked, answer.Auth)
		s.current = &renewed
		s.scheduleNext()
	}
}

// renewed is g with another lease. One that is clearly shorter than it was before is
// its last.
func (g grant) renewed(asked time.Time, answer *api.SecretAuth) grant {
	g = g.leased(asked, answer.LeaseDuration)
	g.renewable = answer.Renewable && g.lease >= g.longest*9/10
	return g
}

// succeed gets a token to follow g.
func (s *session) succeed(g *grant) {
	s.mu.Lock()
	underway, err := s.begin(context.Background())
	s.mu.Unlock()
	if err == nil {
		<-underway.done
		err = underway.err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && !s.closed && s.current == g {
		s.scheduleAgain()
	}
}

// discard revokes a token that is of no more use, off the path of whoever waits for
// the next one. If that fails the token ends by itself. The caller holds mu.
func (s *session) discard(g *grant) {
	if g.ours && g.usable() {
		s.work.Go(func() {
			if err := s.revoke(context.Background(), g); err != nil {
				s.log.Warn("vault token could not be revoked: it lives on until its time is over", "error", err)
			}
		})
	}
}

func (s *session) revoke(ctx context.Context, g *grant) error {
	_, err := s.client.put(ctx, g.token(), "auth/token/revoke-self")
	switch {
	case errors.Is(err, errInvalidToken):
		return nil // it has ended
	case errors.Is(err, errDenied):
		// OpenBao and old Vaults say no more than that of a token that has ended.
		s.log.Info("vault token was not revoked: it has ended, or its policy does not allow auth/token/revoke-self", "error", err)
		return nil
	}
	return err
}

// close lets no login or renewal begin any more, waits for those under way, and
// revokes the token if it is ours.
func (s *session) close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	if s.next != nil {
		s.next.Stop()
	}
	s.mu.Unlock()

	idle := make(chan struct{})
	go func() {
		s.work.Wait()
		close(idle)
	}()
	select {
	case <-idle:
	case <-ctx.Done():
		return fmt.Errorf("waiting for a login: %w", context.Cause(ctx))
	}

	s.mu.Lock()
	last := s.current
	s.current = &grant{}
	s.mu.Unlock()
	if !last.ours || !last.usable() {
		return nil
	}
	// Vault may be back though nobody has noticed yet.
	if err := s.revoke(context.WithValue(ctx, lastChance{}, true), last); err != nil {
		return fmt.Errorf("revoking the token: %w", err)
	}
	return nil
}
