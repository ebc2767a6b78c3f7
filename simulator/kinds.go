package simulator

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"midas-sidecar/wechat"
)

// Applied tells what a fault lets happen to the order.
type Applied string

// What may happen to the order. "Carried out" is as far as it can be: a short
// balance is still refused, and a repeat still a repeat.
const (
	NotApplied  Applied = "no"   // it is not carried out
	AppliedAsIs Applied = "yes"  // it is carried out, before the answer or what stands for it
	AppliedLate Applied = "late" // it is carried out after the client has given up
)

// Kind is a kind of fault: a row of the table of Kinds.
//
// A name that ends in _before is a fault before the order is applied, and _after
// one after it. All but unverified kinds strike only calls that are signed well:
// others are refused as ever.
//
// In HTTP/2, where there is no connection of one's own to cut, a reset and a
// closed connection are a reset of the call's stream, reset_headers sends nothing,
// and dead_connection_after is a good answer and nothing more.
type Kind struct {
	Name    string  `json:"kind"`
	Applied Applied `json:"applied"`
	About   string  `json:"about"`

	strike     func(*victim) *reply
	delay      time.Duration // of a fault that names none
	delays     bool          // whether a fault may name one
	unverified bool          // strikes any call that can be read
	only       *wechat.API   // strikes no other; nil: strikes all
}

// none is the name of the fault that is none.
const none = "none"

// Kinds returns all there are.
func Kinds() []Kind { return slices.Clone(kinds) }

var kinds = slices.Concat(
	[]Kind{
		{Name: none, Applied: AppliedAsIs, About: "nothing goes wrong"},
		{Name: "reset_reading", Applied: NotApplied, About: "TCP reset as soon as the request has been read, signed or not", strike: instead(reset), unverified: true},
	},
	either("reset", "TCP reset, no byte of an answer", reset),
	either("reset_headers", "TCP reset in the middle of the answer's headers", resetHeaders),
	either("reset_body", "TCP reset in the middle of the answer's body", resetBody),
	either("lost", "the connection is closed without an answer", lose),
	either("hang", "no answer until the client gives up", hang),
	[]Kind{{Name: "late", Applied: AppliedLate, About: `no answer until the client gives up; "delay" (0s) after that the order is applied all the same`, strike: late, delays: true}},

	either("busy", "errcode -1, system busy", rewrite(busy)),
	[]Kind{
		{Name: "busy_balance", Applied: NotApplied, About: "errcode -1 that means a short balance: 1034-131-0", strike: refusing(-1, "1034-131-0 balance not enough")},
		{Name: "busy_currency", Applied: NotApplied, About: "errcode -1 that means a wrong currency: 1021-1021-0", strike: refusing(-1, "1021-1021-0 currency code error")},
	},
	only(wechat.CancelPay, either("processing", "errcode 90016, order processing; cancelpay only", rewrite(processing))),

	either("http_500", "HTTP 500 and a page of HTML", page(http.StatusInternalServerError)),
	either("http_502", "HTTP 502 and a page of HTML", page(http.StatusBadGateway)),
	either("http_503", "HTTP 503 and a page of HTML", page(http.StatusServiceUnavailable)),
	either("html", "HTTP 200 and a page of HTML", page(http.StatusOK)),
	either("empty", "HTTP 200 and no body", empty),
	either("truncated", "half the answer, with the Content-Length of that half", truncate),
	either("cut", "half the answer, with the Content-Length of the whole", cut),
	either("codeless", "the answer without its errcode", rewrite(withoutErrcode)),
	either("broken_gzip", "half the answer's gzip, with the Content-Length of that half", brokenGzip),
	[]Kind{
		{Name: "gzip_after", Applied: AppliedAsIs, About: "the answer in gzip, asked for or not, as a compressing proxy sends it", strike: spoiling(gzipped)},
		{Name: "drip_after", Applied: AppliedAsIs, About: `the answer byte by byte, "delay" (100ms) apart`, strike: spoiling(drip), delay: 100 * time.Millisecond, delays: true},
		{Name: "dead_connection_after", Applied: AppliedAsIs, About: "a good answer; the connection is closed when the next request arrives on it, of which nothing is read", strike: spoiling(deadConnection)},
	},
	redirects(301, 302, 307),

	[]Kind{
		{Name: "token_40001", Applied: NotApplied, About: "errcode 40001: the access_token is said to be invalid, and stays the same", strike: refusing(40001, "invalid credential, access_token is invalid or not latest")},
		{Name: "token_42001", Applied: NotApplied, About: "errcode 42001: the access_token is said to have expired, and stays the same", strike: refusing(42001, "access_token expired")},
		{Name: "token_40001_replaced", Applied: NotApplied, About: "errcode 40001: the access_token is ended and a new one issued, as by a force_refresh elsewhere", strike: replaceToken((*Token).revoke)},
		{Name: "token_42001_replaced", Applied: NotApplied, About: "errcode 42001: the access_token expires at once and a new one is issued", strike: replaceToken((*Token).expire)},
		{Name: "session_90009", Applied: NotApplied, About: "errcode 90009: mp_sig is said to be wrong", strike: refusing(90009, "mp_sig error")},
		{Name: "session_90010", Applied: NotApplied, About: "errcode 90010: the player is said not to be logged in", strike: refusing(90010, "no session")},
		{Name: "key_90011", Applied: NotApplied, About: "errcode 90011: sig is said to be wrong", strike: refusing(90011, "sig error")},
		{Name: "clock_behind", Applied: NotApplied, About: "WeChat's clock is ten minutes behind: ts is refused as in the future", strike: clock(-10 * time.Minute)},
		{Name: "clock_ahead", Applied: NotApplied, About: "WeChat's clock is ten minutes ahead: ts is refused as too old", strike: clock(10 * time.Minute)},
		{Name: "balance_first", Applied: AppliedAsIs, About: "the balance is looked at before the duplicates: a repeat of what took the last coins is answered 90013", strike: balanceFirst},
	},
)

// either makes the two kinds of a fault that may strike before and after.
func either(name, about string, spoil func(*victim, *reply)) []Kind {
	return []Kind{
		{Name: name + "_before", Applied: NotApplied, About: about, strike: instead(spoil)},
		{Name: name + "_after", Applied: AppliedAsIs, About: about, strike: spoiling(spoil)},
	}
}

func only(api *wechat.API, kinds []Kind) []Kind {
	for i := range kinds {
		kinds[i].only = api
	}
	return kinds
}

func redirects(statuses ...int) []Kind {
	var kinds []Kind
	for _, status := range statuses {
		kinds = append(kinds, Kind{
			Name:    fmt.Sprintf("redirect_%d", status),
			Applied: NotApplied,
			About:   fmt.Sprintf("HTTP %d to a path that does not exist", status),
			strike:  instead(redirect(status)),
		})
	}
	return kinds
}

func findKind(name string) (kind Kind, known bool) {
	i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Name == name })
	if i < 0 {
		return Kind{}, false
	}
	return kinds[i], true
}

// maxDelay is longer than any client's patience.
const maxDelay = time.Hour

// check refuses a fault that cannot be, or not in the calls to api; nil is any.
func (f Fault) check(at string, api *wechat.API) error {
	kind, known := findKind(f.Kind)
	switch {
	case !known:
		return fmt.Errorf("%s/kind: is not one of those that GET %s lists", at, faultsPath)
	case f.Delay != 0 && !kind.delays:
		return fmt.Errorf("%s/delay: %s has none", at, f.Kind)
	case f.Delay < 0 || f.Delay > maxDelay:
		return fmt.Errorf("%s/delay: must be from 0s to %s", at, maxDelay)
	case kind.only != nil && api != nil && kind.only != api:
		return fmt.Errorf("%s/kind: %s strikes %s only", at, f.Kind, kind.only)
	}
	return nil
}
