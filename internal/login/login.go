// Package login turns a js_code into a session that only the secret store and this
// process know: WeChat is asked with the app secret, the session_key is stored, and the
// caller gets the rest of the answer. It meets the world only through the interfaces
// that it declares.
package login

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"midas-sidecar/internal/backoff"
	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/upstream"
	"midas-sidecar/internal/wechat"
)

// Credentials are what an app logs players in with.
type Credentials interface {
	// AppSecret returns the app secret, past what is kept at hand where that is what
	// WeChat refused.
	AppSecret(ctx context.Context, refused secrets.Value) (secrets.Value, error)
	// CanSave returns why SaveSession cannot work, nil if it may.
	CanSave(context.Context) error
	// SaveSession stores a player's session_key, with which he pays from then on.
	SaveSession(ctx context.Context, openid string, key secrets.Value) error
}

// Sender sends one message to WeChat and tells how that ended.
type Sender interface {
	// Send sends to the host whose number is given, round the list of hosts.
	Send(ctx context.Context, host int, message wechat.Outbound) upstream.Exchange
}

// Processor logs players in. Its fields are set before it is used.
type Processor struct {
	// Sender sends to WeChat.
	Sender Sender
	// Deadline is how long one login may take, in all.
	Deadline time.Duration
	// AttemptTimeout is how long WeChat may take to answer.
	AttemptTimeout time.Duration
}

// Process uses the js_code up and returns what the caller gets. It is followed to its
// end though ctx is cancelled: the session before may have ended with the code.
//
// A js_code is sent once. It is sent again only where nothing of it left this host, or
// where WeChat did not take the app secret, and so did not look at it, and there is
// another.
func (p *Processor) Process(ctx context.Context, appID string, wish wechat.Login, creds Credentials) outcome.Answer {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.Deadline)
	defer cancel()
	if err := creds.CanSave(ctx); err != nil {
		return outcome.NewErrorAnswer(outcome.SecretsUnavailable, outcome.ErrorDetail{Message: cannotSave(err), Cause: err})
	}
	secret, err := creds.AppSecret(ctx, secrets.Value{})
	if err != nil {
		return outcome.NewErrorAnswer(outcome.SecretsUnavailable, outcome.ErrorDetail{Message: secrets.Advice(err, "the app secret cannot be read"), Cause: err})
	}
	a := attempts{processor: p, appID: appID, code: wish.JSCode.Reveal()}
	reply, failure := a.send(ctx, secret)
	if failure == nil && reply.SecretRefused() {
		corrected, err := creds.AppSecret(ctx, secret)
		if err == nil && corrected != secret {
			reply, failure = a.send(ctx, corrected)
		}
	}
	switch {
	case failure != nil:
		return *failure
	case reply.Errcode == wechat.Busy:
		return reply.passedOn(outcome.Unknown, a.sent)
	case reply.Errcode != 0:
		return reply.passedOn(outcome.Rejected, a.sent)
	}
	if err := creds.SaveSession(ctx, reply.OpenID, reply.Key); err != nil {
		return outcome.NewErrorAnswer(outcome.SecretsUnavailable, outcome.ErrorDetail{
			Message:  "the session_key could not be stored and is dropped; have the client call wx.login again",
			Attempts: a.sent,
			Outcome:  outcome.Rejected, // nobody is logged in, and the js_code is used up
			Cause:    err,
		})
	}
	return reply.passedOn(outcome.Applied, a.sent)
}

func cannotSave(err error) string {
	if errors.Is(err, secrets.ErrReadOnly) {
		return "the session_key could not be stored: the secret store is read only"
	}
	return "the session_key could not be stored: the secret store cannot be used; the js_code is not used up"
}

// unknown is the answer where nobody knows what became of the js_code.
func unknown(sent int, cause error) *outcome.Answer {
	answer := outcome.NewErrorAnswer(outcome.OutcomeUnknown, outcome.ErrorDetail{
		Message:  "it is not known whether the js_code was used up; have the client call wx.login again",
		Attempts: sent,
		Cause:    cause,
	})
	return &answer
}

// Interrupted is the answer to a login of which nobody knows how far it got, and why.
func Interrupted(cause error) outcome.Answer { return *unknown(0, cause) }

// reply is an answer of WeChat's that can be read.
type reply struct {
	upstream.Exchange
	wechat.Session
}

// passedOn is WeChat's own answer, without a session_key.
func (r reply) passedOn(o outcome.Outcome, sent int) outcome.Answer {
	return outcome.Answer{
		Outcome: o, Attempts: sent, Errcode: r.Errcode,
		Status: r.Status, ContentType: r.ContentType, Body: r.Rest,
	}
}

// attempts are the sendings of one js_code.
type attempts struct {
	processor   *Processor
	appID, code string
	host        int // whose turn it is
	sent        int // how often the code may have left this host
}

// send sends the code to the first host that can be reached, and reads what it says.
func (a *attempts) send(ctx context.Context, secret secrets.Value) (reply, *outcome.Answer) {
	message := wechat.Code2Session(a.appID, secret, a.code)
	e := a.sendOnce(ctx, message)
	for n := 0; !e.Sent && backoff.Pause(ctx, n, nil); n++ {
		a.host++
		e = a.sendOnce(ctx, message)
	}
	if !e.Sent && a.sent == 0 {
		answer := outcome.NewErrorAnswer(outcome.UpstreamUnreachable, outcome.ErrorDetail{Message: "no connection to WeChat; the js_code is not used up", Cause: e.Err})
		return reply{}, &answer
	}
	if e.Err != nil {
		return reply{}, unknown(a.sent, e.Err)
	}
	session, err := wechat.ReadSession(e.Body, secret)
	switch {
	case e.Strange():
		return reply{}, unknown(a.sent, fmt.Errorf("WeChat answered with HTTP status %d", e.Status))
	case err != nil:
		return reply{}, unknown(a.sent, fmt.Errorf("%w (HTTP status %d)", err, e.Status))
	case e.Status >= http.StatusInternalServerError && session.Errcode != wechat.Busy:
		// Whatever stands in the body of a 5xx, it is not known that WeChat wrote it.
		return reply{}, unknown(a.sent, fmt.Errorf("WeChat answered with HTTP status %d", e.Status))
	}
	return reply{e, session}, nil
}

func (a *attempts) sendOnce(ctx context.Context, message wechat.Outbound) upstream.Exchange {
	ctx, cancel := context.WithTimeout(ctx, a.processor.AttemptTimeout)
	defer cancel()
	e := a.processor.Sender.Send(ctx, a.host, message)
	if e.Sent {
		a.sent++
	}
	return e
}
