package payment

import (
	"context"
	"time"

	"midas-sidecar/internal/ledger"
	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/upstream"
	"midas-sidecar/internal/wechat"
	"midas-sidecar/signer"
)

// Credentials are what an app signs with. A method's error means that the thing cannot be
// had now.
type Credentials interface {
	MidasKey(context.Context, wechat.Endpoint) (*signer.Key, error)
	// SessionKey returns nil where the app signs no calls of the family for the
	// player, and an error that is secrets.ErrNotFound where the player has none.
	SessionKey(ctx context.Context, family *wechat.Family, openid string) (*signer.Key, error)
	AccessToken(context.Context) (secrets.Value, error)

	// FallbackMidasKey returns a Midas key that WeChat has not refused, past what is
	// kept at hand, and nil where there is none or enough were tried.
	FallbackMidasKey(ctx context.Context, e wechat.Endpoint, refused []*signer.Key) (*signer.Key, error)
	// ConfirmMidasKey notes that WeChat takes a key, of MidasKey or FallbackMidasKey.
	ConfirmMidasKey(ctx context.Context, e wechat.Endpoint, key *signer.Key)

	// The Renew methods do what their namesakes do, past what is kept at hand,
	// unless that is no longer what failed.
	RenewSessionKey(ctx context.Context, openid string, failed *signer.Key) (*signer.Key, error)
	// SessionStoredAgain reports whether a login brought key after WeChat had refused the
	// very same one.
	SessionStoredAgain(openid string, key *signer.Key) bool
	RenewAccessToken(ctx context.Context, failed secrets.Value) (secrets.Value, error)
}

// Sender sends one message to WeChat and reports how that ended.
type Sender interface {
	// Send sends to the host whose number is given, round the list of hosts.
	Send(ctx context.Context, host int, message wechat.Outbound) upstream.Exchange
}

// Processor carries out orders. Its fields are set before it is used.
type Processor struct {
	// Sender sends to WeChat.
	Sender Sender
	// Ledger knows the orders that are pending and those completed a while ago.
	Ledger *ledger.Ledger
	// Deadline is how long one order may take, in all.
	Deadline time.Duration
	// AttemptTimeout is how long WeChat may take to answer one attempt.
	AttemptTimeout time.Duration
	// Replay is how long a completed order is remembered, 0 for not at all.
	Replay time.Duration
	// CancelUnknown takes back a pay whose end stays unknown, within one more
	// Deadline.
	CancelUnknown bool
	// Observe is called with every attempt, and must not keep the order waiting. May be
	// nil.
	Observe func(Attempt)
	// Jitter is that of backoff.Pause between attempts.
	Jitter func(d time.Duration) time.Duration
}

// Attempt is one sending of an order, as Processor.Observe sees it.
type Attempt struct {
	AppID    string
	Endpoint wechat.Endpoint
	ZoneID   string
	End      End
	// Answer is WeChat's, and Action what that means: zero and Refused where there is none
	// that can be read. Its Errmsg may echo what was sent.
	Answer wechat.Answer
	Action wechat.Action
	// Date is the HTTP header of that name, "" where there is none.
	Date string
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

// Process carries out the order, or gives the answer of an earlier call that said the same.
// The order is followed to its end though ctx is canceled: a caller that hangs up does not
// undo what was sent. That takes Deadline at the most, or twice that with CancelUnknown; a
// call that meets the same order pending waits for that one's end.
func (p *Processor) Process(ctx context.Context, order wechat.Request, creds Credentials) (answer outcome.Answer) {
	deadline := time.Now().Add(p.Deadline)
	if !order.Endpoint().API.MovesCoins {
		answer, _ = p.execute(ctx, order, nil, creds, deadline)
		return answer
	}
	entry, answer := p.admit(order, time.Time{})
	if entry == nil {
		return answer
	}
	lost := false
	defer func() { p.end(order, entry, answer, lost) }()
	answer, lost = p.execute(ctx, order, entry, creds, deadline)
	if p.takesBack(order, entry, answer) {
		answer = p.takeBack(ctx, order, entry, creds, answer)
	}
	return answer
}

// Interrupted is the answer to an order of which it is not known how far it got, and why.
func Interrupted(order wechat.Request, cause error) outcome.Answer {
	return outcome.NewErrorAnswer(outcome.OutcomeUnknown, outcome.ErrorDetail{Message: unknownOrder, BillNo: order.BillNo(), Cause: cause})
}

// admit asks the ledger what to do with a call. It returns an entry where the order is to
// be sent, and else the answer, which may be that of another call. It waits for that until
// the time given, the zero time for however long it takes.
func (p *Processor) admit(order wechat.Request, by time.Time) (*ledger.Entry, outcome.Answer) {
	entry, admission := p.Ledger.Begin(order)
	if admission == ledger.Wait {
		if !entry.Wait(by) {
			return nil, Interrupted(order, context.DeadlineExceeded)
		}
		if entry, admission = p.Ledger.Begin(order); admission == ledger.Wait {
			admission = ledger.Join // the other began after this call, for which its answer is as good
		}
	}
	switch admission {
	case ledger.Conflict:
		return nil, outcome.NewErrorAnswer(outcome.BillNoConflict, outcome.ErrorDetail{
			Message: "bill_no: stands for an order with other parameters",
			BillNo:  order.BillNo(),
		})
	case ledger.Replay:
		answer := entry.Answer()
		answer.Replayed = true
		return nil, answer
	case ledger.Join:
		if !entry.Wait(by) {
			return nil, Interrupted(order, context.DeadlineExceeded)
		}
		return nil, entry.Answer()
	default:
		return entry, outcome.Answer{}
	}
}

// end reports a call's answer to the ledger. A call that a panic interrupts has none, and
// what it leaves behind is honest, too.
func (p *Processor) end(order wechat.Request, entry *ledger.Entry, answer outcome.Answer, lost bool) {
	if answer.Outcome == "" {
		answer = Interrupted(order, nil)
	}
	p.Ledger.End(entry, answer, lost, p.Replay)
}

// execute makes attempts until the deadline. It also reports whether one of them was lost.
func (p *Processor) execute(ctx context.Context, order wechat.Request, entry *ledger.Entry, creds Credentials, deadline time.Time) (answer outcome.Answer, lost bool) {
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	x := execution{processor: p, order: order, entry: entry, keyring: keyring{creds: creds, order: order}}
	x.run(ctx)
	return x.answer(), x.lost
}
