package credentials_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/credentials"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/wechat"
	"midas-sidecar/signer"
)

func TestTheEnvironmentPicksTheMidasKey(t *testing.T) {
	creds := cacheOf(full()).Of(app, nil)
	for env, want := range map[wechat.Environment]string{wechat.Official: "official", wechat.Sandbox: "sandbox"} {
		key, err := creds.MidasKey(t.Context(), wechat.At(wechat.Pay, env))
		require.NoError(t, err)
		isKey(t, canary+want, key)
	}
}

func TestThePlayerPicksTheSessionKey(t *testing.T) {
	s := full()
	key, err := cacheOf(s).Of(app, nil).SessionKey(t.Context(), wechat.V1, player)
	require.NoError(t, err)
	isKey(t, sessionOf(""), key)
	require.Equal(t, map[string]int{"midas/wx1234567/sessions/" + player: 1}, s.reads)
}

func TestASessionPathMayNameThePlayerWhereAndAsOftenAsItLikes(t *testing.T) {
	s := full()
	s.secrets["o1/keys/o1"] = map[string]string{"session_key": sessionOf("o1")}
	here := app
	here.Session = "{openid}/keys/{openid}"
	key, err := cacheOf(s).Of(here, nil).SessionKey(t.Context(), wechat.V1, "o1")
	require.NoError(t, err)
	isKey(t, sessionOf("o1"), key)
}

func TestWithoutMPSigOnlyV2ReadsASessionKey(t *testing.T) {
	s := full()
	here := app
	here.MPSig = false
	creds := cacheOf(s).Of(here, nil)
	key, err := creds.SessionKey(t.Context(), wechat.V1, player)
	require.NoError(t, err)
	require.Nil(t, key)
	require.Empty(t, s.reads)

	key, err = creds.SessionKey(t.Context(), wechat.V2, player)
	require.NoError(t, err)
	isKey(t, sessionOf(""), key)
	s.put("midas/wx1234567/sessions/"+player, "session_key", sessionOf("2"))
	key, err = creds.RenewSessionKey(t.Context(), player, key)
	require.NoError(t, err)
	isKey(t, sessionOf("2"), key)
}

func TestTheAppSecretBuysTheAccessToken(t *testing.T) {
	w := new(weChat)
	token, err := cacheOf(full()).Of(app, w).AccessToken(t.Context())
	require.NoError(t, err)
	require.Equal(t, canary+"stable", token.Reveal())
	require.JSONEq(t, `{"grant_type":"client_credential","appid":"wx1234567","secret":"`+canary+`app"}`, string(w.asked[0].Body()))
}

func TestACentralTokenServersTokenIsReadFromItsField(t *testing.T) {
	for field, want := range map[string]string{"access_token": "token", "other": "other"} {
		w := new(weChat)
		token, err := cacheOf(full()).Of(central(field), w).AccessToken(t.Context())
		require.NoError(t, err)
		require.Equal(t, canary+want, token.Reveal())
		require.Empty(t, w.asked)
	}
}

// central is the app where a token server keeps its token in that field.
func central(field string) credentials.App {
	here := app
	here.TokenSecret, here.TokenField = "central/token", field
	return here
}

func TestACentralTokenIsReadAgainAfterAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := full()
		creds := cacheOf(s).Of(central("access_token"), nil)
		for range 100 {
			_, err := creds.AccessToken(t.Context())
			require.NoError(t, err)
		}
		require.Equal(t, 1, s.reads["central/token"])

		s.put("central/token", "access_token", canary+"next")
		time.Sleep(time.Minute)
		_, err := creds.AccessToken(t.Context())
		require.NoError(t, err)
		synctest.Wait()
		token, err := creds.AccessToken(t.Context())
		require.NoError(t, err)
		require.Equal(t, canary+"next", token.Reveal())
	})
}

// needs are the ways in which a field is needed.
var needs = []struct {
	path, field, before string // before stands in front of the error
	app                 credentials.App
	get                 func(context.Context, *credentials.Credentials) error
}{
	{"midas/wx1234567", "midas_key", "", app, func(ctx context.Context, c *credentials.Credentials) error {
		_, err := c.MidasKey(ctx, v1Official)
		return err
	}},
	{"midas/wx1234567", "midas_key_sandbox", "", app, func(ctx context.Context, c *credentials.Credentials) error {
		_, err := c.MidasKey(ctx, v1Sandbox)
		return err
	}},
	{"midas/wx1234567", "app_secret", "reading the app secret: ", app, func(ctx context.Context, c *credentials.Credentials) error {
		_, err := c.AccessToken(ctx)
		return err
	}},
	{"midas/wx1234567/sessions/" + player, "session_key", "", app, func(ctx context.Context, c *credentials.Credentials) error {
		_, err := c.SessionKey(ctx, wechat.V1, player)
		return err
	}},
	{"central/token", "access_token", "", central("access_token"), func(ctx context.Context, c *credentials.Credentials) error {
		_, err := c.AccessToken(ctx)
		return err
	}},
}

// shown is what errors show of a path, which names no player.
func shown(path string) string { return strings.ReplaceAll(path, player, "{openid}") }

func TestAFieldThatIsMissingIsNamedWithItsPath(t *testing.T) {
	for _, need := range needs {
		t.Run(need.field, func(t *testing.T) {
			s := full()
			s.put(need.path, need.field, "")
			err := need.get(t.Context(), cacheOf(s).Of(need.app, new(weChat)))
			require.ErrorContains(t, err, need.before+shown(need.path)+" has no field "+need.field)
			hides(t, err)
		})
	}
}

func TestWhiteSpaceAroundAKeyIsRefusedByName(t *testing.T) {
	for _, need := range needs {
		for name, spoil := range map[string]string{"before": " " + canary, "after": canary + "\n", "alone": "\t", "of another script": canary + "\u00a0"} {
			t.Run(need.field+" "+name, func(t *testing.T) {
				s := full()
				s.put(need.path, need.field, spoil)
				err := need.get(t.Context(), cacheOf(s).Of(need.app, new(weChat)))
				require.EqualError(t, err, need.before+shown(need.path)+" field "+need.field+" must not begin or end with white space")
				require.NotErrorIs(t, err, secrets.ErrNotFound)
				hides(t, err)
			})
		}
	}
}

func TestAFieldThatIsMendedIsSeenWithinSeconds(t *testing.T) {
	for _, need := range needs {
		for name, spoil := range map[string]string{"missing": "", "with white space": " " + canary} {
			t.Run(need.field+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := full()
					good := s.secrets[need.path][need.field]
					s.put(need.path, need.field, spoil)
					creds := cacheOf(s).Of(need.app, new(weChat))
					require.Error(t, need.get(t.Context(), creds))
					s.put(need.path, need.field, good)
					time.Sleep(2 * time.Second)
					require.NoError(t, need.get(t.Context(), creds))
				})
			})
		}
	}
}

func TestASlipInOneFieldIsNothingToTheOthers(t *testing.T) {
	for _, spoilt := range needs {
		for _, spoil := range []string{"", " " + canary} {
			s := full()
			s.put(spoilt.path, spoilt.field, spoil)
			cache := cacheOf(s)
			for _, need := range needs {
				if need.field != spoilt.field {
					require.NoError(t, need.get(t.Context(), cache.Of(need.app, new(weChat))), "%s for want of %s", need.field, spoilt.field)
				}
			}
		}
	}
}

func TestAPlayerWithoutSessionKeyIsNotFound(t *testing.T) {
	s := full()
	s.secrets["midas/wx1234567/sessions/empty"] = map[string]string{"unionid": "u"}
	creds := cacheOf(s).Of(app, nil)
	for _, openid := range []string{"nobody", "empty"} {
		_, err := creds.SessionKey(t.Context(), wechat.V1, openid)
		require.ErrorIs(t, err, secrets.ErrNotFound)
		require.ErrorContains(t, err, "midas/wx1234567/sessions/{openid}")
	}
}

func TestAnAppWithoutSecretIsNotFound(t *testing.T) {
	here := app
	here.Secret = "nowhere"
	_, err := cacheOf(full()).Of(here, nil).MidasKey(t.Context(), v1Official)
	require.ErrorIs(t, err, secrets.ErrNotFound)
}

func TestKeysAreReadOnceInFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := full()
		creds := cacheOf(s).Of(app, nil)
		use := func() {
			for range 100 {
				_, err := creds.MidasKey(t.Context(), v1Official)
				require.NoError(t, err)
				_, err = creds.SessionKey(t.Context(), wechat.V1, player)
				require.NoError(t, err)
			}
		}
		sessions := "midas/wx1234567/sessions/" + player
		use()
		time.Sleep(5*time.Minute - 1)
		use()
		require.Equal(t, map[string]int{app.Secret: 1, sessions: 1}, s.reads)
		time.Sleep(time.Nanosecond)
		use()
		synctest.Wait()
		require.Equal(t, map[string]int{app.Secret: 2, sessions: 2}, s.reads)
	})
}

func TestWhatWeChatRefusedIsReadPastTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := full()
		creds := cacheOf(s).Of(central("access_token"), nil)
		official, err := creds.MidasKey(t.Context(), v1Official)
		require.NoError(t, err)
		sandbox, err := creds.MidasKey(t.Context(), v1Sandbox)
		require.NoError(t, err)
		session, err := creds.SessionKey(t.Context(), wechat.V1, player)
		require.NoError(t, err)
		token, err := creds.AccessToken(t.Context())
		require.NoError(t, err)

		s.put(app.Secret, "midas_key", canary+"official2")
		s.put(app.Secret, "midas_key_sandbox", canary+"sandbox2")
		s.put("midas/wx1234567/sessions/"+player, "session_key", sessionOf("2"))
		s.put("central/token", "access_token", canary+"token2")
		for range 2 { // the second is late: what it complains of has been replaced
			key, err := creds.FallbackMidasKey(t.Context(), v1Official, []*signer.Key{official})
			require.NoError(t, err)
			isKey(t, canary+"official2", key)
			key, err = creds.FallbackMidasKey(t.Context(), v1Sandbox, []*signer.Key{sandbox})
			require.NoError(t, err)
			isKey(t, canary+"sandbox2", key)
			key, err = creds.RenewSessionKey(t.Context(), player, session)
			require.NoError(t, err)
			isKey(t, sessionOf("2"), key)
			next, err := creds.RenewAccessToken(t.Context(), token)
			require.NoError(t, err)
			require.Equal(t, canary+"token2", next.Reveal())
			time.Sleep(10 * time.Second)
		}
		require.Equal(t, map[string]int{app.Secret: 2, "midas/wx1234567/sessions/" + player: 2, "central/token": 2}, s.reads)
	})
}

func TestARefusedTokenOfWeChatsIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(weChat)
		creds := cacheOf(full()).Of(app, w)
		token, err := creds.AccessToken(t.Context())
		require.NoError(t, err)
		time.Sleep(time.Minute)
		_, err = creds.RenewAccessToken(t.Context(), token)
		require.NoError(t, err)
		require.Len(t, w.asked, 2)
	})
}

func TestKeysOfTwoAppsAreKeptApart(t *testing.T) {
	s := full()
	s.secrets["midas/wx2"] = map[string]string{"midas_key": canary + "wx2"}
	cache := cacheOf(s)
	other := app
	other.AppID, other.Secret = "wx2", "midas/wx2"
	for here, want := range map[credentials.App]string{app: "official", other: "wx2"} {
		key, err := cache.Of(here, nil).MidasKey(t.Context(), v1Official)
		require.NoError(t, err)
		isKey(t, canary+want, key)
	}
}

func TestAWarmAppPaysThroughAnHourWithoutItsStore(t *testing.T) {
	for name, here := range map[string]credentials.App{"stable_token": app, "a central token": central("access_token")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := full()
				creds := cacheOf(s).Of(here, new(weChat))
				pays := func() {
					for _, env := range []wechat.Environment{wechat.Official, wechat.Sandbox} {
						_, err := creds.MidasKey(t.Context(), wechat.At(wechat.Pay, env))
						require.NoError(t, err)
					}
					_, err := creds.SessionKey(t.Context(), wechat.V1, player)
					require.NoError(t, err)
					_, err = creds.AccessToken(t.Context())
					require.NoError(t, err)
					require.Empty(t, creds.Missing(t.Context()))
				}
				pays()
				s.leaves(true)
				for range 3600 {
					time.Sleep(time.Second)
					start := time.Now()
					pays()
					require.Equal(t, start, time.Now(), "nobody waits")
				}

				s.leaves(false)
				s.put(app.Secret, "midas_key", canary+"next")
				time.Sleep(2 * time.Second)
				pays()
				synctest.Wait()
				key, err := creds.MidasKey(t.Context(), v1Official)
				require.NoError(t, err)
				isKey(t, canary+"next", key)
			})
		})
	}
}

func TestAnAppSecretThatWasCorrectedIsUsedWithinSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := full(), &weChat{refuses: canary + "app"}
		creds := cacheOf(s).Of(app, w)
		_, err := creds.AccessToken(t.Context())
		require.ErrorContains(t, err, "40125")
		hides(t, err)

		s.put(app.Secret, "app_secret", canary+"corrected")
		time.Sleep(11 * time.Second)
		_, err = creds.AccessToken(t.Context())
		require.NoError(t, err)
	})
}

func TestTheTokenIsAskedForThroughTheAskerOfTheNewestConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache, before, after := cacheOf(full()), new(weChat), new(weChat)
		creds := cache.Of(app, before)
		require.Same(t, creds, cache.Of(app, nil))
		options := credentials.Options{Ages: cacheAges, Sessions: 10, Log: discard}
		cache.Set(full(), options, "another WeChat", nil)
		cache.Set(full(), options, app.WeChat, after)
		_, err := creds.AccessToken(t.Context())
		require.NoError(t, err)
		require.Empty(t, before.asked)
		require.Len(t, after.asked, 1)
	})
}
