// Package credentials brings together what an app signs with: where its keys lie
// in the secret store, and its access_token.
package credentials

import (
	"context"
	"log/slog"
	"slices"
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
	officialKey   = "midas_key"
	officialKeyV2 = "midas_key_v2"
	sandboxKey    = "midas_key_sandbox"
	sandboxKeyV2  = "midas_key_v2_sandbox"
	appSecretKey  = "app_secret"
	sessionKey    = "session_key"
	accessToken   = "access_token"
)

// Fields are all of them.
var Fields = append(slices.Clone(appFields), sessionKey, accessToken)

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

// Cache keeps the secrets of all apps, read from one store.
type Cache struct {
	store   *switchable
	options atomic.Pointer[Options]
	pace    *breaker.Pace

	appSecrets *secrets.Cache[*keyFields]
	sessions   *secrets.Cache[*signer.Key]
	saves      queues // of all apps: an app that is configured anew is the same to its players

	mu   sync.Mutex
	apps map[App]*Credentials
}

// NewCache returns an empty cache in front of the store.
func NewCache(store secrets.Store, options Options) *Cache {
	c := &Cache{
		store:      new(switchable),
		pace:       breaker.NewPace(denied),
		appSecrets: secrets.NewCache(maxApps, options.Ages, parseApp),
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
	// Secret is the path of the secret with the fields midas_key, midas_key_sandbox
	// and app_secret, and midas_key_v2 and midas_key_v2_sandbox where calls of v2
	// have keys of their own.
	Secret string
	// Session is the path of a player's secret with the field session_key;
	// {openid} stands for the player.
	Session string
	// MPSig reports whether calls of v1 carry mp_sig, and so need a session_key.
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
		secret:    c.appSecret(app),
		rotations: make(map[string]*rotation),
		sessions:  c.sessions.Reader(c.store, c.kind(app, sessionKey)),
	}
	for _, name := range midasKeys {
		log := creds.secret.log.With("secret", name)
		creds.rotations[name] = &rotation{log: log, refusals: refusals{log: log}}
	}
	options := c.options.Load()
	if app.TokenSecret != "" {
		creds.centralCache = secrets.NewCache(1, options.ofTokens(), parseToken(app.TokenField))
		creds.central = creds.centralCache.Reader(c.store, c.kind(app, accessToken))
	} else {
		creds.stable = accesstoken.New(app.AppID, creds.readAppSecret, asker, options.Log)
	}
	return creds
}

// Credentials are an app's keys and token, read when they are needed.
type Credentials struct {
	app             App
	store           *switchable
	saves           *queues
	secret          *appSecret
	rotations       map[string]*rotation // of Midas keys, by field
	sessions        *secrets.Reader[*signer.Key]
	refusedSessions refusedSessions

	// Where the access_token comes from: one of them is set.
	stable       *accesstoken.Stable
	central      *secrets.Reader[secrets.Value]
	centralCache *secrets.Cache[secrets.Value]
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

// Missing names the field without which the app cannot pay: an official Midas key that
// is malformed or that WeChat has refused lately, midas_key where there is no Midas key of
// either environment, or access_token. It is "" where nothing is missing.
func (c *Credentials) Missing(ctx context.Context) string {
	if name := c.secret.missing(ctx); name != "" {
		return name
	}
	if name := c.refusedField(); name != "" {
		return name
	}
	if _, err := c.AccessToken(ctx); err != nil {
		return accessToken
	}
	return ""
}

// RenewSessionKey is SessionKey past the cache, if failed is what it holds.
func (c *Credentials) RenewSessionKey(ctx context.Context, openid string, failed *signer.Key) (*signer.Key, error) {
	path := c.sessionPath(openid)
	c.refusedSessions.refuse(path, failed)
	return c.sessions.Renew(ctx, path, failed.Equal)
}

// SessionStoredAgain reports whether a login through SaveSession brought key after WeChat
// had refused the very same one. What a login server stores itself is not noticed.
func (c *Credentials) SessionStoredAgain(openid string, key *signer.Key) bool {
	return c.refusedSessions.isStoredAgain(c.sessionPath(openid), key)
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
	f, err := c.secret.renew(ctx, func(f keyField) bool { return f.text == refused }, appSecretKey)
	return f.text, err
}

func is(value secrets.Value) func(secrets.Value) bool {
	return func(other secrets.Value) bool { return other == value }
}
