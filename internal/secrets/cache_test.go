package secrets_test

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/breaker"
	"midas-sidecar/internal/secrets"
)

const (
	fresh = 5 * time.Minute
	stale = 24 * time.Hour
)

// cacheOf returns a cache of the field "key", long enough for all paths of a test.
func cacheOf(s secrets.Store) *secrets.Reader[string] { return bounded(s, 1000) }

func bounded(s secrets.Store, size int) *secrets.Reader[string] {
	return secrets.NewCache(size, secrets.Ages{Fresh: fresh, Stale: stale}, parseKey).
		Reader(s, secrets.Kind{Pace: breaker.NewPace(time.Second), Log: slog.New(slog.DiscardHandler)})
}

func parseKey(s secrets.Secret, _ string) (string, error) {
	if s["key"].IsZero() {
		return "", errors.New("has no field key")
	}
	return s["key"].Reveal(), nil
}

func TestAHundredCallersWaitForOneRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{answer: func(context.Context, string) (secrets.Secret, error) {
			time.Sleep(time.Second)
			return secrets.Secret{"key": secrets.NewValue("K")}, nil
		}}
		cache := cacheOf(s)
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				key, err := cache.Get(t.Context(), "app")
				assert.NoError(t, err)
				assert.Equal(t, "K", key)
			})
		}
		callers.Wait()
		require.Equal(t, 1, s.count())
	})
}

func TestASecretIsReadAgainInTheBackgroundWhenItIsNoLongerFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{answer: holding("old")}
		cache := cacheOf(s)
		get := func() string {
			key, err := cache.Get(t.Context(), "app")
			require.NoError(t, err)
			return key
		}
		get()
		s.says(holding("new"))
		time.Sleep(fresh - 1)
		require.Equal(t, "old", get())
		synctest.Wait()
		require.Equal(t, 1, s.count())
		time.Sleep(time.Nanosecond)
		require.Equal(t, "old", get(), "nobody waits")
		synctest.Wait()
		require.Equal(t, "new", get())
		require.Equal(t, 2, s.count())
	})
}

func TestWhatIsWrongWithASecretIsRememberedForTwoSeconds(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(context.Context, string) (secrets.Secret, error)
		want   string
	}{
		{"it is absent", failing(secrets.ErrNotFound), "reading app: no such secret"},
		{"it cannot be parsed", holding(""), "app has no field key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &store{answer: c.answer}
				cache := cacheOf(s)
				_, err := cache.Get(t.Context(), "app")
				require.EqualError(t, err, c.want)

				s.says(holding("K"))
				time.Sleep(2*time.Second - 1)
				_, err = cache.Get(t.Context(), "app")
				require.EqualError(t, err, c.want)
				require.Equal(t, 1, s.count())

				time.Sleep(time.Nanosecond)
				key, err := cache.Get(t.Context(), "app")
				require.NoError(t, err)
				require.Equal(t, "K", key)
			})
		})
	}
}

func TestAnAbsentSecretIsToldFromAStoreThatCannotBeAsked(t *testing.T) {
	_, err := cacheOf(&store{answer: failing(secrets.ErrNotFound)}).Get(t.Context(), "app")
	require.ErrorIs(t, err, secrets.ErrNotFound)
	_, err = cacheOf(&store{answer: failing(secrets.ErrUnavailable)}).Get(t.Context(), "app")
	require.EqualError(t, err, "reading app: the secret store cannot be used")
}

func TestAStoresErrorIsNotRemembered(t *testing.T) {
	s := &store{answer: failing(secrets.ErrUnavailable)}
	cache := cacheOf(s)
	_, err := cache.Get(t.Context(), "app")
	require.EqualError(t, err, "reading app: the secret store cannot be used")
	s.says(holding("K"))
	key, err := cache.Get(t.Context(), "app")
	require.NoError(t, err)
	require.Equal(t, "K", key)
}

func TestACallerThatGivesUpDoesNotFailTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := cacheOf(&store{answer: func(ctx context.Context, _ string) (secrets.Secret, error) {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(time.Second):
				return secrets.Secret{"key": secrets.NewValue("K")}, nil
			}
		}})
		impatient, hangUp := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		callers.Go(func() {
			_, err := cache.Get(impatient, "app") // the one that reads
			assert.ErrorIs(t, err, context.Canceled)
		})
		synctest.Wait()
		for range 10 {
			callers.Go(func() {
				key, err := cache.Get(t.Context(), "app")
				assert.NoError(t, err)
				assert.Equal(t, "K", key)
			})
		}
		synctest.Wait()
		hangUp()
		callers.Wait()
	})
}

func TestACallerThatGivesUpWaitsNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := cacheOf(&store{answer: func(context.Context, string) (secrets.Secret, error) {
			time.Sleep(time.Hour)
			return nil, secrets.ErrNotFound
		}})
		var patient sync.WaitGroup
		defer patient.Wait()
		patient.Go(func() { _, _ = cache.Get(t.Context(), "app") })
		synctest.Wait()

		start := time.Now()
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := cache.Get(impatient, "app")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
	})
}

func TestACacheIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, players = 10, 200
		s := &store{answer: holding("K")}
		cache := bounded(s, size)
		for range 2 {
			for i := range players {
				_, err := cache.Get(t.Context(), strconv.Itoa(i))
				require.NoError(t, err)
			}
			synctest.Wait() // until what is too much has been dropped
		}
		require.GreaterOrEqual(t, s.count(), players+players-size)
	})
}

// changing is a store that tells when it changed.
type changing struct {
	store
	version atomic.Uint64
}

func (c *changing) Version() uint64 { return c.version.Load() }

func TestNothingIsUsedBeyondAChangeOfTheStore(t *testing.T) {
	s := &changing{store: store{answer: holding("old")}}
	cache := cacheOf(s)
	for _, path := range []string{"a", "b"} {
		_, err := cache.Get(t.Context(), path)
		require.NoError(t, err)
	}
	s.says(holding("new"))
	s.version.Add(1)
	for _, path := range []string{"a", "b", "a", "b"} {
		key, err := cache.Get(t.Context(), path)
		require.NoError(t, err)
		require.Equal(t, "new", key)
	}
	require.Equal(t, 4, s.count())
}

func TestAnAbsenceIsForgottenWhenTheStoreChanges(t *testing.T) {
	s := &changing{store: store{answer: failing(secrets.ErrNotFound)}}
	cache := cacheOf(s)
	_, err := cache.Get(t.Context(), "app")
	require.ErrorIs(t, err, secrets.ErrNotFound)
	s.says(holding("K"))
	s.version.Add(1)
	_, err = cache.Get(t.Context(), "app")
	require.NoError(t, err)
}

// The store changes after it was read and before the cache has what was read.
func TestWhatWasReadBeforeAChangeIsNotKeptBeyondIt(t *testing.T) {
	s := new(changing)
	cache := cacheOf(s)
	s.says(func(context.Context, string) (secrets.Secret, error) {
		defer s.version.Add(1)
		s.says(holding("new"))
		return holding("old")(nil, "")
	})
	_, err := cache.Get(t.Context(), "app")
	require.NoError(t, err)
	key, err := cache.Get(t.Context(), "app")
	require.NoError(t, err)
	require.Equal(t, "new", key)
}

func TestACacheInFrontOfAFileSeesItsChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(t)
		cache := cacheOf(f)
		for _, want := range []string{"1", "2", "3"} {
			f.write(`{"app":{"key":"` + want + `"}}`)
			key, err := cache.Get(t.Context(), "app")
			require.NoError(t, err)
			require.Equal(t, want, key)
		}
	})
}

// renewing is a cache of one secret that was read a minute ago as "old".
func renewing(t *testing.T) (*store, *secrets.Reader[string]) {
	s := &store{answer: holding("old")}
	cache := cacheOf(s)
	_, err := cache.Get(t.Context(), "app")
	require.NoError(t, err)
	time.Sleep(time.Minute)
	return s, cache
}

// renew says that "old" failed and returns what is to be used now.
func renew(t *testing.T, cache *secrets.Reader[string]) string {
	t.Helper()
	key, err := cache.Renew(t.Context(), "app", func(key string) bool { return key == "old" })
	require.NoError(t, err)
	return key
}

func TestWhatFailedIsReadPastTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, cache := renewing(t)
		s.says(holding("new"))
		require.Equal(t, "new", renew(t, cache))
		key, err := cache.Get(t.Context(), "app")
		require.NoError(t, err)
		require.Equal(t, "new", key)
		require.Equal(t, 2, s.count())
	})
}

func TestALateFailureDoesNotReadWhatIsNewAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, cache := renewing(t)
		s.says(holding("new"))
		renew(t, cache)
		time.Sleep(time.Minute) // while it is fresh, or it would be read for its age
		require.Equal(t, "new", renew(t, cache))
		require.Equal(t, 2, s.count())
	})
}

func TestWhatFailsThoughItIsNewIsReadEveryTwoSecondsAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, cache := renewing(t)
		require.Equal(t, "old", renew(t, cache))
		time.Sleep(2*time.Second - 1)
		require.Equal(t, "old", renew(t, cache))
		require.Equal(t, 2, s.count())
		time.Sleep(time.Nanosecond)
		require.Equal(t, "old", renew(t, cache))
		require.Equal(t, 3, s.count())
	})
}

func TestAHundredFailuresAreOneRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, cache := renewing(t)
		s.says(func(context.Context, string) (secrets.Secret, error) {
			time.Sleep(time.Second)
			return secrets.Secret{"key": secrets.NewValue("new")}, nil
		})
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				key, err := cache.Renew(t.Context(), "app", func(key string) bool { return key == "old" })
				assert.NoError(t, err)
				assert.Equal(t, "new", key)
			})
		}
		callers.Wait()
		require.Equal(t, 2, s.count())
	})
}

func TestWhatCannotBeReadAgainStaysInTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, cache := renewing(t)
		s.says(failing(secrets.ErrUnavailable))
		_, err := cache.Renew(t.Context(), "app", func(string) bool { return true })
		require.EqualError(t, err, "reading app: the secret store cannot be used")
		key, err := cache.Get(t.Context(), "app")
		require.NoError(t, err)
		require.Equal(t, "old", key)
	})
}

func TestWhatIsNoLongerInTheStoreIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, cache := renewing(t)
		s.says(failing(secrets.ErrNotFound))
		_, err := cache.Renew(t.Context(), "app", func(string) bool { return true })
		require.ErrorIs(t, err, secrets.ErrNotFound)
		_, err = cache.Get(t.Context(), "app")
		require.ErrorIs(t, err, secrets.ErrNotFound)
	})
}

func TestACallerThatGivesUpARenewalWaitsNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, cache := renewing(t)
		s.says(func(context.Context, string) (secrets.Secret, error) {
			time.Sleep(time.Minute)
			return secrets.Secret{"key": secrets.NewValue("new")}, nil
		})
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := cache.Renew(impatient, "app", func(string) bool { return true })
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))

		time.Sleep(time.Minute)
		require.Equal(t, "new", renew(t, cache))
	})
}
