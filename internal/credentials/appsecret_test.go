package credentials_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/credentials"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/wechat"
	"midas-sidecar/signer"
)

// Endpoints of v2, one for each environment.
var (
	v2Official = wechat.At(wechat.PayV2, wechat.Official)
	v2Sandbox  = wechat.At(wechat.PayV2, wechat.Sandbox)
)

// slow is a store that takes its time.
type slow struct{ *store }

func (s slow) Read(ctx context.Context, path string) (secrets.Secret, error) {
	time.Sleep(time.Second)
	return s.store.Read(ctx, path)
}

// logged is a cache in front of a store, and what it has logged.
func logged(s secrets.Store) (*credentials.Cache, *bytes.Buffer) {
	log := new(bytes.Buffer)
	return credentials.NewCache(s, credentials.Options{
		Ages: cacheAges, Sessions: 10, Log: slog.New(slog.NewTextHandler(log, nil)),
	}), log
}

func TestAllFieldsOfASecretAreReadWithOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := full()
		creds := cacheOf(slow{s}).Of(app, new(weChat))
		readAll := func() {
			var callers sync.WaitGroup
			for _, e := range []wechat.Endpoint{v1Official, v1Sandbox, v2Official, v2Sandbox} {
				callers.Go(func() {
					_, err := creds.MidasKey(t.Context(), e)
					assert.NoError(t, err)
				})
			}
			callers.Go(func() {
				_, err := creds.AppSecret(t.Context(), secrets.Value{})
				assert.NoError(t, err)
			})
			callers.Wait()
		}
		began := time.Now()
		readAll()
		require.Equal(t, time.Second, time.Since(began))
		require.Equal(t, 1, s.reads[app.Secret])
		time.Sleep(cacheAges.Fresh)
		readAll()
		time.Sleep(time.Minute)
		readAll()
		require.Equal(t, 2, s.reads[app.Secret])
	})
}

func TestAFieldThatNobodyNeedsIsLookedForNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := full()
		s.put(app.Secret, "midas_key_sandbox", "")
		cache, log := logged(s)
		creds := cache.Of(app, new(weChat))
		for range 60 {
			for _, e := range []wechat.Endpoint{v1Official, v2Official} {
				_, err := creds.MidasKey(t.Context(), e)
				require.NoError(t, err)
			}
			require.Empty(t, creds.Missing(t.Context()))
			time.Sleep(time.Second)
		}
		require.Equal(t, 1, s.reads[app.Secret])
		require.Empty(t, log.String())
		require.NotContains(t, creds.Status().Ages, "midas_key_v2")
	})
}

func TestASlipInAFieldKeepsItsLastGoodValueAndNoOther(t *testing.T) {
	for name, slip := range map[string]string{"gone": "", "malformed": "\u200b" + canary} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := full()
				cache, log := logged(s)
				creds := cache.Of(app, nil)
				get := func(e wechat.Endpoint) *signer.Key {
					key, err := creds.MidasKey(t.Context(), e)
					require.NoError(t, err)
					return key
				}
				get(v1Official)
				s.put(app.Secret, "midas_key", slip)
				s.put(app.Secret, "midas_key_sandbox", canary+"sandbox2")
				time.Sleep(cacheAges.Fresh)
				get(v1Official)
				synctest.Wait()
				isKey(t, canary+"official", get(v1Official))
				isKey(t, canary+"sandbox2", get(v1Sandbox))
				trouble := creds.Status().Troubles
				require.Len(t, trouble, 1)
				require.ErrorContains(t, trouble["midas_key"].Failure, "midas_key")
				require.Equal(t, cacheAges.Fresh, creds.Status().Ages["midas_key"])
				require.Zero(t, creds.Status().Ages["midas_key_sandbox"])

				s.put(app.Secret, "midas_key", canary+"official2")
				time.Sleep(2 * time.Second)
				get(v1Official)
				synctest.Wait()
				isKey(t, canary+"official2", get(v1Official))
				require.Empty(t, creds.Status().Troubles)
				require.Equal(t, 2, strings.Count(log.String(), "\n"), log)
				require.Contains(t, log.String(), `level=WARN msg="secret is malformed: the last good value is used" appid=wx1234567 secret=midas_key error="midas/wx1234567 `)
				require.Contains(t, log.String(), `level=INFO msg="secret is well formed again" appid=wx1234567 secret=midas_key`)
				require.NotContains(t, log.String(), canary)
			})
		})
	}
}

func TestTheLastGoodValueOfAFieldIsNotUsedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := full()
		creds := cacheOf(s).Of(app, nil)
		began := time.Now()
		_, err := creds.MidasKey(t.Context(), v1Official)
		require.NoError(t, err)
		s.put(app.Secret, "midas_key", canary+"\n")
		for time.Since(began) < cacheAges.Fresh+cacheAges.Stale {
			_, err = creds.MidasKey(t.Context(), v1Official)
			require.NoError(t, err)
			time.Sleep(time.Minute)
		}
		time.Sleep(time.Minute)
		_, err = creds.MidasKey(t.Context(), v1Official)
		require.ErrorContains(t, err, "midas_key must not begin or end with white space")
		_, err = creds.MidasKey(t.Context(), v1Sandbox)
		require.NoError(t, err)
	})
}

func TestTheLogNamesAMalformedFieldThoughAnotherIsAskedFor(t *testing.T) {
	s := full()
	s.put(app.Secret, "midas_key_sandbox", canary+"\u200b")
	cache, log := logged(s)
	creds := cache.Of(app, nil)
	for range 3 {
		_, err := creds.MidasKey(t.Context(), v1Official)
		require.NoError(t, err)
	}
	require.Equal(t, 1, strings.Count(log.String(), "\n"), log)
	require.Contains(t, log.String(), `level=WARN msg="secret cannot be used" appid=wx1234567 secret=midas_key_sandbox `+
		`error="midas/wx1234567 field midas_key_sandbox must be printable ASCII, has U+200B"`)
	require.NotContains(t, log.String(), canary)
	require.Contains(t, creds.Status().Troubles, "midas_key_sandbox")
}

func TestTheLogNamesMalformedSessionKeysNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := full()
		cache, log := logged(s)
		creds := cache.Of(app, nil)
		for second := range 90 {
			openid := player + string(rune('a'+second%26))
			s.secrets["midas/wx1234567/sessions/"+openid] = map[string]string{"session_key": canary + "%2F"}
			_, err := creds.SessionKey(t.Context(), wechat.V1, openid)
			require.Error(t, err)
			time.Sleep(time.Second)
		}
		require.Equal(t, 2, strings.Count(log.String(), "\n"), log)
		require.Contains(t, log.String(), "field session_key must be standard base64 text")
		require.NotContains(t, log.String(), canary)
		require.NotContains(t, log.String(), player)
		require.Contains(t, creds.Status().Troubles, "session_key")
		_, err := creds.SessionKey(t.Context(), wechat.V1, player)
		require.NoError(t, err)
		require.Empty(t, creds.Status().Troubles)
	})
}

func TestAnAppIsReadyWithTheKeysThatItHas(t *testing.T) {
	bad := canary + "\u200b"
	for name, c := range map[string]struct {
		fields  map[string]string
		missing string
	}{
		"official":                          {map[string]string{"midas_key": canary}, ""},
		"sandbox":                           {map[string]string{"midas_key_sandbox": canary}, ""},
		"only of v2":                        {map[string]string{"midas_key_v2": canary}, ""},
		"only the sandbox's of v2":          {map[string]string{"midas_key_v2_sandbox": canary}, ""},
		"none":                              {nil, "midas_key"},
		"official malformed":                {map[string]string{"midas_key": bad, "midas_key_sandbox": canary}, "midas_key"},
		"official of v2 malformed":          {map[string]string{"midas_key": canary, "midas_key_v2": bad}, "midas_key_v2"},
		"sandbox malformed, but official":   {map[string]string{"midas_key": canary, "midas_key_sandbox": bad}, ""},
		"sandbox malformed and no others":   {map[string]string{"midas_key_sandbox": bad}, "midas_key_sandbox"},
		"sandbox malformed, but that of v2": {map[string]string{"midas_key_sandbox": bad, "midas_key_v2_sandbox": canary}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := full()
			s.secrets[app.Secret] = map[string]string{"app_secret": canary}
			for field, value := range c.fields {
				s.put(app.Secret, field, value)
			}
			require.Equal(t, c.missing, cacheOf(s).Of(app, new(weChat)).Missing(t.Context()))
		})
	}
}

func TestV2SignsWithItsOwnKeyWhereThereIsOne(t *testing.T) {
	endpoints := []wechat.Endpoint{v1Official, v1Sandbox, v2Official, v2Sandbox}
	for name, c := range map[string]struct {
		fields map[string]string
		want   []string // by endpoint
	}{
		"no":       {nil, []string{"official", "sandbox", "official", "sandbox"}},
		"official": {map[string]string{"midas_key_v2": canary + "v2"}, []string{"official", "sandbox", "v2", "sandbox"}},
		"sandbox":  {map[string]string{"midas_key_v2_sandbox": canary + "v2s"}, []string{"official", "sandbox", "official", "v2s"}},
		"both":     {map[string]string{"midas_key_v2": canary + "v2", "midas_key_v2_sandbox": canary + "v2s"}, []string{"official", "sandbox", "v2", "v2s"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := full()
			for field, value := range c.fields {
				s.put(app.Secret, field, value)
			}
			creds := cacheOf(s).Of(app, nil)
			for i, e := range endpoints {
				key, err := creds.MidasKey(t.Context(), e)
				require.NoError(t, err)
				isKey(t, canary+c.want[i], key)
			}
		})
	}
}

func TestAMalformedKeyOfV2IsNotReplacedByAnother(t *testing.T) {
	s := full()
	s.put(app.Secret, "midas_key_v2", canary+"\u200b")
	creds := cacheOf(s).Of(app, nil)
	_, err := creds.MidasKey(t.Context(), v2Official)
	require.ErrorContains(t, err, "field midas_key_v2 must be printable ASCII")
	_, err = creds.MidasKey(t.Context(), v1Official)
	require.NoError(t, err)
}

func TestAKeyOfV2ThatComesAndGoesIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := full()
		cache, log := logged(s)
		creds := cache.Of(app, nil)
		used := func() *signer.Key {
			_, err := creds.MidasKey(t.Context(), v2Official)
			require.NoError(t, err)
			synctest.Wait()
			key, err := creds.MidasKey(t.Context(), v2Official)
			require.NoError(t, err)
			return key
		}
		isKey(t, canary+"official", used())
		s.put(app.Secret, "midas_key_v2", canary+"v2")
		time.Sleep(cacheAges.Fresh)
		isKey(t, canary+"v2", used())
		s.put(app.Secret, "midas_key_v2", "")
		time.Sleep(cacheAges.Fresh)
		isKey(t, canary+"official", used())

		s.put(app.Secret, "midas_key_v2", canary+"again")
		key, err := creds.FallbackMidasKey(t.Context(), v2Official, []*signer.Key{signer.NewKey(canary + "official")})
		require.NoError(t, err)
		isKey(t, canary+"again", key)
		require.Empty(t, log.String())
		require.Equal(t, 4, s.reads[app.Secret])
	})
}
