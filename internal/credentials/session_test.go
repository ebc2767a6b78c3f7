package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/wechat"
)

const sessionPath = "midas/wx1234567/sessions/" + player

// writable is a store that can be written, as slowly as the values say.
type writable struct {
	*store
	takes   map[string]time.Duration
	refuses error
	trouble *secrets.Trouble
	mu      sync.Mutex
	writes  []string
}

func (w *writable) Write(_ context.Context, path string, fields secrets.Secret) error {
	key := fields["session_key"].Reveal()
	time.Sleep(w.takes[key])
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes = append(w.writes, path+" "+key)
	if w.refuses != nil {
		return w.refuses
	}
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	w.secrets[path] = map[string]string{"session_key": key}
	return nil
}

func (w *writable) Trouble() *secrets.Trouble { return w.trouble }

func TestASessionThatIsSavedIsSignedWithAtOnce(t *testing.T) {
	w := &writable{store: full()}
	creds := cacheOf(w).Of(app, nil)
	key, err := creds.SessionKey(t.Context(), wechat.V1, player)
	require.NoError(t, err)
	isKey(t, sessionOf(""), key)

	require.NoError(t, creds.CanSave(t.Context()))
	require.NoError(t, creds.SaveSession(t.Context(), player, secrets.NewValue(sessionOf("new"))))
	key, err = creds.SessionKey(t.Context(), wechat.V1, player)
	require.NoError(t, err)
	isKey(t, sessionOf("new"), key)
	require.Equal(t, []string{sessionPath + " " + sessionOf("new")}, w.writes)
	require.Equal(t, 1, w.reads[sessionPath], "nothing had to be read again")
}

func TestAStoreThatCannotBeWrittenIsKnownBefore(t *testing.T) {
	creds := cacheOf(full()).Of(app, nil)
	require.ErrorIs(t, creds.CanSave(t.Context()), secrets.ErrReadOnly)
	require.ErrorIs(t, creds.SaveSession(t.Context(), player, secrets.NewValue("aw==")), secrets.ErrReadOnly)
}

func TestAStoreThatWasAwayIsAskedWhetherItStillIs(t *testing.T) {
	w := &writable{store: full(), trouble: &secrets.Trouble{}}
	creds := cacheOf(w).Of(app, nil)
	require.NoError(t, creds.CanSave(t.Context()))
	w.leaves(true)
	require.ErrorIs(t, creds.CanSave(t.Context()), secrets.ErrUnavailable)
	w.trouble = nil
	require.NoError(t, creds.CanSave(t.Context()), "nobody has noticed")
}

func TestAKeyThatIsNotStoredIsNotUsedAndItsErrorNamesNoPlayer(t *testing.T) {
	w := &writable{store: full(), refuses: errors.New("permission denied")}
	creds := cacheOf(w).Of(app, nil)
	err := creds.SaveSession(t.Context(), player, secrets.NewValue(sessionOf("new")))
	require.EqualError(t, err, "writing midas/wx1234567/sessions/{openid}: permission denied")
	key, err := creds.SessionKey(t.Context(), wechat.V1, player)
	require.NoError(t, err)
	isKey(t, sessionOf(""), key)
}

// A login that WeChat grants is one, whatever its key looks like. Nothing is signed with
// what cannot be right.
func TestAKeyOfWeChatsThatIsMalformedIsStoredAndNotSignedWith(t *testing.T) {
	for _, odd := range []string{canary + "\n", canary, "_" + sessionOf("url")} {
		w := &writable{store: full()}
		creds := cacheOf(w).Of(app, nil)
		require.NoError(t, creds.SaveSession(t.Context(), player, secrets.NewValue(odd)))
		require.Equal(t, []string{sessionPath + " " + odd}, w.writes)
		_, err := creds.SessionKey(t.Context(), wechat.V1, player)
		require.ErrorContains(t, err, "midas/wx1234567/sessions/{openid} field session_key must ")
		require.NotErrorIs(t, err, secrets.ErrNotFound)
		hides(t, err)
	}
}

func TestNoKeyIsNotStored(t *testing.T) {
	w := &writable{store: full()}
	require.Error(t, cacheOf(w).Of(app, nil).SaveSession(t.Context(), player, secrets.Value{}))
	require.Empty(t, w.writes)
}

// The one who came later has the key that WeChat takes, however long the writes take.
func TestOfTwoLoginsOfAPlayerTheLaterWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &writable{store: full(), takes: map[string]time.Duration{}}
		creds := cacheOf(w).Of(app, nil)
		var all sync.WaitGroup
		var want []string
		for i := range 20 {
			key := sessionOf(fmt.Sprint(i))
			w.takes[key] = time.Duration(20-i) * time.Second
			want = append(want, sessionPath+" "+key)
			all.Go(func() { require.NoError(t, creds.SaveSession(t.Context(), player, secrets.NewValue(key))) })
			synctest.Wait()
		}
		// Others do not wait for them.
		began := time.Now()
		require.NoError(t, creds.SaveSession(t.Context(), "another", secrets.NewValue("aw==")))
		require.Zero(t, time.Since(began))
		all.Wait()
		require.Equal(t, append([]string{"midas/wx1234567/sessions/another aw=="}, want...), w.writes)
		key, err := creds.SessionKey(t.Context(), wechat.V1, player)
		require.NoError(t, err)
		isKey(t, sessionOf("19"), key)
	})
}

func TestTheAppSecretIsReadPastTheCacheWhereItIsRefused(t *testing.T) {
	s := full()
	creds := cacheOf(s).Of(app, nil)
	old, err := creds.AppSecret(t.Context(), secrets.Value{})
	require.NoError(t, err)
	s.put(app.Secret, "app_secret", canary+"corrected")
	same, err := creds.AppSecret(t.Context(), secrets.Value{})
	require.NoError(t, err)
	require.Equal(t, old, same)
	corrected, err := creds.AppSecret(t.Context(), old)
	require.NoError(t, err)
	require.Equal(t, canary+"corrected", corrected.Reveal())
}

// A reload may change a line of the app while one of its players logs in twice.
func TestTheLaterLoginCountsThoughTheAppIsConfiguredAnewInBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &writable{store: full(), takes: map[string]time.Duration{sessionOf("old"): 2 * time.Second, sessionOf("new"): time.Second}}
		cache := cacheOf(w)
		changed := app
		changed.MPSig = !app.MPSig
		before, after := cache.Of(app, nil), cache.Of(changed, nil)
		var logins sync.WaitGroup
		logins.Go(func() { assert.NoError(t, before.SaveSession(t.Context(), player, secrets.NewValue(sessionOf("old")))) })
		synctest.Wait()
		logins.Go(func() { assert.NoError(t, after.SaveSession(t.Context(), player, secrets.NewValue(sessionOf("new")))) })
		logins.Wait()
		key, err := after.SessionKey(t.Context(), wechat.V2, player)
		require.NoError(t, err)
		isKey(t, sessionOf("new"), key)
	})
}

func TestASessionIsStoredAgainOnlyAfterItsOwnRefusal(t *testing.T) {
	w := &writable{store: full()}
	creds := cacheOf(w).Of(app, nil)
	login := func(key string) {
		require.NoError(t, creds.SaveSession(t.Context(), player, secrets.NewValue(key)))
	}
	again := func() bool {
		key, err := creds.SessionKey(t.Context(), wechat.V1, player)
		require.NoError(t, err)
		return creds.SessionStoredAgain(player, key)
	}
	refuse := func() {
		key, err := creds.SessionKey(t.Context(), wechat.V1, player)
		require.NoError(t, err)
		_, err = creds.RenewSessionKey(t.Context(), player, key)
		require.NoError(t, err)
	}
	login("AAAA")
	login("AAAA")
	require.False(t, again(), "never refused")
	refuse()
	require.False(t, again())
	login("AAAA")
	require.True(t, again())
	refuse()
	require.True(t, again(), "and still after the next refusal")
	login("BBBB")
	login("AAAA")
	require.False(t, again(), "another one was there in between")
}
