// Package credentials brings together what an app signs with: where its keys lie
// in the secret store, and its access_token.
package credentials

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"midas-sidecar/internal/accesstoken"
	"midas-sidecar/internal/breaker"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/wechat"
	"midas-sidecar/signer"
)

// The fields of secrets, and so their names wherever they are spoken of. A central
// token server may call the last one otherwise.
const (
	officialKey = "midas_key"
	sandboxKey  = "midas_key_sandbox"
	appSecret   = "app_secret"
	sessionKey  = "session_key"
	accessToken = "access_token"
)

// Fields are all of them.
var Fields = []string{officialKey, sandboxKey, appSecret, sessionKey, accessToken}

// freshToken is Ages.Fresh for an access_token that a central server keeps in the
// store. WeChat keeps a token that was replaced good for five minutes.
const freshToken = time.Minute

// maxApps is how many apps' secrets are kept; more are read again and again.
const maxApps = 10_000

// denied is how often secrets are asked for that the store refuses to give, all in
// all. Each may cost a login now and then, too.
const denied = 1500 * time.Millisecond

// Options say how secrets are kept.
type Options struct {
	secrets.Ages

	// Sessions is how many players' keys are kept.
	Sessions int

	// Log is told when a secret of an app begins to go stale and when that ends.
	Log *slog.Logger

	// Observer is told of reads, too. Default: nobody.
	Observer Observer
}

// Cache keeps the secrets of all apps, read from one store. Each field has a
// cache of its own: a slip in one stops no call that needs another, and one that
// was missing is seen as soon as it is there.
type Cache struct {
	store   *switchable
	options atomic.Pointer[Options]
	pace    *breaker.Pace

	official, sandbox *secrets.Cache[*signer.Key]
	appSecrets        *secrets.Cache[secrets.Value]
	sessions          *secrets.Cache[*signer.Key]
	saves             queues // of all apps: an app that is configured anew is the same to its players

	mu   sync.Mutex
	apps map[App]*Credentials
}

// NewCache returns an empty cache in front of the store.
func NewCache(store secrets.Store, options Options) *Cache {
	c := &Cache{
		store:      new(switchable),
		pace:       breaker.NewPace(denied),
		official:   secrets.NewCache(maxApps, options.Ages, field(officialKey, signer.NewKey)),
		sandbox:    secrets.NewCache(maxApps, options.Ages, field(sandboxKey, signer.NewKey)),
		appSecrets: secrets.NewCache(maxApps, options.Ages, field(appSecret, secrets.NewValue)),
		sessions:   secrets.NewCache(options.Sessions, options.Ages, parseSession),
		apps:       make(map[App]*Credentials),
	}
	c.store.use(store)
	c.options.Store(&options)
	return c
}

// Set changes how secrets are read and kept from now on, and how the named WeChat is
// asked for tokens; it forgets nothing. The store must hold the same secrets as that
// before.
func (c *Cache) Set(store secrets.Store, options Options, weChat string, asker accesstoken.Asker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.store.use(store)
	c.options.Store(&options)
	c.official.SetAges(options.Ages)
	c.sandbox.SetAges(options.Ages)
	c.appSecrets.SetAges(options.Ages)
	c.sessions.Set(options.Sessions, options.Ages)
	for _, creds := range c.apps {
		if creds.centralCache != nil {
			creds.centralCache.SetAges(options.ofTokens())
		} else if creds.app.WeChat == weChat {
			creds.stable.SetAsker(asker)
		}
	}
}

// ofTokens are the ages of a central server's tokens.
func (o Options) ofTokens() secrets.Ages {
	return secrets.Ages{Fresh: min(freshToken, o.Fresh), Stale: o.Stale}
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
	// MPSig tells whether calls of v1 carry mp_sig, and so need a session_key.
	MPSig bool
	// TokenSecret and TokenField say where a central token server keeps the
	// access_token. Where TokenSecret is empty it comes from stable_token.
	TokenSecret, TokenField string
	// WeChat names the access points, of which another gives other tokens.
	WeChat string
}

// Of returns the credentials of an app, the same ones for the same app. The first
// time it says whom to ask for an access_token, where that comes from WeChat.
func (c *Cache) Of(app App, asker accesstoken.Asker) *Credentials {
	c.mu.Lock()
	defer c.mu.Unlock()
	creds, known := c.apps[app]
	if !known {
		creds = c.open(app, asker)
		c.apps[app] = creds
	}
	return creds
}

func (c *Cache) open(app App, asker accesstoken.Asker) *Credentials {
	creds := &Credentials{
		app:       app,
		store:     c.store,
		saves:     &c.saves,
		official:  c.midasKey(c.official, app, officialKey),
		sandbox:   c.midasKey(c.sandbox, app, sandboxKey),
		appSecret: c.appSecrets.Reader(c.store, c.kind(app, appSecret)),
		sessions:  c.sessions.Reader(c.store, c.kind(app, sessionKey)),
	}
	options := c.options.Load()
	if app.TokenSecret != "" {
		creds.centralCache = secrets.NewCache(1, options.ofTokens(), field(app.TokenField, secrets.NewValue))
		creds.central = creds.centralCache.Reader(c.store, c.kind(app, accessToken))
	} else {
		creds.stable = accesstoken.New(app.AppID, creds.readAppSecret, asker, options.Log)
	}
	return creds
}

// Credentials are an app's keys and token, read when they are needed.
type Credentials struct {
	app               App
	store             *switchable
	saves             *queues
	official, sandbox *midasKey
	appSecret         *secrets.Reader[secrets.Value]
	sessions          *secrets.Reader[*signer.Key]

	// Where the access_token comes from: one of them is set.
	stable       *accesstoken.Stable
	central      *secrets.Reader[secrets.Value]
	centralCache *secrets.Cache[secrets.Value]
}

// MidasKey returns the app's Midas key of the environment.
func (c *Credentials) MidasKey(ctx context.Context, env wechat.Environment) (*signer.Key, error) {
	return c.midasKey(env).get(ctx)
}

func (c *Credentials) midasKey(env wechat.Environment) *midasKey {
	if env == wechat.Sandbox {
		return c.sandbox
	}
	return c.official
}

// SessionKey returns the player's session_key, nil for calls of v1 where the app sends
// no mp_sig: those of v2 need it always. The error is secrets.ErrNotFound where the
// player has none.
func (c *Credentials) SessionKey(ctx context.Context, family *wechat.Family, openid string) (*signer.Key, error) {
	if family == wechat.V1 && !c.app.MPSig {
		return nil, nil
	}
	return c.sessions.Get(ctx, c.sessionPath(openid))
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

// Missing names the field without which the app cannot pay: midas_key, where there
// is none of either environment, or access_token. It is "" where nothing is missing.
func (c *Credentials) Missing(ctx context.Context) string {
	if _, err := c.MidasKey(ctx, wechat.Official); err != nil {
		if _, err := c.MidasKey(ctx, wechat.Sandbox); err != nil {
			return officialKey
		}
	}
	if _, err := c.AccessToken(ctx); err != nil {
		return accessToken
	}
	return ""
}

// FallbackMidasKey returns a Midas key to try where WeChat refused these: the newest
// in the store, or an earlier one. It is nil where there is no other.
func (c *Credentials) FallbackMidasKey(ctx context.Context, env wechat.Environment, refused []*signer.Key) (*signer.Key, error) {
	return c.midasKey(env).another(ctx, refused)
}

// ConfirmMidasKey notes that WeChat takes a key which FallbackMidasKey returned: MidasKey
// returns it from then on.
func (c *Credentials) ConfirmMidasKey(ctx context.Context, env wechat.Environment, key *signer.Key) {
	c.midasKey(env).took(ctx, key)
}

// RenewSessionKey is SessionKey past the cache, if failed is what it holds.
func (c *Credentials) RenewSessionKey(ctx context.Context, openid string, failed *signer.Key) (*signer.Key, error) {
	return c.sessions.Renew(ctx, c.sessionPath(openid), failed.Equal)
}

// RenewAccessToken is AccessToken where WeChat refused failed.
func (c *Credentials) RenewAccessToken(ctx context.Context, failed secrets.Value) (secrets.Value, error) {
	if c.central != nil {
		return c.central.Renew(ctx, c.app.TokenSecret, is(failed))
	}
	return c.stable.Renew(ctx, failed)
}

// readAppSecret reads the app secret, past the cache if that holds what was refused.
func (c *Credentials) readAppSecret(ctx context.Context, refused secrets.Value) (secrets.Value, error) {
	if refused.IsZero() {
		return c.appSecret.Get(ctx, c.app.Secret)
	}
	return c.appSecret.Renew(ctx, c.app.Secret, is(refused))
}

func is(value secrets.Value) func(secrets.Value) bool {
	return func(other secrets.Value) bool { return other == value }
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

// parseSession takes a player's session_key. A secret without one says of a player
// what a missing secret says: the player has to log in.
func parseSession(s secrets.Secret) (*signer.Key, error) {
	key, err := field(sessionKey, signer.NewKey)(s)
	if err != nil && s[sessionKey].IsZero() {
		err = fmt.Errorf("%w: %w", err, secrets.ErrNotFound)
	}
	return key, err
}
