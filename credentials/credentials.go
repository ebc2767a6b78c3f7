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

// Cache keeps the secrets of all apps, read from one store. Each field has a
// cache of its own: a slip in one stops no call that needs another, and one that
// was missing is seen as soon as it is there.
type Cache struct {
	store             secrets.Store
	official, sandbox *secrets.Cache[*signer.Key]
	appSecrets        *secrets.Cache[secrets.Value]
	sessions          *secrets.Cache[*signer.Key]
}

// NewCache returns an empty cache in front of the store.
func NewCache(store secrets.Store) *Cache {
	return &Cache{
		store:      store,
		official:   secrets.NewCache(store, maxApps, fresh, field("midas_key", signer.NewKey)),
		sandbox:    secrets.NewCache(store, maxApps, fresh, field("midas_key_sandbox", signer.NewKey)),
		appSecrets: secrets.NewCache(store, maxApps, fresh, field("app_secret", secrets.NewValue)),
		sessions:   secrets.NewCache(store, maxSessions, fresh, sessionKey),
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
	if app.TokenSecret != "" {
		creds.central = secrets.NewCache(c.store, 1, freshToken, field(app.TokenField, secrets.NewValue))
	} else {
		creds.stable = accesstoken.NewStable(app.AppID, creds.appSecret, asker)
	}
	return creds
}

// Credentials are an app's keys and token, read when they are needed.
type Credentials struct {
	app   App
	cache *Cache

	// Where the access_token comes from: one of them is set.
	stable  *accesstoken.Stable
	central *secrets.Cache[secrets.Value]
}

// MidasKey returns the app's Midas key of the environment.
func (c *Credentials) MidasKey(ctx context.Context, env wechat.Environment) (*signer.Key, error) {
	return c.midasKeys(env).Get(ctx, c.app.Secret)
}

func (c *Credentials) midasKeys(env wechat.Environment) *secrets.Cache[*signer.Key] {
	if env == wechat.Sandbox {
		return c.cache.sandbox
	}
	return c.cache.official
}

// SessionKey returns the player's session_key, nil where the app sends no mp_sig.
// The error is secrets.ErrNotFound where the player has none.
func (c *Credentials) SessionKey(ctx context.Context, openid string) (*signer.Key, error) {
	if !c.app.MPSig {
		return nil, nil
	}
	return c.cache.sessions.Get(ctx, c.sessionPath(openid))
}

func (c *Credentials) sessionPath(openid string) string {
	return strings.ReplaceAll(c.app.Session, "{openid}", openid)
}

// AccessToken returns an access_token that is good now.
func (c *Credentials) AccessToken(ctx context.Context) (secrets.Value, error) {
	if c.central != nil {
		return c.central.Get(ctx, c.app.TokenSecret)
	}
	return c.stable.Token(ctx)
}

// RenewMidasKey is MidasKey past the cache, if failed is what it holds.
func (c *Credentials) RenewMidasKey(ctx context.Context, env wechat.Environment, failed *signer.Key) (*signer.Key, error) {
	return c.midasKeys(env).Renew(ctx, c.app.Secret, failed.Equal)
}

// RenewSessionKey is SessionKey past the cache, if failed is what it holds.
func (c *Credentials) RenewSessionKey(ctx context.Context, openid string, failed *signer.Key) (*signer.Key, error) {
	if !c.app.MPSig {
		return nil, nil
	}
	return c.cache.sessions.Renew(ctx, c.sessionPath(openid), failed.Equal)
}

// RenewAccessToken is AccessToken where WeChat refused failed.
func (c *Credentials) RenewAccessToken(ctx context.Context, failed secrets.Value) (secrets.Value, error) {
	if c.central != nil {
		return c.central.Renew(ctx, c.app.TokenSecret, func(kept secrets.Value) bool { return kept == failed })
	}
	return c.stable.Renew(ctx, failed)
}

func (c *Credentials) appSecret(ctx context.Context) (secrets.Value, error) {
	return c.cache.appSecrets.Get(ctx, c.app.Secret)
}

// field returns a parser that takes one field of a secret and makes a T of it.
// White space around a key is a slip of whoever stored it: WeChat refuses what
// was signed with it without saying why.
func field[T any](name string, use func(string) T) func(secrets.Secret) (T, error) {
	return func(s secrets.Secret) (none T, _ error) {
		switch text := s[name].Reveal(); {
		case text == "":
			return none, fmt.Errorf("has no field %s", name)
		case strings.TrimSpace(text) != text:
			return none, fmt.Errorf("field %s must not begin or end with white space", name)
		default:
			return use(text), nil
		}
	}
}

// sessionKey takes a player's session_key. A secret without one says of a player
// what a missing secret says: the player has to log in.
func sessionKey(s secrets.Secret) (*signer.Key, error) {
	key, err := field("session_key", signer.NewKey)(s)
	if err != nil && s["session_key"].IsZero() {
		err = fmt.Errorf("%w: %w", err, secrets.ErrNotFound)
	}
	return key, err
}
