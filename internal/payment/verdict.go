package payment

import (
	"midas-sidecar/internal/ledger"
	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/wechat"
)

// evidence is what is known of an order when a reply is judged, besides that reply. Three
// facts say that the order may have been carried out already, by whom and how surely:
//
//	lost              an attempt of this call
//	MaybeApplied      an attempt of an earlier call, as far as is known
//	ConfirmedApplied  an order of this number, WeChat said to an earlier call
type evidence struct {
	ledger.Facts

	// movesCoins: the call is an order. One that only reads leaves nothing behind.
	movesCoins bool
	// lost: the end of an attempt of this call was not seen, or was no end.
	lost bool
}

// mayBeApplied reports whether the order may have been carried out by another attempt
// than the one that is judged, and not have been taken back since.
func (e evidence) mayBeApplied() bool {
	return e.movesCoins && (e.lost || e.MaybeApplied || e.ConfirmedApplied) && !e.Returned
}

// isOurs reports whether an order that WeChat knows by this number was carried out by a
// lost attempt of this very order, and not for any other reason.
func (e evidence) isOurs() bool {
	return (e.lost || e.MaybeApplied) && !e.ConfirmedApplied && !e.NumberReused
}

// reply is what came of the last attempt that may have left this host. The zero reply is
// that of an order none of whose attempts has.
type reply struct {
	sent     bool // an attempt may have left this host
	answered bool // and WeChat's answer can be read

	// action is what the answer's errcode means. The others are more of that.
	action          wechat.Action
	rulesOutApplied bool // it proves that no attempt of the order was carried out
	noSuchOrder     bool // a cancel found nothing to take back
	// early: when the attempt was sent, the pay that it takes back could land yet.
	early bool
}

// next is what may change an outcome yet.
type next uint8

const (
	finish    next = iota // nothing
	sendAgain             // another attempt, after a pause
	renew                 // another attempt at once, if what WeChat refused has been replaced
)

// decision is what a reply means.
type decision struct {
	// outcome is what the caller is told if nothing more can be done.
	outcome outcome.Outcome
	next    next
}

// decide says what the last reply means for the player's money, given what else is known.
// All rules about outcomes and about sending again are here. Which errcode has which action
// is in wechat.Errcodes, and how often something is renewed is in keyring.renew.
func decide(e evidence, r reply) decision {
	switch {
	case !r.sent && e.mayBeApplied():
		return decision{outcome.Unknown, sendAgain} // an earlier call may have done it
	case !r.sent:
		return decision{outcome.NotSent, sendAgain}
	case !r.answered:
		return decision{outcome.Unknown, sendAgain}
	}
	switch r.action {
	case wechat.Applied:
		return decision{outcome.Applied, finish}
	case wechat.Done:
		if e.isOurs() {
			return decision{outcome.AlreadyApplied, finish}
		}
		return decision{outcome.Duplicate, finish} // the caller knows whose it is
	case wechat.Unsure:
		return decision{outcome.Unknown, sendAgain}
	case wechat.TokenRefused, wechat.SessionRefused, wechat.KeyRefused:
		return decision{refused(e, r), renew}
	default:
		if r.noSuchOrder && r.early {
			return decision{outcome.Unknown, sendAgain} // there may be one in a moment
		}
		return decision{refused(e, r), finish}
	}
}

// refused is the outcome of a refusal. It is about its own attempt, and says nothing about
// another that may have been carried out, but for the few that prove that none was.
func refused(e evidence, r reply) outcome.Outcome {
	if e.mayBeApplied() && !r.rulesOutApplied {
		return outcome.Unknown
	}
	return outcome.Rejected
}
