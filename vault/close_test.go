package vault

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/secrets"
)

// held makes f keep the answers to what ends in path until release is called.
func (f *fake) held(path string) (asked <-chan struct{}, release func()) {
	arrived, released := make(chan struct{}), make(chan struct{})
	f.faults[path] = func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-released
		f.change(func() { delete(f.faults, path) })
		f.ServeHTTP(w, r)
	}
	return arrived, func() { close(released) }
}

func requireClosed(t *testing.T, store *Store) {
	t.Helper()
	_, err := store.Read(t.Context(), "midas/wx1")
	require.EqualError(t, err, "the secret store cannot be used: it is closed")
	require.ErrorIs(t, err, secrets.ErrUnavailable)
}

func TestCloseRevokesTheTokenAndEndsAllReads(t *testing.T) {
	f := newFake()
	store := f.store(t, withAppRole())
	requireKey(t, store)
	require.NoError(t, store.Close(t.Context()))
	require.Empty(t, f.leftBehind())

	before := f.total()
	requireClosed(t, store)
	require.NoError(t, store.Close(t.Context()))
	require.Equal(t, before, f.total())
}

func TestAStoreThatNeverLoggedInIsClosedSilently(t *testing.T) {
	f := newFake()
	store := f.store(t, withAppRole())
	require.NoError(t, store.Close(t.Context()))
	requireClosed(t, store)
	require.Zero(t, f.total())
}

func TestATokenThatHasEndedNeedNotBeRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := leased(1, 0)
		store := f.store(t, withAppRole())
		requireKey(t, store)
		time.Sleep(time.Second)
		require.NoError(t, store.Close(t.Context()))
		require.Zero(t, f.revocations())
	})
}

func TestATokenThatVaultHasForgottenIsNoErrorOfClose(t *testing.T) {
	f := newFake()
	store := f.store(t, withAppRole())
	requireKey(t, store)
	f.kill()
	require.NoError(t, store.Close(t.Context()))
}

func TestCloseWaitsForALoginUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		asked, release := f.held("/login")
		store := f.store(t, withAppRole())
		failed := make(chan error, 1)
		go func() {
			_, err := store.Read(t.Context(), "midas/wx1")
			failed <- err
		}()
		<-asked
		time.AfterFunc(time.Second, release)
		start := time.Now()
		require.NoError(t, store.Close(t.Context()))
		require.Equal(t, time.Second, time.Since(start))
		require.Len(t, f.sent, 1)
		require.Equal(t, 1, f.revocations())
		require.Empty(t, f.leftBehind())
		require.ErrorIs(t, <-failed, secrets.ErrUnavailable)
	})
}

func TestALoginThatOutlivesClosingIsRevokedAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		asked, release := f.held("/login")
		store := f.store(t, withAppRole())
		go func() { _, _ = store.Read(t.Context(), "midas/wx1") }()
		<-asked
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		require.EqualError(t, store.Close(ctx), "closing secret: waiting for a login: context deadline exceeded")
		release()
		synctest.Wait()
		require.Len(t, f.sent, 1)
		require.Empty(t, f.leftBehind())
		require.NoError(t, store.Close(t.Context()))
	})
}

func TestARenewalUnderWayDoesNotOutliveClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := leased(600, 0)
		asked, release := f.held("/renew-self")
		store := f.store(t, withAppRole())
		requireKey(t, store)
		<-asked
		time.AfterFunc(time.Second, release)
		require.NoError(t, store.Close(t.Context()))
		require.Empty(t, f.leftBehind())
		before := f.total()
		time.Sleep(time.Hour)
		require.Equal(t, before, f.total())
	})
}

func TestAClosedStoreNeitherRenewsNorLogsIn(t *testing.T) {
	for _, renewable := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			f := leased(600, 0)
			f.renewable = renewable
			store := f.store(t, withAppRole())
			requireKey(t, store)
			f.faults["/revoke-self"] = answering(http.StatusInternalServerError, "")
			require.EqualError(t, store.Close(t.Context()), "closing secret: revoking the token: answered with status 500")
			before := f.total()
			time.Sleep(time.Hour)
			require.Equal(t, before, f.total())
		})
	}
}

func TestCloseTakesNoLongerThanARequestOrItsCaller(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{time.Minute: 2 * time.Second, time.Second: time.Second} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			store := f.store(t, withAppRole())
			requireKey(t, store)
			f.answer = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			start := time.Now()
			require.ErrorContains(t, store.Close(ctx), "closing secret: revoking the token: ")
			require.Equal(t, want, time.Since(start))
		})
	}
}

func TestAReaderThatIsRefusedWhileTheStoreClosesDoesNotLogIn(t *testing.T) {
	f := newFake()
	store := f.store(t, withAppRole())
	requireKey(t, store)
	err := store.session.do(t.Context(), func(string) error {
		require.NoError(t, store.Close(t.Context()))
		return errInvalidToken
	})
	require.ErrorIs(t, err, secrets.ErrUnavailable)
	require.Equal(t, 1, f.logins())
}

func TestClosingClosesIdleConnections(t *testing.T) {
	closed := 0
	store, err := newStore(withToken().withDefaults(), idle{newFake(), &closed})
	require.NoError(t, err)
	requireKey(t, store)
	require.Zero(t, closed)
	require.NoError(t, store.Close(t.Context()))
	require.Equal(t, 1, closed)
}

type idle struct {
	*fake
	closed *int
}

func (i idle) CloseIdleConnections() { *i.closed++ }

func TestAThousandRestartsLeaveNoTokenBehind(t *testing.T) {
	f := leased(3600, 0)
	for n := range 1000 {
		store := f.store(t, withAppRole())
		requireKey(t, store)
		if n%10 == 0 { // and what was replaced is gone, too
			f.change(func() { f.forbidden = "/midas/wx2" })
			_, err := store.Read(t.Context(), "midas/wx2")
			require.ErrorIs(t, err, errDenied)
		}
		require.NoError(t, store.Close(t.Context()))
	}
	require.Equal(t, 1100, f.logins())
	require.Empty(t, f.leftBehind())
}

func TestNothingThatIsLoggedShowsASecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := leased(30, 100)
		config := withAppRole()
		lines := logged(&config)
		store := f.store(t, config)
		for _, path := range []string{"/login", "/renew-self", "/revoke-self", "/midas/wx1", "/mounts/secret"} {
			for _, status := range []int{200, 400, 403, 404, 429, 500, 503} {
				f.change(func() { f.faults[path] = answering(status, `canary-body {"errors": ["canary-error"]}`) })
				for range 40 {
					_, _ = store.Read(t.Context(), "midas/wx1")
					time.Sleep(time.Second)
				}
				f.change(func() { clear(f.faults) })
				time.Sleep(2 * time.Second)
				requireKey(t, store)
			}
		}
		require.NoError(t, store.Close(t.Context()))
		require.Greater(t, len(lines()), 20)
		require.NotContains(t, fmt.Sprint(lines()), canary)
	})
}

// A breaker that is still open after a blip must not leave a live token behind.
func TestClosingRevokesThoughVaultWasAwayAMomentAgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		store := f.store(t, withAppRole())
		requireKey(t, store)
		f.change(func() {
			f.answer = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "30")
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		_, err := store.Read(t.Context(), "midas/wx1")
		require.ErrorIs(t, err, secrets.ErrUnavailable)
		f.change(func() { f.answer = nil })
		_, err = store.Read(t.Context(), "midas/wx1")
		require.ErrorIs(t, err, secrets.ErrUnavailable, "still left alone")
		require.NoError(t, store.Close(t.Context()))
		require.Equal(t, 1, f.count("/revoke-self"))
	})
}
