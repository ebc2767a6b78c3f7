// Package credentials brings together what an app signs with: where its keys lie
// in the secret store, and its access_token.
package credentials

import (
	"context"
	"fmt"
	"strings"
	"time"

	"midas-sidecar/accesstoken"
	"midas-sidecar/secrets"
	"midas-sidecar/signer"
	"midas-sidecar/wechat"
)

const (
	// fresh is how long a key is used before it is read again.
	fresh = 5 * time.Minute
	// freshToken is the same for an access_token that a central server keeps in
	// the store. WeChat keeps a token that was replaced good for five minutes.
	freshToken = time.Minute
	// maxSessions is how many players' keys are kept.
	maxSessions = 100_000
	// maxApps is how many apps' secrets are kept; more are read again and again.
	maxApps = 10_000
)

// Cache keeps the secrets of all apps, read from one store.
type Cache struct {
	apps     *secrets.Cache[appSecret]
	sessions *secrets.Cache[*signer.Key]
	tokens   *secrets.Cache[secrets.Secret]
}

// NewCache returns an empty cache in front of the store.
func NewCache(store secrets.Store) *Cache {
	return &Cache{
		apps:     secrets.NewCache(store, maxApps, fresh, parseApp),
		sessions: secrets.NewCache(store, maxSessions, fresh, parseSession),
		tokens: secrets.NewCache(store, maxApps, freshToken, func(s secrets.Secret) (secrets.Secret, error) {
			return s, nil
		}),
	}
}

// App is what one app signs with.
type App struct {
	AppID string
	// Secret is the path of the secret with the fields midas_key,
	// midas_key_sandbox and app_secret.
	Secret string
	// Session is the path of a player's secret with the field session_key;
	// {openid} stands for the player.
	Session string
	// MPSig tells whether calls carry mp_sig, and so need a session_key.
	MPSig bool
	// TokenSecret and TokenField say where a central token server keeps the
	// access_token. Where TokenSecret is empty it comes from stable_token.
	TokenSecret, TokenField string
}

// Of returns the credentials of an app. Its access_token, where it comes from
// WeChat, is asked for through asker.
func (c *Cache) Of(app App, asker accesstoken.Asker) *Credentials {
	creds := &Credentials{app: app, cache: c}
	creds.stable = accesstoken.NewStable(app.AppID, creds.appSecret, asker)
	return creds
}

// Credentials are an app's keys and token, read when they are needed.
type Credentials struct {
	app    App
	cache  *Cache
	stable *accesstoken.Stable
}

// MidasKey returns the app's Midas key of the environment.
func (c *Credentials) MidasKey(ctx context.Context, env wechat.Environment) (*signer.Key, error) {
	secret, err := c.cache.apps.Get(ctx, c.app.Secret)
	if err != nil {
		return nil, err
	}
	key, field := secret.official, "midas_key"
	if env == wechat.Sandbox {
		key, field = secret.sandbox, "midas_key_sandbox"
	}
	if key == nil {
		return nil, fmt.Errorf("%s has no field %s", c.app.Secret, field)
	}
	return key, nil
}

// SessionKey returns the player's session_key, nil where the app sends no mp_sig.
// The error is secrets.ErrNotFound where the player has none.
func (c *Credentials) SessionKey(ctx context.Context, openid string) (*signer.Key, error) {
	if !c.app.MPSig {
		return nil, nil
	}
	return c.cache.sessions.Get(ctx, strings.ReplaceAll(c.app.Session, "{openid}", openid))
}

// AccessToken returns an access_token that is good now.
func (c *Credentials) AccessToken(ctx context.Context) (secrets.Value, error) {
	if c.app.TokenSecret == "" {
		return c.stable.Token(ctx)
	}
	secret, err := c.cache.tokens.Get(ctx, c.app.TokenSecret)
	if err != nil {
		return secrets.Value{}, err
	}
	if token := secret[c.app.TokenField]; !token.IsZero() {
		return token, nil
	}
	return secrets.Value{}, fmt.Errorf("%s has no field %s", c.app.TokenSecret, c.app.TokenField)
}

func (c *Credentials) appSecret(ctx context.Context) (secrets.Value, error) {
	secret, err := c.cache.apps.Get(ctx, c.app.Secret)
	if err == nil && secret.app.IsZero() {
		err = fmt.Errorf("%s has no field app_secret", c.app.Secret)
	}
	return secret.app, err
}

// appSecret is an app's secret, ready to use; what it lacks is nil or empty.
type appSecret struct {
	official, sandbox *signer.Key
	app               secrets.Value
}

func parseApp(s secrets.Secret) (appSecret, error) {
	official, err := key(s, "midas_key")
	if err != nil {
		return appSecret{}, err
	}
	sandbox, err := key(s, "midas_key_sandbox")
	return appSecret{official, sandbox, s["app_secret"]}, err
}

func parseSession(s secrets.Secret) (*signer.Key, error) {
	k, err := key(s, "session_key")
	if err == nil && k == nil {
		err = fmt.Errorf("the player's secret has no field session_key: %w", secrets.ErrNotFound)
	}
	return k, err
}

// key makes a signing key of a field, nil where there is none. White space around
// a key is a slip of whoever stored it; signing with it gives signatures that
// WeChat refuses without saying why.
func key(s secrets.Secret, field string) (*signer.Key, error) {
	text := s[field].Reveal()
	switch {
	case text == "":
		return nil, nil
	case strings.TrimSpace(text) != text:
		return nil, fmt.Errorf("%s: must not begin or end with white space", field)
	}
	return signer.NewKey(text), nil
}
