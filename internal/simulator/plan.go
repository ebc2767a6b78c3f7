package simulator

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"midas-sidecar/internal/wechat"
)

// Plan says which fault strikes which call.
type Plan struct {
	// Rules: the first that fits a call decides, even if it decides for no fault.
	Rules []Rule `json:"rules"`
}

// Rule is for the calls that API, Family, Environment and BillNo name; what is empty
// fits any. Calls for the access_token and the login are no payments: a rule strikes
// them only if its API is "stable_token", "token" or "jscode2session", and then with
// TokenKinds or LoginKinds.
type Rule struct {
	API         string             `json:"api,omitempty"`
	Family      string             `json:"family,omitempty"` // "v1" or "v2"
	Environment wechat.Environment `json:"environment,omitempty"`
	BillNo      string             `json:"bill_no,omitempty"`
	// Faults strike the first attempt of each such call, the second, and so on;
	// further attempts are served well.
	Faults []Fault `json:"faults"`
	// Rate, from 0 to 1, makes it a matter of chance instead: that share of all
	// attempts is struck by one of Faults, each as likely as the others. With 1
	// and one fault, all are struck by that.
	Rate float64 `json:"rate,omitzero"`
	// Seed chooses which attempts a Rate strikes. The same seed strikes the same
	// attempts of the same orders, in whatever order they come.
	Seed uint64 `json:"seed,omitzero"`
}

// decide returns the fault for a call.
func (p Plan) decide(c Call) Fault {
	for _, rule := range p.Rules {
		if rule.fits(c) {
			return rule.decide(c)
		}
	}
	return Fault{}
}

// noPayments are the paths of the other calls that faults may strike, and what a rule
// calls them.
var noPayments = map[string]string{stableTokenPath: stableToken, plainTokenPath: plainToken, code2SessionPath: code2Session}

func (r Rule) fits(c Call) bool {
	if c.API == nil {
		return r.API == noPayments[c.Path]
	}
	return (r.API == "" || r.API == c.API.Name) &&
		(r.Family == "" || r.Family == c.API.Family.Name) &&
		(r.Environment == "" || r.Environment == c.Environment) &&
		(r.BillNo == "" || r.BillNo == c.BillNo)
}

func (r Rule) decide(c Call) Fault {
	switch {
	case r.Rate > 0:
		chance, choice := r.draw(c)
		if chance < r.Rate {
			return r.Faults[choice%uint64(len(r.Faults))]
		}
	case c.Attempt <= len(r.Faults):
		return r.Faults[c.Attempt-1]
	}
	return Fault{}
}

// draw returns a number from 0 up to 1 and a number to choose by, both random and
// both always the same for the same attempt of the same order.
func (r Rule) draw(c Call) (chance float64, choice uint64) {
	order := c.BillNo
	if c.ZoneID != "" { // v2, where the path does not tell
		order = fmt.Sprint(c.Environment, " ", c.ZoneID, " ", c.BillNo)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s %s %s %s %d", r.Seed, c.Path, c.AppID, c.OpenID, order, c.Attempt))
	return float64(binary.BigEndian.Uint64(sum[:8])>>11) / (1 << 53), binary.BigEndian.Uint64(sum[8:16])
}

func (p Plan) check() error {
	for i, rule := range p.Rules {
		if err := rule.check(fmt.Sprintf("rules/%d", i)); err != nil {
			return err
		}
	}
	return nil
}

func (r Rule) check(at string) error {
	payment := r.API != stableToken && r.API != plainToken && r.API != code2Session
	switch {
	case !payment && (r.Family != "" || r.Environment != "" || r.BillNo != ""):
		return fmt.Errorf("%s: %s has no family, no environment and no bill_no", at, r.API)
	case r.Family != "" && r.Family != wechat.V1.Name && r.Family != wechat.V2.Name:
		return fmt.Errorf("%s/family: must be v1 or v2, or be left out for both", at)
	case payment && r.API != "" && len(r.apis()) == 0:
		return fmt.Errorf("%s/api: must be pay, cancelpay, getbalance, present or, in v2, queryorderinfo, or stable_token, token or jscode2session, or be left out for all payments", at)
	case r.Environment != "" && r.Environment != wechat.Official && r.Environment != wechat.Sandbox:
		return fmt.Errorf("%s/environment: must be official or sandbox, or be left out for both", at)
	case r.BillNo != "" && !isName(r.BillNo):
		return fmt.Errorf("%s/bill_no: must be 1 to 63 characters of A-Z a-z 0-9 _ -, or be left out for all", at)
	case r.BillNo != "" && r.API != "" && !r.apis()[0].MovesCoins:
		return fmt.Errorf("%s/bill_no: %s has none", at, r.API)
	case len(r.Faults) == 0:
		return fmt.Errorf("%s/faults: must name at least one fault", at)
	case r.Rate < 0 || r.Rate > 1 || math.IsNaN(r.Rate):
		return fmt.Errorf("%s/rate: must be from 0 to 1", at)
	case r.Seed != 0 && r.Rate == 0:
		return fmt.Errorf("%s/seed: is of use with a rate only", at)
	}
	for i, fault := range r.Faults {
		if err := fault.check(fmt.Sprintf("%s/faults/%d", at, i), r); err != nil {
			return err
		}
	}
	return nil
}

// apis are the payments that the rule is for.
func (r Rule) apis() []*wechat.API {
	return slices.DeleteFunc(slices.Clone(wechat.APIs), func(a *wechat.API) bool {
		return r.API != "" && r.API != a.Name || r.Family != "" && r.Family != a.Family.Name
	})
}

// family names the only one that the rule is for, "" where there are two or it is for
// no payments.
func (r Rule) family() string {
	apis := r.apis()
	if len(apis) == 0 || slices.ContainsFunc(apis, func(a *wechat.API) bool { return a.Family != apis[0].Family }) {
		return ""
	}
	return apis[0].Family.Name
}
