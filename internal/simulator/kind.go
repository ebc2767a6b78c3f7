package simulator

import (
	"fmt"
	"slices"
	"time"
)

// Applied tells what a fault lets happen to the order.
type Applied string

// What may happen to the order. "Carried out" is as far as it can be: a short
// balance is still refused, and a repeat still a repeat.
const (
	NotApplied  Applied = "no"   // it is not carried out
	AppliedAsIs Applied = "yes"  // it is carried out before the client hears anything
	AppliedLate Applied = "late" // it is carried out after the client has given up
)

// Kind is a kind of fault: a row of the table of Kinds.
//
// A fault whose name ends in _before strikes before the order is applied, and
// instead of that; one in _after strikes after. All but reset_reading strike only
// calls that would be admitted: what is signed wrong is refused as ever.
//
// HTTP/2 has no connection that is one call's own: there a reset or a closed
// connection is a reset of the call's stream, reset_headers sends nothing, and
// dead_connection_after is a good answer and no more.
type Kind struct {
	Name    string  `json:"kind"`
	Applied Applied `json:"applied"`
	// API is the name of the only one that is struck, Family that of the only family,
	// "" for all. Calls of others are served well.
	API    string `json:"api,omitempty"`
	Family string `json:"family,omitempty"`
	About  string `json:"about"`

	strike     func(*victim) *reply // nil: nothing goes wrong
	delays     bool                 // a fault may name a Delay
	delay      time.Duration        // of one that does not
	unverified bool                 // strikes any call that can be read
	anywhere   bool                 // is one of TokenKinds and LoginKinds, too
}

// Kinds returns all there are for the payment APIs.
func Kinds() []Kind { return slices.Clone(kinds) }

// TokenKinds returns all there are for stable_token and token. What is applied or not is the
// issue of a new token, where it is time for one.
func TokenKinds() []Kind { return slices.Clone(tokenKinds) }

// LoginKinds returns all there are for jscode2session. What is applied or not is that
// the js_code is used up and the session_key given out.
func LoginKinds() []Kind { return slices.Clone(loginKinds) }

func (k Kind) strikes(api string) bool { return k.API == "" || k.API == api }

func (k Kind) strikesFamily(family string) bool { return k.Family == "" || k.Family == family }

func findKind(among []Kind, name string) (kind Kind, known bool) {
	i := slices.IndexFunc(among, func(k Kind) bool { return k.Name == name })
	if i < 0 {
		return Kind{}, false
	}
	return among[i], true
}

// maxDelay is longer than any client's patience.
const maxDelay = time.Hour

// check refuses a fault that cannot be, or not in the calls that the rule is for.
func (f Fault) check(at string, r Rule) error {
	among, list := kinds, "kinds"
	switch r.API {
	case stableToken, plainToken:
		among, list = tokenKinds, "token_kinds"
	case code2Session:
		among, list = loginKinds, "login_kinds"
	}
	kind, known := findKind(among, f.Kind)
	switch {
	case !known:
		return fmt.Errorf("%s: must be one of the %s that GET %s lists", at, list, faultsPath)
	case f.Delay != 0 && !kind.delays:
		return fmt.Errorf("%s/delay: %s has none", at, f.Kind)
	case f.Delay < 0 || f.Delay > maxDelay:
		return fmt.Errorf("%s/delay: must be from 0s to %s", at, maxDelay)
	case r.API != "" && !kind.strikes(r.API):
		return fmt.Errorf("%s: %s strikes %s only", at, f.Kind, kind.API)
	case r.family() != "" && !kind.strikesFamily(r.family()):
		return fmt.Errorf("%s: %s strikes %s only", at, f.Kind, kind.Family)
	}
	return nil
}
