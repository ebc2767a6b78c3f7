// Package payment decides about money: it turns an order into an answer that
// tells truthfully whether the player's coins moved. It meets the world only
// through the interfaces that it declares.
package payment

import (
	"context"
	"errors"
	"fmt"
	"time"

	"midas-sidecar/secrets"
	"midas-sidecar/signer"
	"midas-sidecar/upstream"
	"midas-sidecar/wechat"
)

// Credentials are what an app signs with. A method's error means that the thing
// cannot be had now.
type Credentials interface {
	MidasKey(context.Context, wechat.Environment) (*signer.Key, error)
	// SessionKey returns nil where the app sends no mp_sig, and an error that is
	// secrets.ErrNotFound where the player has none.
	SessionKey(ctx context.Context, openid string) (*signer.Key, error)
	AccessToken(context.Context) (secrets.Value, error)
}

// Sender sends one message to WeChat and tells how that ended.
type Sender interface {
	Send(ctx context.Context, attempt int, message wechat.Outbound) upstream.Exchange
}

// Processor carries out orders.
type Processor struct {
	// Sender sends to WeChat.
	Sender Sender
	// Deadline is how long one order may take, in all.
	Deadline time.Duration
	// AttemptTimeout is how long WeChat may take to answer.
	AttemptTimeout time.Duration
}

// Process carries out the order. It is followed to its end though ctx is
// cancelled: a caller that hangs up does not undo what was sent. Process returns
// after Deadline at the latest.
func (p *Processor) Process(ctx context.Context, order wechat.Request, creds Credentials) Answer {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.Deadline)
	defer cancel()

	keys, refusal := gather(ctx, order, creds)
	if refusal != nil {
		return *refusal
	}
	ctx, cancel = context.WithTimeout(ctx, p.AttemptTimeout)
	defer cancel()
	exchange := p.Sender.Send(ctx, 0, order.Sign(keys, time.Now()))
	return judge(order, exchange)
}

// gather reads what the order is signed with, or returns the answer that says
// what cannot be had.
func gather(ctx context.Context, order wechat.Request, creds Credentials) (keys wechat.Keys, refusal *Answer) {
	refuse := func(problem Problem, message string, cause error) (wechat.Keys, *Answer) {
		answer := Own(problem, Detail{Message: message, BillNo: order.BillNo(), Cause: cause})
		return keys, &answer
	}
	var err error
	if keys.Midas, err = creds.MidasKey(ctx, order.Endpoint().Environment); err != nil {
		return refuse(SecretsUnavailable, "the Midas key cannot be read", err)
	}
	if keys.Session, err = creds.SessionKey(ctx, order.OpenID()); errors.Is(err, secrets.ErrNotFound) {
		return refuse(SessionMissing, "openid: has no session_key in the secret store; the player must log in", err)
	} else if err != nil {
		return refuse(SecretsUnavailable, "the session_key cannot be read", err)
	}
	if keys.AccessToken, err = creds.AccessToken(ctx); err != nil {
		return refuse(TokenUnavailable, "the access_token cannot be had", err)
	}
	return keys, nil
}

// judge tells from how the exchange ended what became of the order.
func judge(order wechat.Request, e upstream.Exchange) Answer {
	switch {
	case !e.Sent:
		return Own(UpstreamUnreachable, Detail{
			Message: "no connection to WeChat", BillNo: order.BillNo(), Cause: e.Err,
		})
	case e.Err != nil:
		return unknown(order, e.Err)
	}
	answer, err := wechat.ReadAnswer(e.Body)
	switch {
	case e.Status >= 500:
		// Whatever stands in the body of a 5xx was not written by Midas.
		return unknown(order, fmt.Errorf("WeChat answered with HTTP status %d", e.Status))
	case err != nil:
		return unknown(order, fmt.Errorf("%w (HTTP status %d)", err, e.Status))
	}
	return Answer{
		Outcome:     outcomes[answer.Action(order.Endpoint().API)],
		Attempts:    1,
		Errcode:     answer.Errcode,
		Status:      e.Status,
		ContentType: e.ContentType,
		Body:        e.Body,
	}
}

// outcomes is what WeChat's answer to a first and only attempt means.
var outcomes = map[wechat.Action]Outcome{
	wechat.Applied:        Applied,
	wechat.Done:           Duplicate,
	wechat.Unsure:         Unknown,
	wechat.Refused:        Rejected,
	wechat.TokenRefused:   Rejected,
	wechat.SessionRefused: Rejected,
	wechat.KeyRefused:     Rejected,
}

// unknown is the honest answer about an order that was sent and whose end was not
// seen.
func unknown(order wechat.Request, cause error) Answer {
	message := "it is not known whether the order was carried out; call again with the same bill_no, or cancel it"
	if !order.Endpoint().API.Moves {
		message = "WeChat gave no answer; call again"
	}
	return Own(OutcomeUnknown, Detail{
		Message:  message,
		BillNo:   order.BillNo(),
		Attempts: 1,
		Cause:    cause,
	})
}
