package credentials

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/wechat"
	"midas-sidecar/signer"
)

var (
	// midasKeys are the fields with Midas keys, the official ones first.
	midasKeys = []string{officialKey, officialKeyV2, sandboxKey, sandboxKeyV2}
	// appFields are the fields of an app's secret, which are read with one call.
	appFields = append(slices.Clone(midasKeys), appSecretKey)
)

// midasFields are the fields that may hold the Midas key of an endpoint: the first of
// them that the secret has counts, and the last is the one that every app needs.
func midasFields(e wechat.Endpoint) []string {
	switch v2 := e.API.Family == wechat.V2; {
	case v2 && e.Environment == wechat.Sandbox:
		return []string{sandboxKeyV2, sandboxKey}
	case v2:
		return []string{officialKeyV2, officialKey}
	case e.Environment == wechat.Sandbox:
		return []string{sandboxKey}
	default:
		return []string{officialKey}
	}
}

// isOptional reports whether the field may be left out, and so also be taken away
// again: what is used then is another field.
func isOptional(field string) bool { return field == officialKeyV2 || field == sandboxKeyV2 }

// keyFields is what an app's secret holds.
type keyFields struct {
	read   time.Time
	fields map[string]keyField
	flawed bool
}

// keyField is one field of an app's secret.
type keyField struct {
	name string
	// text is the last value that makes sense, zero where there was none, and key the
	// same, ready to sign.
	text secrets.Value
	key  *signer.Key
	read time.Time // when text was last in the store
	// slip is why what the store holds now is not used, nil where it is.
	slip  error
	since time.Time // when the slip was found
}

// parseApp takes the fields of an app's secret. A slip in one stops nothing that needs
// another: the last good value of the field is kept.
func parseApp(s secrets.Secret, before *keyFields) (*keyFields, error) {
	now := time.Now()
	parsed := &keyFields{read: now, fields: make(map[string]keyField, len(s))}
	for _, name := range appFields {
		var last keyField
		if before != nil {
			last = before.fields[name]
		}
		text, err := fieldOf(s, name)
		f := keyField{name: name, text: text, key: last.key, read: now}
		switch absent := s[name].IsZero(); {
		case absent && (last.text.IsZero() || isOptional(name)):
			continue
		case err != nil:
			f = last
			f.name, f.slip = name, err
			if last.slip == nil {
				f.since = now
			}
			parsed.flawed = true
		case text != last.text:
			f.key = signer.NewKey(text.Reveal())
		}
		parsed.fields[name] = f
	}
	return parsed, nil
}

// Flawed reports whether a field is not as it should be.
func (k *keyFields) Flawed() bool { return k.flawed }

// appSecret is the secret of one app.
type appSecret struct {
	app      App
	reader   *secrets.Reader[*keyFields]
	options  func() *Options
	log      *slog.Logger // of the app
	observer Observer

	needs map[string]*atomic.Bool   // by field, whether it was asked for
	noted atomic.Pointer[keyFields] // what the log was last told of
	mu    sync.Mutex
	told  map[string]fieldHealth // by field, what the log was told
}

// fieldHealth is what there is to say of a field.
type fieldHealth int

const (
	healthy  fieldHealth = iota
	outdated             // the last good value is used
	unusable             // there is none
)

func (c *Cache) appSecret(app App) *appSecret {
	options := c.options.Load()
	a := &appSecret{
		app: app, options: c.options.Load, observer: options.Observer,
		log:   options.Log.With("appid", app.AppID),
		needs: make(map[string]*atomic.Bool), told: make(map[string]fieldHealth),
	}
	for _, name := range appFields {
		a.needs[name] = new(atomic.Bool)
	}
	a.reader = c.appSecrets.Reader(countedStore{c.store, a}, secrets.Kind{
		Pace: c.pace, Log: a.log.With("secret", "app"), Watcher: appWatcher{a},
	})
	return a
}

// get returns the first of the fields that the secret has. One that is missing is
// looked for again after the time for which that is remembered.
func (a *appSecret) get(ctx context.Context, names ...string) (keyField, error) {
	return a.pick(ctx, names, nil)
}

// renew is get past the cache, where what is kept has failed.
func (a *appSecret) renew(ctx context.Context, failed func(keyField) bool, names ...string) (keyField, error) {
	return a.pick(ctx, names, func(all *keyFields) bool {
		f, err := a.in(all, names)
		return err == nil && failed(f)
	})
}

func (a *appSecret) pick(ctx context.Context, names []string, failed func(*keyFields) bool) (keyField, error) {
	if len(names) == 1 {
		a.need(names[0])
	}
	var f keyField
	var slip error
	_, err := a.read(ctx, failed, func(all *keyFields) bool {
		f, slip = a.in(all, names)
		return slip == nil
	})
	if err != nil {
		return keyField{}, err
	}
	if slip != nil {
		a.note(f.name, unusable, slip)
	}
	a.need(f.name)
	return f, slip
}

func (a *appSecret) need(name string) {
	if need := a.needs[name]; !need.Load() { // a write of each order would cost more
		need.Store(true)
	}
}

// read returns what the secret holds, past the cache where that has failed, or where it
// does not suffice and was not read just now.
func (a *appSecret) read(ctx context.Context, failed, suffices func(*keyFields) bool) (all *keyFields, err error) {
	if failed == nil {
		all, err = a.reader.Get(ctx, a.app.Secret)
	} else {
		all, err = a.reader.Renew(ctx, a.app.Secret, failed)
	}
	if err == nil && !suffices(all) && time.Since(all.read) >= secrets.NegativeTTL {
		all, err = a.reader.Renew(ctx, a.app.Secret, func(all *keyFields) bool { return !suffices(all) })
	}
	if err != nil {
		return nil, err
	}
	suffices(all)
	if a.noted.Load() != all {
		a.noted.Store(all)
		a.noteAll(all)
	}
	return all, nil
}

// in returns the first of the fields that the secret has, and why that cannot be used.
func (a *appSecret) in(all *keyFields, names []string) (keyField, error) {
	for _, name := range names {
		f, there := all.fields[name]
		if !there {
			continue
		}
		ages := a.options().Ages
		if f.slip != nil && (f.text.IsZero() || time.Since(f.read) > ages.Fresh+ages.Stale) {
			return f, a.wrap(f.slip)
		}
		return f, nil
	}
	last := names[len(names)-1]
	return keyField{name: last}, a.wrap(missing(last))
}

func (a *appSecret) wrap(slip error) error { return fmt.Errorf("%s %w", a.app.Secret, slip) }

// noteAll tells the log of what is new about the fields.
func (a *appSecret) noteAll(all *keyFields) {
	for name, f := range all.fields {
		switch {
		case f.slip == nil:
			a.note(name, healthy, nil)
		case f.text.IsZero():
			a.note(name, unusable, a.wrap(f.slip))
		default:
			a.note(name, outdated, a.wrap(f.slip))
		}
	}
}

func (a *appSecret) note(name string, is fieldHealth, err error) {
	a.mu.Lock()
	was := a.told[name]
	a.told[name] = is
	a.mu.Unlock()
	log := a.log.With("secret", name)
	switch {
	case is == was:
	case is == unusable:
		log.Warn("secret cannot be used", "error", err)
	case is == outdated:
		log.Warn("secret is malformed: the last good value is used", "error", err)
		a.stale(name, err)
	case was == outdated:
		log.Info("secret is well formed again")
	default:
		log.Info("secret can be used")
	}
}

func (a *appSecret) stale(name string, err error) {
	if a.observer != nil {
		a.observer.SecretStale(a.app.AppID, name, err)
	}
}

// status notes what is known of the fields.
func (a *appSecret) status(s Status) {
	all, kept := a.reader.Peek(a.app.Secret)
	trouble := a.reader.Trouble()
	if !kept {
		if trouble != nil { // it was never had
			s.Troubles[officialKey] = *trouble
		}
		return
	}
	for name, f := range all.fields {
		needed := a.needs[name].Load()
		if needed && !f.text.IsZero() {
			s.Ages[name] = time.Since(f.read)
		}
		switch {
		case f.slip != nil:
			s.Troubles[name] = secrets.Trouble{Since: f.since, Failure: a.wrap(f.slip)}
		case needed && trouble != nil:
			s.Troubles[name] = *trouble
		}
	}
}

// missing returns the field without which the app cannot pay, "" where there is none:
// an official Midas key that is malformed, or, where there is none of either
// environment, one that is, or midas_key.
func (a *appSecret) missing(ctx context.Context) string {
	var usable, malformed []string
	_, err := a.read(ctx, nil, func(all *keyFields) bool {
		usable, malformed = nil, nil
		for _, name := range midasKeys {
			switch _, err := a.in(all, []string{name}); {
			case err == nil:
				usable = append(usable, name)
			case isMalformed(err):
				malformed = append(malformed, name)
			}
		}
		return len(usable) > 0
	})
	isOfficial := func(name string) bool { return name == officialKey || name == officialKeyV2 }
	switch {
	case err == nil && len(malformed) > 0 && (len(usable) == 0 || isOfficial(malformed[0])):
		return malformed[0]
	case len(usable) == 0:
		return officialKey
	default:
		a.need(usable[0])
		return ""
	}
}

// countedStore counts the reads of an app's secret, for each field that it holds or
// that was asked for.
type countedStore struct {
	*switchable
	app *appSecret
}

// Read implements secrets.Store.
func (s countedStore) Read(ctx context.Context, path string) (secrets.Secret, error) {
	secret, err := s.switchable.Read(ctx, path)
	s.app.count(secret, err)
	return secret, err
}

func (a *appSecret) count(secret secrets.Secret, err error) {
	if a.observer == nil {
		return
	}
	for _, name := range appFields {
		result, needed := secrets.ResultOf(err), a.needs[name].Load()
		if err == nil {
			needed = needed || !secret[name].IsZero()
			if _, slip := fieldOf(secret, name); slip != nil {
				result = secrets.Malformed
			}
		}
		if needed {
			a.observer.SecretRead(name, result)
		}
	}
}

// appWatcher is told what a reader of the app's secret meets.
type appWatcher struct{ *appSecret }

// Read does nothing: reads are counted by field.
func (appWatcher) Read(secrets.Result) {}

// Stale tells of all fields that are in use.
func (w appWatcher) Stale(failure error) {
	all, kept := w.reader.Peek(w.app.Secret)
	if !kept {
		return
	}
	for _, name := range appFields {
		if f := all.fields[name]; w.needs[name].Load() && !f.text.IsZero() && f.slip == nil {
			w.stale(name, failure)
		}
	}
}

func isMalformed(err error) bool {
	_, is := errors.AsType[*secrets.MalformedError](err)
	return is
}
