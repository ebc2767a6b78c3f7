package secrets_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
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

var errDenied = errors.New("permission denied")

// get returns the key at path, which must be there.
func get(t *testing.T, cache *secrets.Reader[string], path string) string {
	t.Helper()
	key, err := cache.Get(t.Context(), path)
	require.NoError(t, err)
	return key
}

// logging returns a cache, and what gives the messages that it has logged since it
// was last asked.
func logging(s secrets.Store) (*secrets.Reader[string], func() []string) {
	text := new(bytes.Buffer)
	cache := secrets.NewCache(1000, secrets.Ages{Fresh: fresh, Stale: stale}, parseKey).
		Reader(s, secrets.Kind{Pace: breaker.NewPace(time.Second), Log: slog.New(slog.NewTextHandler(text, nil))})
	return cache, func() []string {
		messages := []string{}
		for line := range strings.Lines(text.String()) {
			_, message, _ := strings.Cut(strings.TrimSpace(line), "msg=")
			message, _, _ = strings.Cut(message, " since=")
			messages = append(messages, message)
		}
		text.Reset()
		return messages
	}
}

func TestAStaleSecretIsUsedWhileTheStoreIsAway(t *testing.T) {
	for name, answer := range map[string]func(context.Context, string) (secrets.Secret, error){
		"it says so":              failing(fmt.Errorf("%w: sealed", secrets.ErrUnavailable)),
		"the secret is denied":    failing(errDenied),
		"the secret lost its key": holding(""),
		"it hangs": func(ctx context.Context, _ string) (secrets.Secret, error) {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			<-ctx.Done()
			return nil, secrets.ErrUnavailable
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &store{answer: holding("old")}
				cache := cacheOf(s)
				get(t, cache, "app")
				s.says(answer)
				for start := time.Now(); time.Since(start) < fresh+stale-time.Second; time.Sleep(time.Minute - time.Second) {
					asked := time.Now()
					require.Equal(t, "old", get(t, cache, "app"))
					require.Equal(t, asked, time.Now(), "nobody waits")
				}
				time.Sleep(time.Minute)
				_, err := cache.Get(t.Context(), "app")
				require.Error(t, err)

				time.Sleep(2 * time.Second)
				s.says(holding("new"))
				require.Equal(t, "new", get(t, cache, "app"))
			})
		})
	}
}

func TestWhatCannotBeReadAgainIsTriedEverySecondAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{answer: holding("old")}
		cache := cacheOf(s)
		get(t, cache, "app")
		s.says(failing(secrets.ErrUnavailable))
		time.Sleep(fresh)
		for range 1000 {
			get(t, cache, "app")
			time.Sleep(10 * time.Millisecond)
		}
		require.InDelta(t, 1+10, s.count(), 1)

		s.says(holding("new"))
		time.Sleep(time.Second)
		get(t, cache, "app")
		synctest.Wait()
		require.Equal(t, "new", get(t, cache, "app"))
	})
}

func TestAStoreThatHangsIsNotAskedForEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{answer: holding("old")}
		cache := cacheOf(s)
		const players = 100
		ask := func() {
			for i := range players {
				get(t, cache, strconv.Itoa(i))
			}
		}
		ask()
		time.Sleep(fresh)
		s.says(func(context.Context, string) (secrets.Secret, error) {
			time.Sleep(2 * time.Second)
			return holding("new")(nil, "")
		})
		ask()
		time.Sleep(time.Second)
		require.Equal(t, players+4, s.count())
		time.Sleep(time.Minute)
		require.Equal(t, 2*players, s.count())
	})
}

func TestAKindThatMayNotBeReadIsAskedForNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{answer: failing(errDenied)}
		cache := cacheOf(s)
		for i := range 1000 {
			_, err := cache.Get(t.Context(), strconv.Itoa(i))
			require.EqualError(t, err, fmt.Sprintf("reading %d: permission denied", i))
			time.Sleep(10 * time.Millisecond)
		}
		require.InDelta(t, 2+10, s.count(), 1, "three running, and then one a second")
	})
}

// A load balancer over nodes that do not all answer themselves refuses some reads.
func TestRefusedReadsCostNoOthers(t *testing.T) {
	for _, every := range []int64{2, 10} {
		t.Run(fmt.Sprintf("one in %d", every), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int64
				s := &store{answer: func(context.Context, string) (secrets.Secret, error) {
					n := asked.Add(1)
					time.Sleep(time.Duration(n%7) * time.Millisecond) // they end in another order
					if n%every == 0 {
						return nil, errDenied
					}
					return holding("K")(nil, "")
				}}
				cache, log, w := of(s, "players/{openid}")
				var failed atomic.Int64
				var all sync.WaitGroup
				for i := range 1000 {
					all.Go(func() {
						if _, err := cache.Get(t.Context(), strconv.Itoa(i)); err != nil {
							failed.Add(1)
						}
					})
					time.Sleep(time.Millisecond)
				}
				all.Wait()
				require.Equal(t, 1000/every, failed.Load())
				require.Len(t, w.reads, 1000, "each was asked for")
				require.Empty(t, log.String())
			})
		})
	}
}

func TestASecretThatIsRefusedNowAndThenIsAskedForAgainAtOnce(t *testing.T) {
	s := &store{answer: failing(errDenied)}
	cache, log, _ := of(s, "")
	for range 100 {
		s.says(failing(errDenied))
		for range 2 {
			_, err := cache.Get(t.Context(), "app")
			require.Error(t, err)
			cache.Forget("app")
		}
		s.says(holding("K"))
		get(t, cache, "app")
		cache.Forget("app")
	}
	require.Empty(t, log.String())
}

func TestOnePlayerWhoMayNotBeReadClosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{answer: failing(errDenied)}
		cache, log, _ := of(s, "players/{openid}")
		for range 100 {
			_, err := cache.Get(t.Context(), "players/o1")
			require.Error(t, err)
			time.Sleep(2 * time.Second) // for which a refusal is remembered
		}
		require.Equal(t, 100, s.count())
		require.Empty(t, log.String())
	})
}

func TestPlayersWhoMayNotBeReadAreAskedForEightTimesAndThenNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{answer: failing(errDenied)}
		cache, log, _ := of(s, "players/{openid}")
		for i := range 1000 {
			_, err := cache.Get(t.Context(), strconv.Itoa(i))
			require.EqualError(t, err, "reading players/{openid}: permission denied")
			time.Sleep(10 * time.Millisecond)
		}
		require.InDelta(t, 7+10, s.count(), 1)
		require.Equal(t, 1, strings.Count(log.String(), "\n"), log)
	})
}

// A store that is away has a breaker of its own; the kinds of secrets are not to blame.
func TestAKindIsNotClosedByAStoreThatIsAway(t *testing.T) {
	s := &store{answer: failing(secrets.ErrUnavailable)}
	cache, logged := logging(s)
	for range 10 {
		_, err := cache.Get(t.Context(), "app")
		require.ErrorIs(t, err, secrets.ErrUnavailable)
	}
	require.Equal(t, 10, s.count())
	require.Empty(t, logged())
}

func TestACallerThatGoesAwayClosesNothing(t *testing.T) {
	s := &store{answer: func(ctx context.Context, _ string) (secrets.Secret, error) { return nil, ctx.Err() }}
	cache, logged := logging(s)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = cache.Get(gone, "app")
	s.says(holding("K"))
	require.Equal(t, "K", get(t, cache, "app"))
	require.Empty(t, logged())
}

func TestTheLogSaysOnceThatAKindCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{answer: failing(errDenied)}
		cache, logged := logging(s)
		for i := range 1000 {
			_, err := cache.Get(t.Context(), strconv.Itoa(i))
			require.Error(t, err)
			time.Sleep(10 * time.Millisecond)
		}
		s.says(holding("K"))
		time.Sleep(time.Second)
		for range 10 {
			get(t, cache, "app")
		}
		require.Equal(t, []string{
			`"secret cannot be read" error="permission denied"`,
			`"secret can be read again" after=10.98s`,
		}, logged())
	})
}

func TestTheLogSaysOnceThatASecretThatIsUsedBecameMalformed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{answer: holding("old")}
		cache, logged := logging(s)
		get(t, cache, "players/o1")
		s.says(holding(""))
		for range 100 {
			time.Sleep(time.Minute)
			require.Equal(t, "old", get(t, cache, "players/o1"))
		}
		s.says(holding("new"))
		time.Sleep(time.Minute)
		get(t, cache, "players/o1")
		synctest.Wait()
		require.Equal(t, "new", get(t, cache, "players/o1"))
		require.Equal(t, []string{
			`"secret is malformed: the last good value is used" error="players/o1 has no field key"`,
			`"secret is well formed again"`,
		}, logged())
	})
}

func TestASecretThatIsDeletedIsNoLongerUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{answer: holding("old")}
		cache := cacheOf(s)
		get(t, cache, "app")
		s.says(failing(secrets.ErrNotFound))
		time.Sleep(fresh)
		get(t, cache, "app")
		synctest.Wait()
		_, err := cache.Get(t.Context(), "app")
		require.ErrorIs(t, err, secrets.ErrNotFound)
	})
}

func TestManyWhoNoticeReadAgainOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{answer: holding("old")}
		cache := cacheOf(s)
		get(t, cache, "app")
		s.says(func(context.Context, string) (secrets.Secret, error) {
			time.Sleep(time.Second)
			return holding("new")(nil, "")
		})
		time.Sleep(fresh)
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				key, err := cache.Get(t.Context(), "app")
				assert.NoError(t, err)
				assert.Equal(t, "old", key)
			})
		}
		callers.Wait()
		time.Sleep(2 * time.Second)
		require.Equal(t, "new", get(t, cache, "app"))
		require.Equal(t, 2, s.count())
	})
}

// The order that notices is bounded by its deadline, and its caller may hang up.
func TestAReadInTheBackgroundOutlivesWhoeverNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{answer: holding("old")}
		cache := cacheOf(s)
		get(t, cache, "app")
		s.says(func(ctx context.Context, _ string) (secrets.Secret, error) {
			time.Sleep(time.Second)
			require.NoError(t, ctx.Err())
			return holding("new")(nil, "")
		})
		time.Sleep(fresh)
		impatient, hangUp := context.WithCancel(t.Context())
		_, err := cache.Get(impatient, "app")
		require.NoError(t, err)
		hangUp()
		time.Sleep(2 * time.Second)
		require.Equal(t, "new", get(t, cache, "app"))
	})
}

// of returns a reader of a kind, its log, and what it told the watcher.
func of(s secrets.Store, players string) (*secrets.Reader[string], *bytes.Buffer, *watched) {
	log, w := new(bytes.Buffer), new(watched)
	kind := secrets.Kind{Pace: breaker.NewPace(time.Second), Log: slog.New(slog.NewTextHandler(log, nil)), Players: players, Watcher: w}
	return secrets.NewCache(1000, secrets.Ages{Fresh: fresh, Stale: stale}, parseKey).Reader(s, kind), log, w
}

type watched struct {
	mu    sync.Mutex
	reads []secrets.Result
	stale []error
}

func (w *watched) Read(r secrets.Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads = append(w.reads, r)
}

func (w *watched) Stale(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stale = append(w.stale, err)
}

func TestTheLogSaysOnceThatThereIsNoSecretToUse(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(context.Context, string) (secrets.Secret, error)
		why    string
	}{
		"absent":    {failing(secrets.ErrNotFound), "reading app: no such secret"},
		"malformed": {holding(""), "app has no field key"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &store{answer: c.answer}
				cache, log, _ := of(s, "")
				for range 10 {
					_, err := cache.Get(t.Context(), "app")
					require.EqualError(t, err, c.why)
					time.Sleep(time.Second)
				}
				s.says(holding("K"))
				time.Sleep(time.Second)
				get(t, cache, "app")
				require.Equal(t, 2, strings.Count(log.String(), "\n"), log)
				require.Contains(t, log.String(), `level=WARN msg="secret cannot be used" error="`+c.why+`"`)
				require.Contains(t, log.String(), `level=INFO msg="secret can be used"`)
			})
		})
	}
}

func TestAPlayersPathIsShownNowhereAndItsAbsenceIsNoNews(t *testing.T) {
	s := &store{answer: failing(secrets.ErrNotFound)}
	cache, log, _ := of(s, "players/{openid}")
	_, err := cache.Get(t.Context(), "players/o1")
	require.EqualError(t, err, "reading players/{openid}: no such secret")
	require.Empty(t, log.String())
}

func TestTheWatcherIsToldOfEachReadAndOnceThatAKindIsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{answer: holding("K")}
		cache, _, w := of(s, "")
		get(t, cache, "app")
		require.Nil(t, cache.Trouble())
		s.says(failing(secrets.ErrUnavailable))
		time.Sleep(fresh)
		began := time.Now()
		for range 3 {
			get(t, cache, "app")
			time.Sleep(time.Second)
		}
		age, used := cache.Age("app")
		require.True(t, used)
		require.Equal(t, fresh+3*time.Second, age)
		require.Equal(t, began, cache.Trouble().Since)
		require.ErrorIs(t, cache.Trouble().Failure, secrets.ErrUnavailable)

		s.says(holding("K"))
		get(t, cache, "app")
		synctest.Wait()
		require.Nil(t, cache.Trouble())
		require.Equal(t, []secrets.Result{"found", "unavailable", "unavailable", "unavailable", "found"}, w.reads)
		require.Len(t, w.stale, 1)
	})
}

func TestNewAgesCountForWhatIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{answer: holding("K")}
		cache := secrets.NewCache(10, secrets.Ages{Fresh: time.Minute, Stale: time.Hour}, parseKey)
		reader := cache.Reader(s, secrets.Kind{Pace: breaker.NewPace(time.Second), Log: slog.New(slog.DiscardHandler)})
		get(t, reader, "app")
		s.says(failing(secrets.ErrUnavailable))
		time.Sleep(time.Hour)
		cache.Set(10, secrets.Ages{Fresh: time.Minute, Stale: 10 * time.Hour})
		get(t, reader, "app")
		time.Sleep(9 * time.Hour)
		get(t, reader, "app")
		time.Sleep(2 * time.Hour)
		_, err := reader.Get(t.Context(), "app")
		require.ErrorIs(t, err, secrets.ErrUnavailable)
	})
}

func TestWhatIsForgottenIsReadAgain(t *testing.T) {
	s := &store{answer: holding("old")}
	cache := secrets.NewCache(10, secrets.Ages{Fresh: time.Hour}, parseKey)
	reader := cache.Reader(s, secrets.Kind{Pace: breaker.NewPace(time.Second), Log: slog.New(slog.DiscardHandler)})
	get(t, reader, "a")
	get(t, reader, "b")
	require.Equal(t, 2, cache.Len())
	s.says(holding("new"))
	reader.Forget("a")
	require.Equal(t, "new", get(t, reader, "a"))
	require.Equal(t, "old", get(t, reader, "b"))
	cache.Forget()
	require.Equal(t, "new", get(t, reader, "b"))
}

func TestASlipInTheStoreIsTroubleUntilItIsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{answer: holding("K")}
		cache, _, w := of(s, "")
		get(t, cache, "app")
		s.says(holding(""))
		time.Sleep(fresh)
		began := time.Now()
		for range 10 {
			get(t, cache, "app")
			time.Sleep(time.Second)
		}
		require.Equal(t, began, cache.Trouble().Since)
		require.EqualError(t, cache.Trouble().Failure, "app has no field key")
		require.Len(t, w.stale, 1)

		s.says(holding("K"))
		time.Sleep(time.Second)
		get(t, cache, "app")
		synctest.Wait()
		require.Nil(t, cache.Trouble())
	})
}

func TestAMistakeInAStoreIsAnErrorForWhoeverAsked(t *testing.T) {
	s := &store{answer: func(context.Context, string) (secrets.Secret, error) { panic("canary") }}
	_, err := cacheOf(s).Get(t.Context(), "app")
	require.EqualError(t, err, "reading a secret: panic")
}
