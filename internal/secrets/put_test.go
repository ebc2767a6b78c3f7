package secrets_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/secrets"
)

// slow answers with the old value that it began to read when it was asked, once told to.
func slow(asked chan<- struct{}, goOn <-chan struct{}) func(context.Context, string) (secrets.Secret, error) {
	return func(context.Context, string) (secrets.Secret, error) {
		asked <- struct{}{}
		<-goOn
		return secrets.Secret{"key": secrets.NewValue("old")}, nil
	}
}

func TestWhatIsPutIsUsedAtOnceAndAsLongAsIfItHadBeenRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{answer: holding("old")}
		cache := cacheOf(s)
		get := func() string {
			key, err := cache.Get(t.Context(), "app")
			require.NoError(t, err)
			return key
		}
		require.Equal(t, "old", get())
		cache.Put("app", "new")
		require.Equal(t, "new", get())
		require.Equal(t, 1, s.count())
		age, used := cache.Age("app")
		require.True(t, used)
		require.Zero(t, age)

		s.says(holding("newer"))
		time.Sleep(fresh + time.Second)
		require.Equal(t, "new", get())
		synctest.Wait()
		require.Equal(t, "newer", get())
	})
}

func TestWhatIsPutEndsTheMemoryThatThereWasNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := cacheOf(&store{answer: failing(secrets.ErrNotFound)})
		_, err := cache.Get(t.Context(), "app")
		require.ErrorIs(t, err, secrets.ErrNotFound)
		cache.Put("app", "new")
		key, err := cache.Get(t.Context(), "app")
		require.NoError(t, err)
		require.Equal(t, "new", key)
	})
}

func TestAReadThatBeganBeforeDoesNotReplaceWhatIsPut(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T, *secrets.Reader[string]){
		"a first read": func(*testing.T, *secrets.Reader[string]) {},
		"a read behind callers": func(_ *testing.T, cache *secrets.Reader[string]) {
			cache.Put("app", "oldest")
			time.Sleep(fresh + time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked, goOn := make(chan struct{}, 1), make(chan struct{})
				cache := cacheOf(&store{answer: slow(asked, goOn)})
				prepare(t, cache)
				got := make(chan string, 1)
				go func() {
					key, _ := cache.Get(t.Context(), "app")
					got <- key
				}()
				<-asked
				cache.Put("app", "new")
				close(goOn)
				require.Contains(t, []string{"new", "oldest"}, <-got)
				synctest.Wait()
				key, err := cache.Get(t.Context(), "app")
				require.NoError(t, err)
				require.Equal(t, "new", key)
			})
		})
	}
}

// An order that WeChat refused while its player was logging in is signed with the key of
// the login, though the store was asked before that was there.
func TestARenewalThatBeganBeforeReturnsWhatIsPut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, cache := renewing(t)
		asked, goOn := make(chan struct{}, 1), make(chan struct{})
		s.says(slow(asked, goOn))
		got := make(chan string, 1)
		go func() {
			key, _ := cache.Renew(t.Context(), "app", func(key string) bool { return key == "old" })
			got <- key
		}()
		<-asked
		cache.Put("app", "new")
		close(goOn)
		require.Equal(t, "new", <-got)
	})
}
