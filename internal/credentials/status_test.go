package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/credentials"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/wechat"
)

// observer writes down what it is told.
type observer struct {
	mu    sync.Mutex
	reads []string
	stale []string
}

func (o *observer) SecretRead(field string, result secrets.Result) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reads = append(o.reads, fmt.Sprint(field, " ", result))
}

func (o *observer) SecretStale(appID, field string, failure error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stale = append(o.stale, fmt.Sprint(appID, " ", field, ": ", failure))
}

// observed are the credentials of an app, and who watches them.
func observed(s secrets.Store, here credentials.App, w *weChat) (*credentials.Cache, *credentials.Credentials, *observer) {
	o := new(observer)
	cache := credentials.NewCache(s, credentials.Options{Ages: cacheAges, Sessions: 1000, Log: discard, Observer: o})
	return cache, cache.Of(here, w), o
}

// readAll reads all that an order of either environment needs.
func readAll(t *testing.T, creds *credentials.Credentials) {
	t.Helper()
	ctx := context.Background()
	_, err := creds.MidasKey(ctx, v1Official)
	require.NoError(t, err)
	_, err = creds.MidasKey(ctx, v1Sandbox)
	require.NoError(t, err)
	_, err = creds.SessionKey(ctx, wechat.V1, player)
	require.NoError(t, err)
	_, err = creds.AccessToken(ctx)
	require.NoError(t, err)
}

func TestNothingIsKnownOfSecretsThatNobodyUsed(t *testing.T) {
	s := full()
	_, creds, o := observed(s, app, new(weChat))
	require.Equal(t, credentials.Status{Ages: map[string]time.Duration{}, Troubles: map[string]secrets.Trouble{}, Refused: map[string]*secrets.Trouble{}}, creds.Status())
	require.Empty(t, s.reads, "whoever watches reads nothing")
	require.Empty(t, o.reads)
}

func TestTheStatusHasTheAgesOfSecretsAndTheEndOfTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, creds, _ := observed(full(), app, new(weChat))
		readAll(t, creds)
		expires := time.Now().Add(2 * time.Hour)
		time.Sleep(time.Minute)
		status := creds.Status()
		require.Equal(t, map[string]time.Duration{"midas_key": time.Minute, "midas_key_sandbox": time.Minute, "app_secret": time.Minute}, status.Ages)
		require.Empty(t, status.Troubles)
		require.WithinDuration(t, expires, status.TokenExpires, time.Minute)
	})
}

func TestACentralTokenHasAnAgeAndNoEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, creds, _ := observed(full(), central("other"), nil)
		_, err := creds.AccessToken(t.Context())
		require.NoError(t, err)
		time.Sleep(time.Second)
		status := creds.Status()
		require.Equal(t, map[string]time.Duration{"access_token": time.Second}, status.Ages, "whatever its field is called")
		require.Zero(t, status.TokenExpires)
	})
}

func TestTroubleBeginsWithTheReadThatFailedAndEndsWithOneThatWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := full()
		_, creds, o := observed(s, app, new(weChat))
		readAll(t, creds)
		s.leaves(true)
		time.Sleep(cacheAges.Fresh + time.Second)
		failed := time.Now()
		readAll(t, creds)
		synctest.Wait()
		time.Sleep(time.Hour)
		readAll(t, creds)
		synctest.Wait()

		status := creds.Status()
		for _, field := range []string{"midas_key", "midas_key_sandbox", "session_key"} {
			require.Equal(t, failed, status.Troubles[field].Since, field)
			require.ErrorIs(t, status.Troubles[field].Failure, secrets.ErrUnavailable, field)
			hides(t, status.Troubles[field].Failure)
			require.NotContains(t, status.Troubles[field].Failure.Error(), player)
			told := 0
			for _, line := range o.stale {
				if line == "wx1234567 "+field+": "+status.Troubles[field].Failure.Error() {
					told++
				}
			}
			require.Equal(t, 1, told, "%s in %q", field, o.stale)
		}
		require.Equal(t, cacheAges.Fresh+time.Hour+time.Second, status.Ages["midas_key"], "it is used on")

		s.leaves(false)
		time.Sleep(2 * time.Second)
		readAll(t, creds)
		synctest.Wait()
		readAll(t, creds)
		synctest.Wait()
		status = creds.Status()
		for _, field := range []string{"midas_key", "midas_key_sandbox", "session_key"} {
			require.NotContains(t, status.Troubles, field)
		}
		require.Zero(t, status.Ages["midas_key"])
	})
}

// A secret that was never had is in trouble; the observer is told of what is in use only.
func TestAReadThatFailsAtFirstIsInTroubleAndTheEventIsNotEmitted(t *testing.T) {
	s := full()
	s.leaves(true)
	_, creds, o := observed(s, app, new(weChat))
	_, err := creds.MidasKey(t.Context(), v1Official)
	require.Error(t, err)
	require.Equal(t, []string{"midas_key unavailable"}, o.reads)
	require.Empty(t, o.stale)
	require.ErrorIs(t, creds.Status().Troubles["midas_key"].Failure, secrets.ErrUnavailable)
}

// refusing is a store that is there and gives nothing.
type refusing struct{}

func (refusing) Read(context.Context, string) (secrets.Secret, error) {
	return nil, errors.New("permission denied")
}

func TestEveryReadIsObservedWithItsResult(t *testing.T) {
	others := []string{"midas_key_sandbox found", "app_secret found"}
	for want, store := range map[string]secrets.Store{
		"midas_key found": full(),
		"midas_key absent": func() *store {
			s := full()
			delete(s.secrets, app.Secret)
			return s
		}(),
		"midas_key malformed": func() *store {
			s := full()
			s.put(app.Secret, "midas_key", "")
			return s
		}(),
		"midas_key refused": refusing{},
	} {
		t.Run(want, func(t *testing.T) {
			_, creds, o := observed(store, app, nil)
			for range 3 {
				_, _ = creds.MidasKey(t.Context(), v1Official)
			}
			wanted := []string{want}
			if strings.HasSuffix(want, "found") || strings.HasSuffix(want, "malformed") {
				wanted = append(wanted, others...) // which the same call brings
			}
			require.Equal(t, wanted, o.reads, "what is kept is not read again")
		})
	}
}

func TestASecretThatLostItsFieldIsObservedAsStaleOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := full()
		_, creds, o := observed(s, app, new(weChat))
		readAll(t, creds)
		s.put(app.Secret, "midas_key", "")
		for range 5 {
			time.Sleep(cacheAges.Fresh + time.Second)
			readAll(t, creds)
			synctest.Wait()
		}
		require.Equal(t, []string{"wx1234567 midas_key: midas/wx1234567 has no field midas_key"}, o.stale)
		require.Contains(t, o.reads, "midas_key malformed")
	})
}

func TestATokenThatCannotBeHadIsATrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := full()
		_, creds, _ := observed(s, app, &weChat{refuses: canary + "app"})
		failed := time.Now()
		_, err := creds.AccessToken(t.Context())
		require.Error(t, err)
		trouble := creds.Status().Troubles["access_token"]
		require.ErrorContains(t, trouble.Failure, "40125")
		require.WithinDuration(t, failed, trouble.Since, time.Second)
		hides(t, trouble.Failure)
	})
}

func TestWhatIsForgottenIsReadAgain(t *testing.T) {
	s := full()
	w := new(weChat)
	cache, creds, o := observed(s, app, w)
	readAll(t, creds)
	require.Equal(t, 1, cache.Sessions())
	before := slices.Clone(o.reads)
	readAll(t, creds)
	require.Equal(t, before, o.reads)

	cache.Forget()
	require.Zero(t, cache.Sessions())
	require.Empty(t, creds.Status().Ages)
	require.Zero(t, creds.Status().TokenExpires)
	readAll(t, creds)
	require.ElementsMatch(t, append(before, before...), o.reads)
	require.Len(t, w.asked, 2)
}

func TestACentralTokenIsForgottenToo(t *testing.T) {
	s := full()
	cache, creds, _ := observed(s, central("access_token"), nil)
	for range 2 {
		_, err := creds.AccessToken(t.Context())
		require.NoError(t, err)
		cache.Forget()
	}
	require.Equal(t, 2, s.reads["central/token"])
}

func TestOnePlayersKeyIsForgottenAndNoOthers(t *testing.T) {
	s := full()
	s.secrets["midas/wx1234567/sessions/o2"] = map[string]string{"session_key": sessionOf("o2")}
	_, creds, _ := observed(s, app, nil)
	read := func() {
		for _, openid := range []string{player, "o2"} {
			_, err := creds.SessionKey(t.Context(), wechat.V1, openid)
			require.NoError(t, err)
		}
	}
	read()
	creds.ForgetSession("o2")
	read()
	require.Equal(t, map[string]int{"midas/wx1234567/sessions/" + player: 1, "midas/wx1234567/sessions/o2": 2}, s.reads)
}
