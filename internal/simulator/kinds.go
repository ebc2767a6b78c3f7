package simulator

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"midas-sidecar/internal/wechat"
)

// kinds is the table.
var kinds = slices.Concat(
	anywhere([]Kind{{
		Name: "none", Applied: AppliedAsIs,
		About: "nothing goes wrong",
	}, {
		Name: "reset_reading", Applied: NotApplied, strike: instead(reset), unverified: true,
		About: "TCP reset as soon as the request has been read, signed or not",
	}}),
	anywhere(either("reset", "TCP reset without a byte of an answer", reset)),
	anywhere(either("reset_headers", "TCP reset in the middle of the answer's headers", resetHeaders)),
	anywhere(either("reset_body", "TCP reset in the middle of the answer's body", resetBody)),
	anywhere(either("lost", "the connection is closed without an answer", lose)),
	anywhere(either("hang", "no answer until the client gives up", hang)),
	[]Kind{{
		Name: "late", Applied: AppliedLate, strike: late, delays: true,
		About: "no answer until the client gives up; then, or delay (0s) later, the order is applied all the same",
	}},

	anywhere(either("http_500", "HTTP 500 and a page of HTML", page(http.StatusInternalServerError))),
	anywhere(either("http_502", "HTTP 502 and a page of HTML", page(http.StatusBadGateway))),
	anywhere(either("http_503", "HTTP 503 and a page of HTML", page(http.StatusServiceUnavailable))),
	anywhere(either("html", "HTTP 200 and a page of HTML", page(http.StatusOK))),
	anywhere(either("empty", "HTTP 200 and no body", empty)),
	anywhere(either("truncated", "half the answer, with the Content-Length of that half", truncate)),
	anywhere(either("cut", "half the answer, with the Content-Length of the whole", cut)),
	either("codeless", "the answer without its errcode", rewrite(withoutErrcode)),
	anywhere(either("broken_gzip", "the answer in gzip, half of it, with the Content-Length of that half", brokenGzip)),
	anywhere(redirects(http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect)),
	anywhere([]Kind{{
		Name: "gzip_after", Applied: AppliedAsIs, strike: spoiling(gzipped),
		About: "the answer in gzip, asked for or not, as a compressing proxy sends it",
	}, {
		Name: "drip_after", Applied: AppliedAsIs, strike: spoiling(drip), delays: true, delay: 100 * time.Millisecond,
		About: "the answer byte by byte, delay (100ms) apart",
	}, {
		Name: "dead_connection_after", Applied: AppliedAsIs, strike: spoiling(deadConnection),
		About: "a good answer; the connection is closed when the next request arrives on it, of which nothing is read",
	}}),

	anywhere(either("busy", "errcode -1, system error", rewrite(busy))),
	only(wechat.CancelPay, either("processing", "errcode 90016, the order is being processed", rewrite(processing))),
	[]Kind{
		refusing("busy_balance", -1, "1034-131-0 balance not enough", "errcode -1, whose errmsg says that the balance is short"),
		refusing("busy_currency", -1, "1021-1021-0 currency code error", "errcode -1, whose errmsg says that the currency is wrong"),
		refusing("token_40001", 40001, "invalid credential, access_token is invalid or not latest",
			"errcode 40001, although the access_token is good and stays so"),
		refusing("token_42001", 42001, "access_token expired",
			"errcode 42001, although the access_token is good and stays so"),
		{
			Name: "token_40001_replaced", Applied: NotApplied, strike: replaceToken((*Token).revoke),
			About: "errcode 40001, for the access_token is ended and a new one issued, as by a force_refresh elsewhere",
		},
		{
			Name: "token_42001_replaced", Applied: NotApplied, strike: replaceToken((*Token).expire),
			About: "errcode 42001, for the access_token expires now and a new one is issued",
		},
		of(wechat.V1, refusing("session_90009", 90009, "mp_sig error", "errcode 90009, although mp_sig is right")),
		refusingEither("session_90010", 90010, "no session", "signature error",
			"errcode 90010, although the player is logged in, and v2's signature right"),
		of(wechat.V2, refusing("session_90016", 90016, "session_key expired", "errcode 90016, although the player is logged in")),
		refusingEither("key_90011", 90011, "sig error", "pay_sig error", "errcode 90011, although sig, or v2's pay_sig, is right"),
		{
			Name: "clock_behind", Applied: NotApplied, strike: clock(-10 * time.Minute),
			About: "errcode 90018, for WeChat's clock is ten minutes behind ts",
		},
		{
			Name: "clock_ahead", Applied: NotApplied, strike: clock(10 * time.Minute),
			About: "errcode 90018, for WeChat's clock is ten minutes ahead of ts",
		},
		{
			Name: "balance_first", Applied: AppliedAsIs, strike: balanceFirst,
			About: "the balance is looked at before the duplicates: the repeat of a pay that took the last coins is answered 90013",
		},
	},
)

// tokenKinds is the table for stable_token: what may befall any call, and its own
// refusals.
var tokenKinds = append(
	slices.DeleteFunc(slices.Clone(kinds), func(k Kind) bool { return !k.anywhere }),
	refusing("secret_40125", 40125, "invalid appsecret", "errcode 40125, although the secret is the app's"),
	refusing("ip_40164", 40164, "invalid ip, not in whitelist", "errcode 40164, the IP address is not on the app's list"),
	refusing("quota_45009", 45009, "reach max api daily quota limit", "errcode 45009, the day's calls are used up"),
)

// loginKinds is the table for jscode2session, in the same way.
var loginKinds = append(
	slices.DeleteFunc(slices.Clone(kinds), func(k Kind) bool { return !k.anywhere }),
	refusing("secret_40125", 40125, "invalid appsecret", "errcode 40125, although the secret is the app's"),
	refusing("code_40029", 40029, "invalid code", "errcode 40029, although the js_code is good and stays so"),
	refusing("code_40163", 40163, "code been used", "errcode 40163, although the js_code is not used and stays so"),
	refusing("player_40226", 40226, "code blocked", "errcode 40226, the player is a high risk and may not log in"),
	refusing("quota_45011", 45011, "api minute-quota reach limit", "errcode 45011, too many logins of the player in this minute"),
)

// anywhere marks kinds that may strike calls for the access_token or a session, too.
func anywhere(kinds []Kind) []Kind {
	for i := range kinds {
		kinds[i].anywhere = true
	}
	return kinds
}

// either makes the two kinds of a fault that may strike before and after.
func either(name, about string, spoil func(*victim, *reply)) []Kind {
	return []Kind{
		{Name: name + "_before", Applied: NotApplied, About: about, strike: instead(spoil)},
		{Name: name + "_after", Applied: AppliedAsIs, About: about, strike: spoiling(spoil)},
	}
}

func only(api *wechat.API, kinds []Kind) []Kind {
	for i := range kinds {
		kinds[i].API, kinds[i].Family = api.Name, api.Family.Name
	}
	return kinds
}

// refusing makes the kind that refuses a call which should not be.
func refusing(name string, errcode int, errmsg, about string) Kind {
	return Kind{Name: name, Applied: NotApplied, About: about, strike: func(*victim) *reply {
		return refuse(errcode, errmsg, "not carried out")
	}}
}

// refusingEither is refusing where the families have other words for the same code.
func refusingEither(name string, errcode int, v1, v2, about string) Kind {
	return Kind{Name: name, Applied: NotApplied, About: about, strike: func(v *victim) *reply {
		if v.call.isV2() {
			return refuse(errcode, v2, "not carried out")
		}
		return refuse(errcode, v1, "not carried out")
	}}
}

// of makes a kind one of a family.
func of(family *wechat.Family, kind Kind) Kind {
	kind.Family = family.Name
	return kind
}

func redirects(statuses ...int) []Kind {
	var kinds []Kind
	for _, status := range statuses {
		kinds = append(kinds, Kind{
			Name: fmt.Sprintf("redirect_%d", status), Applied: NotApplied, strike: instead(redirect(status)),
			About: fmt.Sprintf("HTTP %d to a path that does not exist", status),
		})
	}
	return kinds
}
