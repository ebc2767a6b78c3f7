package credentials

import (
	"time"

	"midas-sidecar/secrets"
)

// Observer is told how reads of the store end. It must not keep them waiting.
type Observer interface {
	// SecretRead tells how a read of a secret with that field ended.
	SecretRead(field string, result secrets.Result)
	// SecretStale tells once that a secret which is in use can no longer be read.
	SecretStale(appID, field string, failure error)
}

// kind is what the secrets with that field of an app have in common.
func (c *Cache) kind(app App, field string) secrets.Kind {
	k := secrets.Kind{Pace: c.pace, Log: c.options.Log.With("appid", app.AppID, "secret", field)}
	if c.options.Observer != nil {
		k.Watcher = watcher{c.options.Observer, app.AppID, field}
	}
	return k
}

// watcher tells the observer what it is that a reader met.
type watcher struct {
	observer     Observer
	appID, field string
}

func (w watcher) Read(result secrets.Result) { w.observer.SecretRead(w.field, result) }
func (w watcher) Stale(failure error)        { w.observer.SecretStale(w.appID, w.field, failure) }

// Status is what may be known of an app's secrets by whoever watches it.
type Status struct {
	// Secrets are those in use, by field, but for session_keys and a token of
	// WeChat's.
	Secrets map[string]secrets.Status
	// Troubles say why secrets in use cannot be read again, by field.
	Troubles map[string]secrets.Trouble
	// TokenExpires is when WeChat's access_token ends, zero where it is not known.
	TokenExpires time.Time
}

// Status returns how things are now, without reading anything.
func (c *Credentials) Status() Status {
	s := Status{Secrets: make(map[string]secrets.Status), Troubles: make(map[string]secrets.Trouble)}
	note := func(field string, status secrets.Status, kept bool, trouble *secrets.Trouble) {
		if kept {
			s.Secrets[field] = status
		}
		if trouble != nil {
			s.Troubles[field] = *trouble
		}
	}
	for _, key := range []struct {
		field string
		*midasKey
	}{{officialKey, c.official}, {sandboxKey, c.sandbox}} {
		status, kept := key.reader.Status(key.path)
		note(key.field, status, kept, key.reader.Trouble())
	}
	note(sessionKey, secrets.Status{}, false, c.sessions.Trouble())
	status, kept := c.appSecret.Status(c.app.Secret)
	note(appSecret, status, kept, c.appSecret.Trouble())
	if c.central != nil {
		status, kept := c.central.Status(c.app.TokenSecret)
		note(accessToken, status, kept, c.central.Trouble())
		return s
	}
	token := c.stable.Status()
	s.TokenExpires = token.Expires
	if token.Failure != nil {
		s.Troubles[accessToken] = secrets.Trouble{Since: token.Since, Failure: token.Failure}
	}
	return s
}

// Sessions returns about how many session_keys are kept.
func (c *Cache) Sessions() int { return c.sessions.Len() }

// Forget drops all secrets and tokens that are kept. What is needed is read again.
func (c *Cache) Forget() {
	c.official.Forget()
	c.sandbox.Forget()
	c.appSecrets.Forget()
	c.sessions.Forget()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, creds := range c.apps {
		if creds.central != nil {
			creds.central.Forget(creds.app.TokenSecret)
		} else {
			creds.stable.Forget()
		}
	}
}

// ForgetSession drops a player's session_key.
func (c *Credentials) ForgetSession(openid string) { c.sessions.Forget(c.sessionPath(openid)) }
