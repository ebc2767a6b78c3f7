package credentials_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/credentials"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/signer"
)

// versioned is a store that keeps the version of the app's secret before the newest.
type versioned struct {
	*store
	before string // its midas_key, "" where there is none
	oldest string // that of the version before it
	asked  int
	err    error
}

func (v *versioned) Earlier(_ context.Context, path string, other func(secrets.Secret) bool) (secrets.Secret, error) {
	v.asked++
	if v.err != nil {
		return nil, v.err
	}
	for _, key := range []string{v.before, v.oldest} {
		s := secrets.Secret{"midas_key": secrets.NewValue(key)}
		if key != "" && path == app.Secret && other(s) {
			return s, nil
		}
	}
	return nil, secrets.ErrNotFound
}

// rotating are the credentials of an app whose key in the store is "new" and was
// "old", and what has been logged about them.
func rotating(before string) (*versioned, *credentials.Credentials, *bytes.Buffer) {
	s := &versioned{store: full(), before: before}
	s.put(app.Secret, "midas_key", canary+"new")
	log := new(bytes.Buffer)
	cache := credentials.NewCache(s, credentials.Options{
		Ages:     cacheAges,
		Sessions: 10,
		Log:      slog.New(slog.NewTextHandler(log, nil)),
	})
	return s, cache.Of(app, nil), log
}

// pays signs as an order does, where WeChat takes that key only. It tells with how
// many keys it tried, and whether one was taken.
func pays(t *testing.T, creds *credentials.Credentials, taken string) (tried int, paid bool) {
	t.Helper()
	var refused []*signer.Key
	key, err := creds.MidasKey(t.Context(), v1Official)
	for ; key != nil; key, err = creds.FallbackMidasKey(t.Context(), v1Official, refused) {
		require.NoError(t, err)
		tried++
		if key.Equal(signer.NewKey(canary + taken)) {
			if tried > 1 {
				creds.ConfirmMidasKey(t.Context(), v1Official, key)
			}
			return tried, true
		}
		refused = append(refused, key)
	}
	require.NoError(t, err)
	return tried, false
}

func TestTheKeyBeforeIsUsedWhileWeChatRefusesTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, creds, log := rotating(canary + "old")
		tried, paid := pays(t, creds, "old")
		require.True(t, paid)
		require.Equal(t, 2, tried)
		for range 100 {
			time.Sleep(time.Minute)
			tried, paid = pays(t, creds, "old")
			require.True(t, paid)
			require.Equal(t, 1, tried, "it is remembered which one works")
		}
		require.Equal(t, 1, s.asked)

		tried, paid = pays(t, creds, "new")
		require.True(t, paid, "WeChat has followed")
		require.Equal(t, 2, tried)
		tried, _ = pays(t, creds, "new")
		require.Equal(t, 1, tried)

		require.Equal(t, 2, strings.Count(log.String(), "\n"), log)
		require.Contains(t, log.String(), `level=WARN msg="WeChat refuses the newest key: an earlier one is used" appid=wx1234567 secret=midas_key`)
		require.Contains(t, log.String(), `level=INFO msg="the newest key is used again"`)
		require.NotContains(t, log.String(), canary)
	})
}

func TestACachedKeyAndTheNewestMayBothBeWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, creds, _ := rotating(canary + "old")
		_, paid := pays(t, creds, "new")
		require.True(t, paid)
		s.put(app.Secret, "midas_key", canary+"newer")
		tried, paid := pays(t, creds, "old")
		require.True(t, paid)
		require.Equal(t, 3, tried)
	})
}

// A key that was stored by mistake, and then the right one, before WeChat has either.
func TestTwoNewerKeysDoNotHideTheOneThatWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, creds, _ := rotating(canary + "old")
		_, paid := pays(t, creds, "old")
		require.True(t, paid)
		s.put(app.Secret, "midas_key", canary+"newer")
		s.before, s.oldest = canary+"new", canary+"old"
		time.Sleep(10 * time.Minute)
		for range 10 {
			_, paid := pays(t, creds, "old")
			require.True(t, paid)
			time.Sleep(time.Minute)
		}
	})
}

func TestAKeyIsNotUsedForAllBeforeWeChatTookIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, creds, log := rotating(canary + "old")
		newest, err := creds.MidasKey(t.Context(), v1Official)
		require.NoError(t, err)
		_, err = creds.FallbackMidasKey(t.Context(), v1Official, []*signer.Key{newest})
		require.NoError(t, err)
		key, err := creds.MidasKey(t.Context(), v1Official)
		require.NoError(t, err)
		require.True(t, key.Equal(newest), "the refusal may be about one order")
		require.Empty(t, log.String())
	})
}

func TestWhereThereIsNoOtherKeyTheRefusalStands(t *testing.T) {
	for name, before := range map[string]string{"no earlier version": "", "the same key before": canary + "new", "nonsense before": " "} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, creds, log := rotating(before)
				for range 10 {
					tried, paid := pays(t, creds, "another")
					require.False(t, paid)
					require.Equal(t, 1, tried)
				}
				require.Equal(t, 1, s.asked)
				require.Equal(t, 1, strings.Count(log.String(), "\n"))
				require.Contains(t, log.String(), `level=ERROR msg="WeChat refuses the Midas key, and there is no other`)
				require.NotContains(t, log.String(), canary)
			})
		})
	}
}

func TestTwoWrongKeysAreTriedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, creds, log := rotating(canary + "old")
		for range 600 {
			_, paid := pays(t, creds, "another")
			require.False(t, paid)
			time.Sleep(time.Second)
		}
		require.InDelta(t, 20, s.asked, 2, "for the one before, and for one before that")
		require.Equal(t, 1, strings.Count(log.String(), "level=ERROR"), "once until it changes")

		s.put(app.Secret, "midas_key", canary+"another")
		tried, paid := pays(t, creds, "another")
		require.True(t, paid)
		require.Equal(t, 2, tried)
	})
}

func TestAStoreWithoutHistoryHasNoKeyBefore(t *testing.T) {
	creds := cacheOf(full()).Of(app, nil)
	tried, paid := pays(t, creds, "another")
	require.False(t, paid)
	require.Equal(t, 1, tried)
}

func TestAHundredRefusedOrdersLookForTheKeyBeforeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, creds, _ := rotating(canary + "old")
		newest, err := creds.MidasKey(t.Context(), v1Official)
		require.NoError(t, err)
		done := make(chan struct{})
		for range 100 {
			go func() {
				key, err := creds.FallbackMidasKey(t.Context(), v1Official, []*signer.Key{newest})
				assert.NoError(t, err)
				assert.True(t, key.Equal(signer.NewKey(canary+"old")))
				done <- struct{}{}
			}()
		}
		for range 100 {
			<-done
		}
		require.Equal(t, 1, s.asked)
	})
}

func TestTheKeyBeforeThatCannotBeReadIsNoKey(t *testing.T) {
	s, creds, _ := rotating("")
	s.err = secrets.ErrUnavailable
	newest, err := creds.MidasKey(t.Context(), v1Official)
	require.NoError(t, err)
	_, err = creds.FallbackMidasKey(t.Context(), v1Official, []*signer.Key{newest})
	require.ErrorIs(t, err, secrets.ErrUnavailable)
}

// A bad key is stored, and the one before is written again in its place; then once more.
func TestARotationThatIsRolledBackIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, creds, log := rotating(canary + "old")
		_, paid := pays(t, creds, "old")
		require.True(t, paid)
		require.Equal(t, 1, strings.Count(log.String(), "level=WARN"), log)

		rollBack := func(bad string) {
			s.put(app.Secret, "midas_key", canary+"old")
			s.before, s.oldest = canary+bad, canary+"old"
			time.Sleep(cacheAges.Fresh)
			for range 3 { // the first finds that there is a newer one
				tried, paid := pays(t, creds, "old")
				require.True(t, paid)
				require.Equal(t, 1, tried)
				synctest.Wait()
			}
		}
		rollBack("new")
		require.Equal(t, 1, strings.Count(log.String(), `level=INFO msg="the newest key is used again"`), log)

		for _, bad := range []string{"bad", "new"} {
			log.Reset()
			s.put(app.Secret, "midas_key", canary+bad)
			s.before = canary + "old"
			time.Sleep(cacheAges.Fresh)
			for range 3 {
				_, paid = pays(t, creds, "old")
				require.True(t, paid)
				synctest.Wait()
			}
			require.Equal(t, 1, strings.Count(log.String(), "level=WARN"), log)
			rollBack(bad)
			require.Equal(t, 1, strings.Count(log.String(), "level=INFO"), log)
			require.Equal(t, 2, strings.Count(log.String(), "\n"), log)
		}
	})
}

// What replaces a bad key may be a new one, too.
func TestARotationIsOverWithTheNextKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, creds, log := rotating(canary + "old")
		_, paid := pays(t, creds, "old")
		require.True(t, paid)
		s.put(app.Secret, "midas_key", canary+"third")
		time.Sleep(cacheAges.Fresh)
		_, _ = pays(t, creds, "old")
		synctest.Wait()
		tried, paid := pays(t, creds, "third")
		require.True(t, paid)
		require.Equal(t, 1, tried)
		require.Contains(t, log.String(), `level=INFO msg="the newest key is used again"`)
	})
}
