package credentials_test

import (
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

// tries signs an order as pays does, and confirms the key that WeChat takes.
func tries(t *testing.T, creds *credentials.Credentials, taken string) (paid bool) {
	t.Helper()
	_, paid = pays(t, creds, taken)
	if paid {
		key, err := creds.MidasKey(t.Context(), wechat.At(wechat.Pay, wechat.Official))
		require.NoError(t, err)
		creds.ConfirmMidasKey(t.Context(), wechat.At(wechat.Pay, wechat.Official), key)
	}
	return paid
}

func TestAKeyThatWeChatNeverTookIsWrongAtItsFirstRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, creds, log := rotating("")
		require.Nil(t, creds.Status().Refused["midas_key"])
		began := time.Now()
		for range 3 {
			require.False(t, tries(t, creds, "another"))
			time.Sleep(time.Minute)
		}
		trouble := creds.Status().Refused["midas_key"]
		require.NotNil(t, trouble)
		require.Equal(t, began, trouble.Since)
		require.ErrorContains(t, trouble.Failure, "90011")
		require.Equal(t, "midas_key", creds.Missing(t.Context()))

		s.put(app.Secret, "midas_key", canary+"another")
		time.Sleep(10 * time.Minute)
		require.True(t, tries(t, creds, "another"))
		require.Nil(t, creds.Status().Refused["midas_key"])
		require.NotEqual(t, "midas_key", creds.Missing(t.Context()))
		require.Equal(t, 1, strings.Count(log.String(), `msg="WeChat refuses the Midas key, `))
		require.Equal(t, 1, strings.Count(log.String(), `level=INFO msg="WeChat takes the Midas key"`))

		s.put(app.Secret, "midas_key", canary+"wrong")
		time.Sleep(10 * time.Minute)
		require.True(t, tries(t, creds, "another"), "as it was read last")
		synctest.Wait()
		require.False(t, tries(t, creds, "another"))
		require.Equal(t, 2, strings.Count(log.String(), `msg="WeChat refuses the Midas key, `), "another wrong one")
	})
}

func TestOneOddRefusalAmongOrdersThatAreTakenIsNoWrongKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, creds, log := rotating("")
		for range 10 {
			require.True(t, tries(t, creds, "new"))
			require.False(t, tries(t, creds, "another"))
			require.False(t, tries(t, creds, "another"))
			require.Nil(t, creds.Status().Refused["midas_key"])
			require.NotEqual(t, "midas_key", creds.Missing(t.Context()))
		}
		require.NotContains(t, log.String(), "WeChat refuses")
		for range 3 {
			require.Nil(t, creds.Status().Refused["midas_key"])
			require.True(t, tries(t, creds, "new"))
			for range 3 {
				require.False(t, tries(t, creds, "another"))
			}
			require.NotNil(t, creds.Status().Refused["midas_key"])
			require.True(t, tries(t, creds, "new"))
		}
	})
}

// One that is not ready may get no calls, and only calls show that WeChat takes the key.
func TestARefusedKeyIsTriedAgainThoughNobodyCallsWhatIsUnready(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, creds, _ := rotating("")
		require.False(t, tries(t, creds, "another"))
		require.Equal(t, "midas_key", creds.Missing(t.Context()))
		time.Sleep(5 * time.Minute)
		require.NotEqual(t, "midas_key", creds.Missing(t.Context()))
		require.NotNil(t, creds.Status().Refused["midas_key"], "until WeChat takes it")
	})
}

func TestARefusedKeyOfTheSandboxStopsNoPayments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, creds, _ := rotating("")
		sandbox := wechat.At(wechat.Pay, wechat.Sandbox)
		s.put(app.Secret, "midas_key_sandbox", canary+"sandbox")
		key, err := creds.MidasKey(t.Context(), sandbox)
		require.NoError(t, err)
		_, err = creds.FallbackMidasKey(t.Context(), sandbox, []*signer.Key{key})
		require.NoError(t, err)
		require.NotNil(t, creds.Status().Refused["midas_key_sandbox"])
		require.NotEqual(t, "midas_key_sandbox", creds.Missing(t.Context()))
	})
}

func TestWhatWasNeverHadIsInTrouble(t *testing.T) {
	s := full()
	s.away = true
	creds := cacheOf(s).Of(app, nil)
	_, err := creds.MidasKey(t.Context(), wechat.At(wechat.Pay, wechat.Official))
	require.ErrorIs(t, err, secrets.ErrUnavailable)
	require.Contains(t, creds.Status().Troubles, "midas_key")
	s.away = false
	require.Eventually(t, func() bool {
		_, err := creds.MidasKey(t.Context(), wechat.At(wechat.Pay, wechat.Official))
		return err == nil
	}, 5*time.Second, 10*time.Millisecond)
	require.NotContains(t, creds.Status().Troubles, "midas_key")
}
