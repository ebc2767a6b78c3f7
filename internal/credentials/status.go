package credentials

import (
	"errors"
	"time"

	"midas-sidecar/internal/secrets"
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
	options := c.options.Load()
	k := secrets.Kind{Pace: c.pace, Log: options.Log.With("appid", app.AppID, "secret", field)}
	if field == sessionKey {
		k.Players = app.Session
	}
	if options.Observer != nil {
		k.Watcher = watcher{options.Observer, app.AppID, field}
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
	// Ages are how long ago the secrets in use were read, by field. session_keys and
	// WeChat's own token are not among them.
	Ages map[string]time.Duration
	// Troubles say why secrets that are needed cannot be read, or no other token be had,
	// by field.
	Troubles map[string]secrets.Trouble
	// Refused says, for each Midas key that there is, since when WeChat refuses it,
	// nil where it does not.
	Refused map[string]*secrets.Trouble
	// TokenExpires is when WeChat's access_token ends, zero where it is not known.
	TokenExpires time.Time
}

// Status returns how things are now, without reading anything.
func (c *Credentials) Status() Status {
	s := Status{Ages: make(map[string]time.Duration), Troubles: make(map[string]secrets.Trouble), Refused: c.refusedKeys()}
	c.secret.status(s)
	look(s, sessionKey, "", c.sessions)
	if c.central != nil {
		look(s, accessToken, c.app.TokenSecret, c.central)
		return s
	}
	token := c.stable.Status()
	s.TokenExpires = token.Expires
	if token.Failure != nil {
		s.Troubles[accessToken] = secrets.Trouble{Since: token.Since, Failure: token.Failure}
	}
	return s
}

// look notes what is known of the secrets with that field.
func look[V any](s Status, field, path string, reader *secrets.Reader[V]) {
	if age, used := reader.Age(path); used {
		s.Ages[field] = age
	}
	if trouble := reader.Trouble(); trouble != nil {
		s.Troubles[field] = *trouble
	}
}

// Malformed returns the rules that fields of the app's secrets break, by field, as far
// as they have been read.
func (c *Credentials) Malformed() map[string]string {
	rules := make(map[string]string)
	for _, trouble := range c.Status().Troubles {
		if e, ok := errors.AsType[*secrets.MalformedError](trouble.Failure); ok {
			rules[e.Field] = e.Rule
		}
	}
	return rules
}

// Sessions returns about how many session_keys are kept.
func (c *Cache) Sessions() int { return c.sessions.Len() }

// Forget drops all secrets and tokens that are kept. What is needed is read again.
func (c *Cache) Forget() {
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
