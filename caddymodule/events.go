package caddymodule

import (
	"midas-sidecar/internal/payment"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/wechat"
)

// The events of Caddy's events app. None carries a secret or a player.
const (
	// eventOrderUnknown is an order of which it is not known whether it was carried
	// out: appid, api, environment, bill_no, attempts, and rid or traceid where WeChat's
	// last answer has one.
	eventOrderUnknown = "midas.order_unknown"
	// eventSecretStale is a secret in use that can no longer be read: appid, secret,
	// error.
	eventSecretStale = "midas.secret_stale"
	// eventTokenRefused is an access_token that WeChat refused: appid.
	eventTokenRefused = "midas.token_refused"
)

// emit emits an event for whoever subscribed to it. Nobody waits for what they do
// with it, but the end of the process.
func (m *Midas) emit(name string, data map[string]any) {
	if !m.events.ShouldEmit(name) {
		return
	}
	leave := m.shared.calls.Enter()
	go func() {
		defer leave()
		defer func() {
			if mistake := recover(); mistake != nil {
				logPanic(m.ctx.Logger(), mistake)
			}
		}()
		m.events.Emit(m.ctx, name, data)
	}()
}

// emitLatest is emit of the config that was started last, for what outlives configs.
func emitLatest(name string, data map[string]any) {
	if app := running.newest(); app != nil {
		app.emit(name, data)
	}
}

// observe counts an attempt, looks at what WeChat said, and emits an event of a refused
// token.
func (l *shared) observe(a payment.Attempt) {
	countAttempt(a)
	l.watch.Observe(a)
	if a.Action == wechat.TokenRefused {
		emitLatest(eventTokenRefused, map[string]any{"appid": a.AppID})
	}
}

// observer watches reads of the secret store.
type observer struct{}

func (observer) SecretRead(field string, result secrets.Result) { countRead(field, result) }

func (observer) SecretStale(appID, field string, failure error) {
	emitLatest(eventSecretStale, map[string]any{"appid": appID, "secret": field, "error": failure.Error()})
}
