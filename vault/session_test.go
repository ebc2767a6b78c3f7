package vault

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/secrets"
)

func TestAReadWithADeadTokenLogsInOnceAndReadsAgain(t *testing.T) {
	for name, mute := range map[string]bool{"that Vault calls invalid": false, "that Vault only denies": true} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			f.mute = mute
			store := f.store(t, withAppRole())
			requireKey(t, store)
			require.Equal(t, 1, f.logins())
			require.Equal(t, 1, f.reads())

			f.kill()
			requireKey(t, store)
			require.Equal(t, 2, f.logins())
			require.Equal(t, 3, f.reads(), "one refused, one more")
		})
	}
}

func TestReadersThatComeTogetherShareALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.delay = time.Second / 2 // long enough for all to ask at the same time
		store := f.store(t, withAppRole())
		together := func() {
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() { requireKey(t, store) })
			}
			all.Wait()
		}
		together()
		require.Equal(t, 1, f.logins(), "cold")
		f.kill()
		together()
		require.Equal(t, 2, f.logins(), "with a dead token")
	})
}

func TestAnOldRefusalDoesNotThrowAwayANewerToken(t *testing.T) {
	f := newFake()
	store := f.store(t, withAppRole())
	requireKey(t, store)

	// A slow reader is refused the first token when others have the second.
	var used []string
	err := store.session.do(t.Context(), func(token string) error {
		used = append(used, token)
		if len(used) == 1 {
			f.kill()
			requireKey(t, store)
			return errInvalidToken
		}
		return nil
	})

	require.NoError(t, err)
	require.Equal(t, []string{"canary-token-1", "canary-token-2"}, used)
	require.Equal(t, 2, f.logins())
}

func TestAnOldRefusalDoesNotCountAgainstANewerToken(t *testing.T) {
	f := newFake()
	store := f.store(t, withAppRole())
	requireKey(t, store)

	// A reader logs in, and is refused only when that token is replaced as well.
	f.kill()
	reads := 0
	err := store.session.do(t.Context(), func(string) error {
		if reads++; reads == 2 {
			f.kill()
			requireKey(t, store)
		}
		return errInvalidToken
	})
	require.ErrorIs(t, err, errInvalidToken)
	require.Equal(t, 3, f.logins())

	f.kill()
	requireKey(t, store)
	require.Equal(t, 4, f.logins())
}

func TestOnlyARefusalOfAFreshTokenPutsOffTheNextLogin(t *testing.T) {
	f := newFake()
	store := f.store(t, withAppRole())
	requireKey(t, store)

	// A slow reader is refused the first token, and the second, which others got
	// long ago, has died as well.
	reads := 0
	err := store.session.do(t.Context(), func(string) error {
		if reads++; reads == 1 {
			f.kill()
			requireKey(t, store)
			f.kill()
		}
		return errInvalidToken
	})
	require.ErrorIs(t, err, errInvalidToken)
	require.Equal(t, 2, reads)
	require.Equal(t, 2, f.logins())

	requireKey(t, store)
	require.Equal(t, 3, f.logins())
}

func TestAPolicyThatForbidsDoesNotMakeALoginStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.forbidden = "/midas/wx1"
		store := f.store(t, withAppRole())
		for range 100 {
			_, err := store.Read(t.Context(), "midas/wx1")
			require.EqualError(t, err, "permission denied")
		}
		require.Equal(t, 1, f.logins())
		require.Equal(t, 100, f.reads())

		// A role may have been given another policy, which a new token has.
		time.Sleep(refusedPause)
		for range 100 {
			_, err := store.Read(t.Context(), "midas/wx1")
			require.Error(t, err)
		}
		require.Equal(t, 2, f.logins())
	})
}

func TestAForbiddenPathLeavesOthersAlone(t *testing.T) {
	f := newFake()
	store := f.store(t, withAppRole())
	requireKey(t, store)

	f.forbidden = "/midas/wx2"
	for range 10 {
		_, err := store.Read(t.Context(), "midas/wx2")
		require.EqualError(t, err, "permission denied")
		requireKey(t, store)
	}
	require.Equal(t, 2, f.logins(), "one to see whether the token was to blame")

	f.kill()
	requireKey(t, store)
	require.Equal(t, 3, f.logins())
}

func TestATokenThatExpiredIsNotUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.lease = 1 // too short for anybody to care for it
		store := f.store(t, withAppRole())
		requireKey(t, store)
		time.Sleep(time.Second - time.Nanosecond)
		requireKey(t, store)
		require.Equal(t, 1, f.logins())

		time.Sleep(time.Nanosecond)
		requireKey(t, store)
		require.Equal(t, 2, f.logins())
		synctest.Wait()
		require.Zero(t, f.revocations(), "it has ended")
		require.Equal(t, 3, f.reads(), "none was refused")
	})
}

func TestALoginThatFailsIsNotTriedAgainForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.answer = func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, http.StatusBadRequest, "invalid role or secret ID canary-secret")
		}
		store := f.store(t, withAppRole())
		for range 100 {
			_, err := store.Read(t.Context(), "midas/wx1")
			require.EqualError(t, err, "logging in at auth/approle: credentials refused")
		}
		require.Equal(t, 1, f.logins())

		f.answer = nil
		time.Sleep(failedPause)
		requireKey(t, store)
		require.Equal(t, 2, f.logins())
	})
}

func TestALoginThatFailsLeavesTheTokenToThoseWhoMayUseIt(t *testing.T) {
	f := newFake()
	secretIDs := []string{"canary-secret"}
	config := withAppRole()
	config.Auth = AppRole{RoleID: fixed("canary-role"), SecretID: func() (string, error) {
		if len(secretIDs) == 0 {
			return "", errors.New("used up")
		}
		next := secretIDs[0]
		secretIDs = secretIDs[1:]
		return next, nil
	}}
	store := f.store(t, config)
	requireKey(t, store)

	f.forbidden = "/midas/wx2"
	_, err := store.Read(t.Context(), "midas/wx2")
	require.EqualError(t, err, "permission denied; reading secret_id: used up")
	requireKey(t, store)
}

func TestACallerThatGivesUpDoesNotEndTheLoginOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		store := f.store(t, withAppRole())
		slow := make(chan struct{})
		f.answer = func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/v1/auth/") {
				<-slow
			}
			f.mu.Lock()
			f.answer = nil
			f.mu.Unlock()
			f.ServeHTTP(w, r)
		}

		impatient, giveUp := context.WithCancelCause(t.Context())
		gaveUp := make(chan error)
		go func() {
			_, err := store.Read(impatient, "midas/wx1")
			gaveUp <- err
		}()
		synctest.Wait()
		patient := make(chan error)
		go func() {
			_, err := store.Read(t.Context(), "midas/wx1")
			patient <- err
		}()
		synctest.Wait()

		giveUp(errors.New("gone"))
		require.EqualError(t, <-gaveUp, "waiting for a login: gone")
		close(slow)
		require.NoError(t, <-patient)
	})
}

func TestATokenThatCannotBeReplacedIsReported(t *testing.T) {
	f := newFake()
	store := f.store(t, withToken())
	requireKey(t, store)
	f.kill()
	_, err := store.Read(t.Context(), "midas/wx1")
	require.EqualError(t, err, "looking up the token: permission denied: invalid token")
	require.ErrorIs(t, err, secrets.ErrUnavailable)
	require.Equal(t, 2, f.reads(), "the same token must not be tried twice")
}

// wayward leaves a token in the client that it logs in with.
type wayward struct{ Token }

func (wayward) login(_ context.Context, client *api.Client) (grant, error) {
	if client.Token() != "" {
		return grant{}, errors.New("found somebody's token")
	}
	client.SetToken("canary-wrapping")
	return grant{token: conceal("canary-fixed"), asked: time.Now().Add(-time.Second), lease: time.Second}, nil
}

func TestALoginLeavesNoTokenBehind(t *testing.T) {
	f := newFake()
	store := f.store(t, Config{Address: "http://vault.test", Auth: wayward{}})
	requireKey(t, store)
	requireKey(t, store)
}

// A token that has ended is shown to Vault once, however many reads come while no
// other can be had.
func TestADeadTokenIsNotTriedWhileLoginsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		store := f.store(t, withAppRole())
		requireKey(t, store)
		f.kill()
		f.faults["/login"] = answering(http.StatusBadRequest, "")
		before := f.reads()
		for _, err := range arrive(t, store, time.Minute) {
			require.ErrorIs(t, err, secrets.ErrUnavailable)
		}
		require.Equal(t, 1, f.reads()-before)
		require.InDelta(t, 60, f.logins(), 2)

		f.change(func() { clear(f.faults) })
		time.Sleep(time.Second)
		requireKey(t, store)
		require.Zero(t, f.count("/revoke-self"))
	})
}

// Whoever keeps a token_file writes it in two steps, or fails to.
func TestATokenFileThatIsEmptiedLeavesTheTokenThatWasRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		path := filepath.Join(t.TempDir(), "token")
		require.NoError(t, os.WriteFile(path, []byte("canary-fixed"), 0o600))
		config := withToken()
		config.Auth = TokenFile{path}
		store := f.store(t, config)
		requireKey(t, store)
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		for range 5 {
			requireKey(t, store)
			time.Sleep(time.Second)
		}
	})
}

func TestATokenThatWasDeadAllAlongIsALoginThatFails(t *testing.T) {
	f := newFake()
	f.kill()
	config := withToken()
	lines := logged(&config)
	_, err := f.store(t, config).Read(t.Context(), "midas/wx1")
	require.EqualError(t, err, "looking up the token: permission denied: invalid token")
	require.ErrorIs(t, err, secrets.ErrUnavailable)
	require.Contains(t, strings.Join(lines(), ""), "vault login fails")
}
