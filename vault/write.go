package vault

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"midas-sidecar/internal/secrets"
)

const (
	// maxSingles is how many paths are remembered as those that keep one version.
	// Where there are more, some are told so again.
	maxSingles = 100_000

	// unheeded is how long Vault is not told to keep one version once it refused.
	unheeded = time.Hour
)

// Write makes fields all that the secret at path holds, below the mount. A mount of
// version 2 is told to keep no other version of it: what is written here is replaced
// often and of no use afterwards. Where the token may not say so, the secret is written
// all the same, and the log hears of it once.
//
// Errors, the token, the breaker and the time that it may take are those of Read.
//
// No check-and-set: of two who write at once the one whose value is newer should win,
// and a version tells only that the other one was there, not which value is newer.
// Whoever lost would have to write again without knowing more. In one process the
// writes of a path are put in order by whoever calls; see credentials.SaveSession.
func (s *Store) Write(ctx context.Context, path string, fields secrets.Secret) error {
	if err := CheckPath(path); err != nil {
		return fmt.Errorf("path %w", err)
	}
	ctx, cancel := s.client.bounded(ctx)
	defer cancel()
	if err := s.keepOneVersion(ctx, path); err != nil {
		return err
	}
	return s.session.do(ctx, func(token string) error { return s.write(ctx, token, path, fields) })
}

func (s *Store) write(ctx context.Context, token, path string, fields secrets.Secret) error {
	version, err := s.mountVersion(ctx, token)
	if err != nil {
		return err
	}
	plain := make(map[string]string, len(fields))
	for name, value := range fields {
		plain[name] = value.Reveal()
	}
	if version == 1 {
		_, err := s.post(ctx, token, s.mount+"/"+path, plain)
		return err
	}
	answer, err := s.post(ctx, token, s.mount+"/data/"+path, map[string]any{"data": plain})
	if err != nil {
		return err
	}
	if _, err := versionIn(answer); err != nil {
		// A mount of version 1 takes this for a secret at data/….
		s.version.Store(0)
		return errOtherMount
	}
	return nil
}

// keepOneVersion tells Vault, the first time that this store writes there, to keep one
// version of the secret at path. It is an error only where writing cannot go well either.
func (s *Store) keepOneVersion(ctx context.Context, path string) error {
	if !s.single.due(path) {
		return nil
	}
	err := s.session.do(ctx, func(token string) error {
		version, err := s.mountVersion(ctx, token)
		if err != nil || version == 1 {
			return err
		}
		_, err = s.post(ctx, token, s.mount+"/metadata/"+path, map[string]any{"max_versions": 1})
		return err
	})
	switch {
	case err == nil:
		s.single.done(path)
		return nil
	case errors.Is(err, secrets.ErrUnavailable), ctx.Err() != nil:
		return err
	}
	if s.single.refused() {
		s.log.Warn("vault keeps old versions of what is written: the policy should allow to update metadata", "mount", s.mount, "error", err)
	}
	return nil
}

// post forgets the version of the mount where that has become another one.
func (s *Store) post(ctx context.Context, token, path string, body any) (map[string]any, error) {
	answer, err := s.client.post(ctx, token, path, body)
	if errors.Is(err, errOtherMount) {
		s.version.Store(0)
	}
	return answer, err
}

// singles are the paths of which Vault was told to keep one version.
type singles struct {
	mu    sync.Mutex
	paths map[string]struct{}
	until time.Time // when to try again what was refused
	told  bool      // whether the log has heard of that
}

// due reports whether to tell Vault.
func (t *singles) due(path string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, done := t.paths[path]
	return !done && !time.Now().Before(t.until)
}

func (t *singles) done(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.paths == nil {
		t.paths = make(map[string]struct{})
	}
	if len(t.paths) >= maxSingles {
		for some := range maps.Keys(t.paths) {
			delete(t.paths, some)
			break
		}
	}
	t.paths[path] = struct{}{}
}

// refused puts all other tries off, and tells whether this is news.
func (t *singles) refused() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.until = time.Now().Add(unheeded)
	news := !t.told
	t.told = true
	return news
}

var _ secrets.Writer = (*Store)(nil)
