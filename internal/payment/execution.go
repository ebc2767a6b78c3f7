package payment

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"midas-sidecar/internal/backoff"
	"midas-sidecar/internal/ledger"
	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/upstream"
	"midas-sidecar/internal/wechat"
)

// execution is one call's way from its first attempt to its answer.
type execution struct {
	processor *Processor
	order     wechat.Request
	entry     *ledger.Entry // nil for a call that only reads
	keyring   keyring

	host     int // the number of the one to send to
	attempts int // how often the order may have left this host
	lost     bool
	last     reply
	decision decision

	answered *answered       // WeChat's last answer that can be read, nil if there is none
	refusal  *outcome.Answer // what there is to sign with cannot be had
	cause    error           // why the last attempt brought no end

	// payLanded is when a pay that this order takes back, and that was given up, has
	// landed if it ever does. Zero: not known yet.
	payLanded time.Time
}

// run makes attempts until the order is decided or the time is up. Each is signed afresh,
// with a new ts and the keys and token that are current then.
func (x *execution) run(ctx context.Context) {
	x.decision = decide(x.evidence(), x.last)
	for repeats := 0; ; {
		keys, refusal := x.keyring.gather(ctx)
		if refusal != nil {
			x.refusal = refusal
			return
		}
		x.attempt(ctx, keys)
		x.decision = decide(x.evidence(), x.last)
		switch x.decision.next {
		case finish:
			return
		case renew:
			if !x.keyring.renew(ctx, x.last.action, keys) {
				return
			}
		case sendAgain:
			if !backoff.Pause(ctx, repeats, x.processor.Jitter) {
				return
			}
			repeats++
		}
	}
}

// attempt sends the order once and takes in how that ended.
func (x *execution) attempt(ctx context.Context, keys wechat.Keys) {
	ctx, cancel := context.WithTimeout(ctx, x.processor.AttemptTimeout)
	defer cancel()
	began := time.Now()
	early := x.payMayLand(began)
	message := x.order.Sign(keys, began)
	signed := time.Now()
	exchange := x.processor.Sender.Send(ctx, x.host, message)
	seen := Attempt{
		AppID: x.order.AppID(), Endpoint: x.order.Endpoint(), ZoneID: x.order.ZoneID(), Date: exchange.Date,
		Signing: signed.Sub(began), Took: time.Since(signed),
	}
	if !exchange.Sent {
		x.observe(seen, NeverSent)
		x.host++
		if x.attempts == 0 { // else what became of those that were sent says more
			x.cause = exchange.Err
		}
		return
	}
	x.attempts++
	x.last = reply{sent: true, early: early}
	answer, err := read(exchange, x.order.Endpoint().API)
	if err != nil {
		x.observe(seen, Lost)
		x.host++
		x.lost = true
		x.cause = err
		if !x.order.Endpoint().API.MovesCoins {
			x.answered = nil // what an earlier attempt was told is out of date
		}
		return
	}
	seen.Answer, seen.Action = answer.Answer, answer.action
	x.observe(seen, Answered)
	x.answered, x.cause = &answer, nil
	x.lost = x.lost || answer.action == wechat.Unsure
	x.last.answered, x.last.action = true, answer.action
	x.last.rulesOutApplied = x.order.Endpoint().API.Explain(answer.Errcode).RulesOutApplied()
	x.last.noSuchOrder = answer.Errcode == wechat.NoSuchOrder
	x.keyring.confirm(ctx, answer.action, keys.Midas)
}

// evidence is what is known of the order now.
func (x *execution) evidence() evidence {
	e := evidence{movesCoins: x.order.Endpoint().API.MovesCoins, lost: x.lost}
	if x.entry != nil {
		e.Facts = x.processor.Ledger.Facts(x.entry)
	}
	return e
}

// payMayLand reports whether the pay that the order takes back, if it takes one back, may
// be carried out after an attempt that is sent now. WeChat may be about to do what we gave
// up waiting for; it gets as much time for that again.
func (x *execution) payMayLand(now time.Time) bool {
	if !x.order.Endpoint().API.Cancels() {
		return false
	}
	known := x.processor.Ledger.Facts(x.entry)
	if known.PayPending || x.payLanded.IsZero() {
		x.payLanded = now.Add(min(x.processor.AttemptTimeout, x.processor.Deadline/2))
	}
	return known.PayPending || known.PayMaybeApplied && now.Before(x.payLanded)
}

// observe reports an attempt to the processor's observer.
func (x *execution) observe(seen Attempt, end End) {
	if x.processor.Observe != nil {
		seen.End = end
		x.processor.Observe(seen)
	}
}

// answered is an answer of WeChat's that can be read.
type answered struct {
	upstream.Exchange
	wechat.Answer
	action wechat.Action
}

// read returns what WeChat's answer says, or why it says nothing about the order.
func read(e upstream.Exchange, api *wechat.API) (answered, error) {
	if e.Err != nil {
		return answered{}, e.Err
	}
	if e.Strange() {
		return answered{}, fmt.Errorf("WeChat answered with HTTP status %d", e.Status)
	}
	answer, err := wechat.ReadAnswer(e.Body, api)
	if err != nil {
		return answered{}, fmt.Errorf("%w (HTTP status %d)", err, e.Status)
	}
	a := answered{Exchange: e, Answer: answer, action: answer.Action(api)}
	if e.Status >= http.StatusInternalServerError {
		// Whatever the body of a 5xx holds, it is not known that Midas wrote it. "Busy"
		// says no more than the 5xx does, so its words may be passed on.
		if answer.Errcode != wechat.Busy {
			return answered{}, fmt.Errorf("WeChat answered with HTTP status %d", e.Status)
		}
		a.action = wechat.Unsure
	}
	return a, nil
}

// answer puts the decision into words for the caller.
func (x *execution) answer() outcome.Answer {
	switch x.decision.outcome {
	case outcome.NotSent:
		if x.refusal != nil {
			return *x.refusal
		}
		return outcome.NewErrorAnswer(outcome.UpstreamUnreachable, outcome.ErrorDetail{
			Message: "no connection to WeChat", BillNo: x.order.BillNo(), Cause: x.cause,
		})
	case outcome.Unknown:
		// Any answer but one that says so itself would mislead a caller that reads nothing
		// but errcode.
		if x.answered == nil || x.answered.action != wechat.Unsure {
			return x.unknown()
		}
	case outcome.Rejected:
		if x.keyring.loggedOut { // what the last answer was about
			return x.loggedOut()
		}
	}
	return outcome.Answer{
		Outcome:     x.decision.outcome,
		Attempts:    x.attempts,
		Errcode:     x.answered.Errcode,
		Trace:       x.answered.Trace,
		Cause:       x.cause,
		Status:      x.answered.Status,
		ContentType: x.answered.ContentType,
		Body:        x.answered.Body,
	}
}

// loggedOut is the answer to a player who has no session_key that WeChat takes.
func (x *execution) loggedOut() outcome.Answer {
	message := "openid: WeChat refuses the session_key, and the secret store has no other; have the client call wx.login and log the player in again"
	if x.keyring.loginFailed {
		message = "openid: WeChat refuses the session_key, and logging in again has not helped: it brought the very same one. " +
			"Check that the js_code is of this app and player, and is fetched by wx.login at each login"
	}
	return outcome.NewErrorAnswer(outcome.SessionMissing, outcome.ErrorDetail{
		Message:         message,
		BillNo:          x.order.BillNo(),
		Attempts:        x.attempts,
		Outcome:         outcome.Rejected,
		UpstreamErrcode: &x.answered.Errcode,
		Trace:           x.answered.Trace,
	})
}

const unknownOrder = "it is not known whether the order was carried out; call again with the same bill_no, or cancel it"

// unknown is the honest answer about an order the end of which was not seen. It names the
// errcode that WeChat gave last.
func (x *execution) unknown() outcome.Answer {
	d := outcome.ErrorDetail{Message: unknownOrder, BillNo: x.order.BillNo(), Attempts: x.attempts, Cause: x.cause}
	if !x.order.Endpoint().API.MovesCoins {
		d.Message = "WeChat gave no answer; call again"
	}
	if x.answered != nil {
		d.UpstreamErrcode, d.Trace = &x.answered.Errcode, x.answered.Trace
	}
	if d.Cause == nil && x.refusal != nil {
		d.Cause = x.refusal.Cause
	}
	return outcome.NewErrorAnswer(outcome.OutcomeUnknown, d)
}
