package payment

import (
	"context"
	"errors"

	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/wechat"
	"midas-sidecar/signer"
)

// keyring gets what one order is signed with.
type keyring struct {
	creds Credentials
	order wechat.Request
	// renewed are the refusals after which a new token or session_key was tried.
	// Each is tried once: what is refused twice is not stale but wrong.
	renewed [wechat.KeyRefused + 1]bool
	// loggedOut: what the store holds of the player, if anything, is the session_key
	// that WeChat refused.
	loggedOut bool
	// loginFailed: a login brought that very key after WeChat had refused it before.
	loginFailed bool
	// refused are the Midas keys that WeChat did not take, fallback is the one to try
	// in their place, nil for the one that everybody uses.
	refused  []*signer.Key
	fallback *signer.Key
}

// gather reads what is current now, or returns the answer that says what cannot be
// had.
func (k *keyring) gather(ctx context.Context) (keys wechat.Keys, refusal *outcome.Answer) {
	refuse := func(code outcome.ErrorCode, message string, cause error) (wechat.Keys, *outcome.Answer) {
		answer := outcome.NewErrorAnswer(code, outcome.ErrorDetail{Message: message, BillNo: k.order.BillNo(), Cause: cause})
		return keys, &answer
	}
	var err error
	if keys.Midas = k.fallback; keys.Midas == nil {
		keys.Midas, err = k.creds.MidasKey(ctx, k.order.Endpoint())
	}
	if err != nil {
		return refuse(outcome.SecretsUnavailable, secrets.Advice(err, "the Midas key cannot be read"), err)
	}
	if keys.Session, err = k.creds.SessionKey(ctx, k.order.Endpoint().API.Family, k.order.OpenID()); errors.Is(err, secrets.ErrNotFound) {
		return refuse(outcome.SessionMissing, "openid: has no session_key in the secret store; the player must log in", err)
	} else if err != nil {
		return refuse(outcome.SecretsUnavailable, secrets.Advice(err, "the session_key cannot be read"), err)
	}
	if keys.AccessToken, err = k.creds.AccessToken(ctx); err != nil {
		return refuse(outcome.TokenUnavailable, secrets.Advice(err, "the access_token cannot be had"), err)
	}
	return keys, nil
}

// renew reports whether what WeChat refused has been replaced since it was used. What
// cannot be read anew has not.
func (k *keyring) renew(ctx context.Context, refused wechat.Action, used wechat.Keys) bool {
	if refused == wechat.KeyRefused {
		return k.tryFallback(ctx, used.Midas)
	}
	if k.renewed[refused] {
		return false
	}
	k.renewed[refused] = true
	switch refused {
	case wechat.TokenRefused:
		// mp_sig covers the token, so the order is signed again with it.
		token, err := k.creds.RenewAccessToken(ctx, used.AccessToken)
		return err == nil && token != used.AccessToken
	case wechat.SessionRefused:
		if used.Session == nil {
			return false
		}
		key, err := k.creds.RenewSessionKey(ctx, k.order.OpenID(), used.Session)
		k.loggedOut = errors.Is(err, secrets.ErrNotFound) || err == nil && key.Equal(used.Session)
		k.loginFailed = err == nil && k.loggedOut && k.creds.SessionStoredAgain(k.order.OpenID(), used.Session)
		return err == nil && !k.loggedOut
	default:
		return false
	}
}

// tryFallback reports whether there is a Midas key to try that WeChat has not refused yet.
func (k *keyring) tryFallback(ctx context.Context, used *signer.Key) bool {
	k.refused = append(k.refused, used)
	key, err := k.creds.FallbackMidasKey(ctx, k.order.Endpoint(), k.refused)
	k.fallback = key
	return err == nil && key != nil
}

// confirm notes that WeChat takes the Midas key that was used, if the answer shows that: it
// got as far as the order itself.
func (k *keyring) confirm(ctx context.Context, action wechat.Action, used *signer.Key) {
	if action == wechat.Applied || action == wechat.Done {
		k.creds.ConfirmMidasKey(ctx, k.order.Endpoint(), used)
	}
}
