package vault

import (
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// delivered is an AppRole whose wrapping token somebody delivers, or does not.
func delivered(token *string) Auth {
	return WrappedAppRole(AppRole{RoleID: fixed("canary-role"), SecretID: func() (string, error) {
		if *token == "" {
			return "", errors.New("open /run/x: no such file")
		}
		return *token + "\n", nil
	}})
}

const (
	lookup  = `/v1/sys/wrapping/lookup {"token":"canary-wrapping"}`
	unwrap  = `/v1/sys/wrapping/unwrap null`
	roleIn  = `/v1/auth/approle/login {"role_id":"canary-role","secret_id":"canary-secret"}`
	problem = "unwrapping the secret_id of auth/approle: "
)

func TestAWrappedSecretIDIsUnwrappedOnceForAllLogins(t *testing.T) {
	l := newLogins(t)
	l.wrap("canary-wrapping", "canary-secret")
	token := "canary-wrapping"
	auth := delivered(&token)
	require.NoError(t, l.logIn(t, auth))
	require.NoError(t, l.logIn(t, auth))
	require.Equal(t, []string{lookup, unwrap, roleIn, roleIn}, l.asked)
}

func TestAWrappedSecretIDIsUnwrappedOnceForLoginsAtOnce(t *testing.T) {
	l := newLogins(t)
	l.wrap("canary-wrapping", "canary-secret")
	token := "canary-wrapping"
	auth := delivered(&token)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { require.NoError(t, l.logIn(t, auth)) })
	}
	all.Wait()
	require.Len(t, l.asked, 2+8)
}

func TestAnotherWrappingTokenIsUnwrappedAnew(t *testing.T) {
	l := newLogins(t)
	l.wrap("canary-wrapping", "canary-secret")
	token := "canary-wrapping"
	auth := delivered(&token)
	require.NoError(t, l.logIn(t, auth))

	l.wrap("canary-second", "canary-other")
	token = "canary-second"
	require.NoError(t, l.logIn(t, auth))
	require.Equal(t, `/v1/auth/approle/login {"role_id":"canary-role","secret_id":"canary-other"}`, l.asked[len(l.asked)-1])
}

func TestAWrappingTokenThatIsGoneLeavesTheSecretIDUsable(t *testing.T) {
	l := newLogins(t)
	l.wrap("canary-wrapping", "canary-secret")
	token := "canary-wrapping"
	auth := delivered(&token)
	require.NoError(t, l.logIn(t, auth))
	token = ""
	require.NoError(t, l.logIn(t, auth))
}

func TestAWrappingTokenThatSomebodyElseUsedIsReportedAsSuch(t *testing.T) {
	l := newLogins(t)
	token := "canary-wrapping"
	auth := delivered(&token)
	for range 2 {
		require.EqualError(t, l.logIn(t, auth), problem+"the wrapping token is used up, has ended or never was one: "+
			"if nothing of yours unwrapped it, somebody else has the secret_id, which then must be destroyed")
	}
	require.Equal(t, []string{lookup, lookup}, l.asked)
}

func TestAWrappingTokenWhoseAnswerWasLostIsNotBlamedOnOthers(t *testing.T) {
	l := newLogins(t)
	l.wrap("canary-wrapping", "canary-secret")
	l.lost = true
	token := "canary-wrapping"
	auth := delivered(&token)
	require.ErrorContains(t, l.logIn(t, auth), problem+"EOF")
	require.ErrorContains(t, l.logIn(t, auth), problem+
		"the wrapping token is used up, perhaps by an attempt of ours whose answer was lost")
}

func TestWhatAnotherEndpointWrappedIsNotUnwrapped(t *testing.T) {
	for path, good := range map[string]bool{
		"auth/approle/role/midas/secret-id":        true,
		"auth/approle/role/midas/custom-secret-id": true,
		"auth/approle/role/midas/role-id":          false,
		"auth/approle/role/midas":                  false,
		"auth/evil/role/midas/secret-id":           false,
		"auth/approle/role/a/b/secret-id":          false,
		"secret/auth/approle/role/x/secret-id":     false,
		"sys/wrapping/wrap":                        false,
		"":                                         false,
	} {
		l := newLogins(t)
		l.wrapped["canary-wrapping"] = wrapped{path, "canary-secret"}
		token := "canary-wrapping"
		err := l.logIn(t, delivered(&token))
		if good {
			require.NoError(t, err, path)
			continue
		}
		require.EqualError(t, err, problem+"the wrapping token does not hold a secret_id that this auth method made: "+
			"somebody may have replaced it", path)
		require.Equal(t, []string{lookup}, l.asked, path)
	}
}

func TestWhatIsWrappedMustBeASecretID(t *testing.T) {
	l := newLogins(t)
	l.wrap("canary-wrapping", "")
	token := "canary-wrapping"
	require.EqualError(t, l.logIn(t, delivered(&token)), problem+"unreadable answer")
}
