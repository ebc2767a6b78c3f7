// Package payment decides about money: it turns an order into an answer that
// tells truthfully whether the player's coins moved. It meets the world only
// through the interfaces that it declares.
package payment

import (
	"context"
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
	// SessionKey returns nil where the app signs no calls of the family for the
	// player, and an error that is secrets.ErrNotFound where the player has none.
	SessionKey(ctx context.Context, family *wechat.Family, openid string) (*signer.Key, error)
	AccessToken(context.Context) (secrets.Value, error)

	// AnotherMidasKey returns a Midas key that WeChat has not refused, past what is
	// kept at hand, and nil where there is none.
	AnotherMidasKey(ctx context.Context, env wechat.Environment, refused []*signer.Key) (*signer.Key, error)
	// TookMidasKey notes that WeChat takes such a key.
	TookMidasKey(ctx context.Context, env wechat.Environment, key *signer.Key)

	// The Renew methods do what their namesakes do, past what is kept at hand,
	// unless that is no longer what failed.
	RenewSessionKey(ctx context.Context, openid string, failed *signer.Key) (*signer.Key, error)
	RenewAccessToken(ctx context.Context, failed secrets.Value) (secrets.Value, error)
}

// Sender sends one message to WeChat and tells how that ended.
type Sender interface {
	// Send sends to the host whose number is given, round the list of hosts.
	Send(ctx context.Context, host int, message wechat.Outbound) upstream.Exchange
}

// Processor carries out orders. Its fields are set before it is used.
type Processor struct {
	// Sender sends to WeChat.
	Sender Sender
	// Memory knows the orders in flight and those answered a while ago.
	Memory *Memory
	// Deadline is how long one order may take, in all.
	Deadline time.Duration
	// AttemptTimeout is how long WeChat may take to answer one attempt.
	AttemptTimeout time.Duration
	// Replay is how long an order is remembered, 0 for no longer than it is in
	// flight.
	Replay time.Duration
	// CancelUnknown takes back a pay whose end stays unknown, within one more
	// Deadline.
	CancelUnknown bool
	// Observe is told of every attempt. It must not keep the order waiting.
	// Default: nobody is told.
	Observe func(Attempt)
	// Jitter is that of Pause between attempts.
	Jitter func(d time.Duration) time.Duration
}

// Attempt is one sending of an order, for whoever watches.
type Attempt struct {
	AppID    string
	Endpoint wechat.Endpoint
	End      End
	// Action is what the answer means, Refused where there is none.
	Action wechat.Action
	// Signing is how long it took to sign, Took from then to the end.
	Signing, Took time.Duration
}

// End is how an attempt ended.
type End string

// The ends.
const (
	Answered  End = "answered"
	Lost      End = "lost"       // without an answer that can be read
	NeverSent End = "never_sent" // nothing left this host
)

// Process carries out the order, or gives the answer of an earlier call that said
// the same. It is followed to its end though ctx is cancelled: a caller that hangs
// up does not undo what was sent. That takes Deadline at the most, or twice that with
// CancelUnknown; a call that meets the same order in flight waits for that one's end.
func (p *Processor) Process(ctx context.Context, order wechat.Request, creds Credentials) Answer {
	return p.process(ctx, order, creds, time.Time{})
}

// process is Process, which ends by the time given unless that is zero.
func (p *Processor) process(ctx context.Context, order wechat.Request, creds Credentials, by time.Time) Answer {
	end := by
	if end.IsZero() {
		end = time.Now().Add(p.Deadline)
	}
	if !order.Endpoint().API.Moves {
		answer, _ := p.pursue(ctx, order, creds, past{}, end)
		return answer
	}
	known, turn, before := p.Memory.begin(order)
	if turn == later {
		if !known.over(by) {
			return Interrupted(order, context.DeadlineExceeded)
		}
		if known, turn, before = p.Memory.begin(order); turn == later {
			turn = shared // it began after this call, for which its answer is as good
		}
	}
	switch turn {
	case conflict:
		return Own(BillNoConflict, Detail{
			Message: "bill_no: stands for an order with other parameters",
			BillNo:  order.BillNo(),
		})
	case again:
		answer := known.answer
		answer.Replayed = true
		return answer
	case shared:
		if !known.over(by) {
			return Interrupted(order, context.DeadlineExceeded)
		}
		return known.answer
	}
	var answer Answer
	defer func() {
		if answer.Outcome == "" {
			answer = Interrupted(order, nil) // what a panic leaves behind is honest, too
		}
		p.Memory.settle(known, answer, p.Replay)
	}()
	answer, known.past.doubt = p.pursue(ctx, order, creds, before, end)
	if p.CancelUnknown && order.Endpoint().API.Cancel != nil && answer.Outcome == Unknown && answer.Attempts > 0 && !before.known {
		p.Memory.takeBack(known)
		answer = p.takeBack(ctx, order, creds, answer)
	}
	return answer
}

// Interrupted is the answer to an order of which nobody knows how far it got, and why.
func Interrupted(order wechat.Request, cause error) Answer {
	return Own(OutcomeUnknown, Detail{Message: unknownOrder, BillNo: order.BillNo(), Cause: cause})
}

// pursue follows one order until the time given. It also tells whether there is an
// attempt, of this call or an earlier one, whose end nobody saw.
func (p *Processor) pursue(ctx context.Context, order wechat.Request, creds Credentials, before past, end time.Time) (answer Answer, doubt bool) {
	span := until(ctx, end)
	defer span.release()
	u := pursuit{processor: p, order: order, keyring: keyring{creds: creds, order: order}, undoes: undoingOf(order), before: before, doubt: before.doubt}
	u.follow(span)
	return u.answer(), u.doubt
}

// takeBack cancels a pay whose end is unknown, and tells what that proves. A cancel that
// is in flight may have been answered before the pay was sent, which would prove nothing,
// or say something else: this one comes after it.
func (p *Processor) takeBack(ctx context.Context, pay wechat.Request, creds Credentials, unknown Answer) Answer {
	by, cancel := time.Now().Add(p.Deadline), pay.Cancel()
	if other := p.Memory.inFlight(cancel); other != nil {
		other.over(by)
	}
	cancelled := p.process(ctx, cancel, creds, by)
	switch {
	case cancelled.Outcome == Applied, cancelled.Outcome == AlreadyApplied, cancelled.Outcome == Duplicate,
		p.Memory.returned(idOf(pay), pay.Amount()): // by the caller, at the same time
		return Own(TakenBack, Detail{
			Message:  "the end of the order was unknown and it has been taken back",
			BillNo:   pay.BillNo(),
			Attempts: unknown.Attempts,
			Cause:    unknown.Cause,
		})
	case cancelled.Outcome == Rejected && cancelled.Errcode == wechat.NoSuchOrder:
		// WeChat's own words: there is no such order.
		cancelled.Attempts, cancelled.Replayed = unknown.Attempts, false
		return cancelled
	default:
		return unknown
	}
}
