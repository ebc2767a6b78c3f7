package simulator

import (
	"context"
	"net/http"
	"time"
)

// What follows are the strikes of the kinds: what happens to a call that is
// signed well. Those of spoil.go happen to its answer.

// instead spoils the answer to a call that is not carried out. The answer that is
// spoilt is a good one, so that whoever can read half of it is led astray.
func instead(spoil func(*victim, *reply)) func(*victim) *reply {
	return func(v *victim) *reply {
		spoil(v, v.sham)
		return v.sham
	}
}

// spoiling carries the call out and spoils its answer.
func spoiling(spoil func(*victim, *reply)) func(*victim) *reply {
	return func(v *victim) *reply {
		out := v.apply()
		spoil(v, out)
		return out
	}
}

// late carries the call out when nobody waits for it any more.
func late(v *victim) *reply {
	out := ok(nil, "to be carried out when the client has gone")
	out.deliver = func(_ http.ResponseWriter, r *http.Request, _ []byte) {
		v.pause(r.Context(), forever)
		v.pause(context.WithoutCancel(r.Context()), v.delay)
		landed := v.apply()
		landed.about, landed.fault, landed.why = out.about, out.fault, "carried out late: "+landed.why
		v.log(r, landed, "")
		abort()
	}
	return out
}

// clock judges ts by a clock that is off from it, by more than tolerance.
func clock(off time.Duration) func(*victim) *reply {
	return func(v *victim) *reply {
		ts := v.call.integer("ts")
		return checkTime(ts, time.Unix(ts, 0).Add(off), tolerance)
	}
}

// balanceFirst is Options.BalanceFirst for one call.
func balanceFirst(v *victim) *reply {
	v.call.balanceFirst = true
	return v.apply()
}

// replaceToken ends the app's access_tokens and issues a new one, so that the one
// that the call carries is refused for what has become of it.
func replaceToken(end func(token *Token, now time.Time)) func(*victim) *reply {
	return func(v *victim) *reply {
		v.mu.Lock()
		defer v.mu.Unlock()
		now := v.options.Now().UTC()
		appid := v.call.appid
		tokens := v.state.tokens(appid)
		for _, token := range tokens.all() {
			end(token, now)
		}
		v.issueToken(appid, tokens, now)
		_ = v.save() // has said so in the log
		_, refusal := v.state.checkToken(v.call.AccessToken, now)
		return refusal
	}
}
