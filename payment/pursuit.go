package payment

import (
	"fmt"
	"net/http"
	"time"

	"midas-sidecar/upstream"
	"midas-sidecar/wechat"
)

// pursuit is one order on the way to its end.
//
// An attempt either never left this host, or was answered, or has an end that
// nobody saw. The last leaves a doubt: what WeChat says from then on is about an
// order that may have been carried out already.
type pursuit struct {
	processor *Processor
	order     wechat.Request
	keyring   keyring

	host     int       // whose turn it is
	attempts int       // how often the order may have left this host
	undoes   *undoing  // nil for most
	believed time.Time // from when on WeChat is believed that there is nothing to take back, if that is in doubt
	before   past      // what earlier calls were told
	doubt    bool      // an attempt, of this call or an earlier one, may have been carried out
	last     *reply    // WeChat's last readable answer
	refusal  *Answer
	cause    error // why the last attempt brought no end
}

// reply is an answer of WeChat's that can be read.
type reply struct {
	upstream.Exchange
	wechat.Answer
	action wechat.Action
	early  bool // there is no such order to be cancelled, and may be yet
}

// step is what follows an attempt.
type step uint8

const (
	settled   step = iota // nothing more is to be learned
	sendAgain             // after a pause
	signAgain             // at once: what it was signed with has changed
)

// follow makes attempts until the order is settled or the time is up. Each is
// signed afresh, with a new ts and whatever keys and token are current then.
func (u *pursuit) follow(ctx *bounded) {
	for repeats := 0; ; {
		keys, refusal := u.keyring.gather(ctx)
		if refusal != nil {
			u.refusal = refusal
			return
		}
		switch u.attempt(ctx, keys) {
		case settled:
			return
		case sendAgain:
			if !Pause(ctx, repeats, u.processor.Jitter) {
				return
			}
			repeats++
		case signAgain:
		}
	}
}

// attempt sends the order once and takes in how that ended.
func (u *pursuit) attempt(ctx *bounded, keys wechat.Keys) step {
	sending, cancel := ctx.part(u.processor.AttemptTimeout)
	defer cancel()
	began := time.Now()
	early := u.isEarly(began)
	message := u.order.Sign(keys, began)
	signed := time.Now()
	e := u.processor.Sender.Send(sending, u.host, message)
	seen := Attempt{AppID: u.order.AppID(), Endpoint: u.order.Endpoint(), Signing: signed.Sub(began), Took: time.Since(signed)}
	if !e.Sent {
		u.observe(seen, NeverSent, wechat.Refused)
		u.host++
		if u.attempts == 0 { // else what became of those that were sent says more
			u.cause = e.Err
		}
		return sendAgain
	}
	u.attempts++
	answer, err := read(e, u.order.Endpoint().API)
	if err != nil {
		u.observe(seen, Lost, wechat.Refused)
		u.host++
		u.doubt = true
		u.cause = err
		if !u.order.Endpoint().API.Moves {
			u.last = nil // what an earlier attempt was told is out of date
		}
		return sendAgain
	}
	u.observe(seen, Answered, answer.action)
	u.last, u.cause = &answer, nil
	u.keyring.took(ctx, answer.action)
	if early && answer.Errcode == wechat.NoSuchOrder {
		u.last.early = true
		return sendAgain
	}
	switch u.last.action {
	case wechat.Unsure:
		u.doubt = true
		return sendAgain
	case wechat.TokenRefused, wechat.SessionRefused, wechat.KeyRefused:
		if u.keyring.renew(ctx, u.last.action, keys) {
			return signAgain
		}
	}
	return settled
}

// isEarly tells whether an attempt that begins now, to take back a pay, may come before
// WeChat has carried that out. WeChat may be about to do what we gave up waiting for; it
// gets as much time for that again.
func (u *pursuit) isEarly(now time.Time) bool {
	if u.undoes == nil {
		return false
	}
	inFlight, inDoubt := u.processor.Memory.mayLand(u.undoes.id)
	if inFlight || u.believed.IsZero() {
		u.believed = now.Add(min(u.processor.AttemptTimeout, u.processor.Deadline/2))
	}
	return inFlight || inDoubt && now.Before(u.believed)
}

// observe tells how an attempt ended.
func (u *pursuit) observe(seen Attempt, end End, action wechat.Action) {
	if u.processor.Observe != nil {
		seen.End, seen.Action = end, action
		u.processor.Observe(seen)
	}
}

// read returns what WeChat's answer says, or why it says nothing about the order.
func read(e upstream.Exchange, api *wechat.API) (reply, error) {
	if e.Err != nil {
		return reply{}, e.Err
	}
	if e.Strange() {
		return reply{}, fmt.Errorf("WeChat answered with HTTP status %d", e.Status)
	}
	answer, err := wechat.ReadAnswer(e.Body)
	if err != nil {
		return reply{}, fmt.Errorf("%w (HTTP status %d)", err, e.Status)
	}
	r := reply{Exchange: e, Answer: answer, action: answer.Action(api)}
	if e.Status >= http.StatusInternalServerError {
		// Whatever stands in the body of a 5xx, it is not known that Midas wrote it.
		// "Busy" says no more than the 5xx does, so its words may be passed on.
		if answer.Errcode != wechat.Busy {
			return reply{}, fmt.Errorf("WeChat answered with HTTP status %d", e.Status)
		}
		r.action = wechat.Unsure
	}
	return r, nil
}

// answer tells what became of the order.
func (u *pursuit) answer() Answer {
	switch {
	case u.last != nil:
		return u.judge()
	case u.attempts > 0, u.mayBeDone():
		return u.unknown()
	case u.refusal != nil:
		return *u.refusal
	default:
		return Own(UpstreamUnreachable, Detail{
			Message: "no connection to WeChat", BillNo: u.order.BillNo(), Cause: u.cause,
		})
	}
}

// mayBeDone tells whether the order may have been carried out, and not taken back
// since, whatever the last attempt says.
func (u *pursuit) mayBeDone() bool {
	return u.order.Endpoint().API.Moves && (u.doubt || u.before.known) && !u.processor.Memory.returned(idOf(u.order), u.order.Amount())
}

// isOurs tells whether an order that WeChat says was done before was done by an
// attempt whose end was not seen.
func (u *pursuit) isOurs() bool {
	return u.doubt && !u.before.known && !u.processor.Memory.spent(u.order)
}

// judge tells what WeChat's last answer means, given what may have happened before.
func (u *pursuit) judge() Answer {
	outcome := Rejected
	switch u.last.action {
	case wechat.Applied:
		outcome = Applied
	case wechat.Done:
		if outcome = Duplicate; u.isOurs() {
			outcome = AlreadyApplied
		}
	case wechat.Unsure:
		outcome = Unknown
	default:
		// A refusal of this attempt says nothing about an earlier one that may have
		// been carried out, but for the few that prove that none was.
		if u.last.early || u.mayBeDone() && !u.order.Endpoint().API.Explain(u.last.Errcode).Proves() {
			return u.unknown()
		}
		if u.keyring.loggedOut { // what the last answer was about
			return u.loggedOut()
		}
	}
	return Answer{
		Outcome:     outcome,
		Attempts:    u.attempts,
		Errcode:     u.last.Errcode,
		Cause:       u.cause,
		Status:      u.last.Status,
		ContentType: u.last.ContentType,
		Body:        u.last.Body,
	}
}

// loggedOut is the answer to a player for whom there is nothing to sign with that WeChat
// would take.
func (u *pursuit) loggedOut() Answer {
	return Own(SessionMissing, Detail{
		Message:         "openid: WeChat refuses the session_key, and the secret store has no other; have the client call wx.login and log the player in again",
		BillNo:          u.order.BillNo(),
		Attempts:        u.attempts,
		Outcome:         Rejected,
		UpstreamErrcode: &u.last.Errcode,
	})
}

const unknownOrder = "it is not known whether the order was carried out; call again with the same bill_no, or cancel it"

// unknown is the honest answer about an order whose end was not seen. It names an
// errcode that WeChat gave in the end instead of passing that answer on, which would
// mislead a caller that reads nothing else.
func (u *pursuit) unknown() Answer {
	d := Detail{Message: unknownOrder, BillNo: u.order.BillNo(), Attempts: u.attempts, Cause: u.cause}
	if !u.order.Endpoint().API.Moves {
		d.Message = "WeChat gave no answer; call again"
	}
	if u.last != nil {
		d.UpstreamErrcode = &u.last.Errcode
	}
	if d.Cause == nil && u.refusal != nil {
		d.Cause = u.refusal.Cause
	}
	return Own(OutcomeUnknown, d)
}
