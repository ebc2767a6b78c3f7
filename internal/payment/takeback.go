package payment

import (
	"context"
	"time"

	"midas-sidecar/internal/ledger"
	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/wechat"
)

// takesBack reports whether an order is to be taken back: a pay that this call sent and
// the end of which is unknown. One that WeChat told an earlier call was carried out is left
// alone, for that caller may have been told that it is paid.
func (p *Processor) takesBack(order wechat.Request, entry *ledger.Entry, answer outcome.Answer) bool {
	return p.CancelUnknown && order.Endpoint().API.Cancel != nil &&
		answer.Outcome == outcome.Unknown && answer.Attempts > 0 && !p.Ledger.Facts(entry).ConfirmedApplied
}

// takeBack cancels a pay of unknown end within one more Deadline, and says what that
// proves about it.
func (p *Processor) takeBack(ctx context.Context, pay wechat.Request, entry *ledger.Entry, creds Credentials, unknown outcome.Answer) outcome.Answer {
	p.Ledger.TakeBack(entry)
	canceled := p.cancel(ctx, pay.Cancel(), creds)
	switch {
	case canceled.Outcome == outcome.Applied, canceled.Outcome == outcome.AlreadyApplied, canceled.Outcome == outcome.Duplicate,
		p.Ledger.Facts(entry).Returned: // by the caller, at the same time
		return outcome.NewErrorAnswer(outcome.TakenBack, outcome.ErrorDetail{
			Message:  "the end of the order was unknown and it has been taken back",
			BillNo:   pay.BillNo(),
			Attempts: unknown.Attempts,
			Cause:    unknown.Cause,
		})
	case canceled.Outcome == outcome.Rejected && canceled.Errcode == wechat.NoSuchOrder:
		// WeChat's own words: there is no such order.
		canceled.Attempts, canceled.Replayed = unknown.Attempts, false
		return canceled
	default:
		return unknown
	}
}

// cancel carries out a cancel of the sidecar's own. One that is pending already may have
// been answered before the pay was sent, which would prove nothing, or say something else:
// this one comes after it.
func (p *Processor) cancel(ctx context.Context, cancel wechat.Request, creds Credentials) (answer outcome.Answer) {
	deadline := time.Now().Add(p.Deadline)
	if other := p.Ledger.Pending(cancel); other != nil {
		other.Wait(deadline)
	}
	entry, answer := p.admit(cancel, deadline)
	if entry == nil {
		return answer
	}
	lost := false
	defer func() { p.end(cancel, entry, answer, lost) }()
	answer, lost = p.execute(ctx, cancel, entry, creds, deadline)
	return answer
}
