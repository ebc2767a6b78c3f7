package wechat

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"
)

// field is one row of WeChat's parameter tables.
type field struct {
	name string
	// number: the value stands in JSON as a number. It is kept as the text that
	// the caller wrote, never converted.
	number bool
	// optional fields are left out of body and signatures where they are empty.
	optional bool
	// incidental fields say nothing about which order it is.
	incidental bool
	// ours says something to the sidecar alone, and is neither signed nor sent.
	ours bool
	// filled by the sidecar where the caller leaves it out: a value, or (appid, env,
	// offer_id, ts) what Decode, Complete and Sign know.
	filled   bool
	fallback string
	// check returns the rule that a value breaks, or "".
	check func(value string) string
}

// The fields of v1. Who fills what: https://developers.weixin.qq.com/minigame/en/dev/api-backend/midas-payment/midas.pay.html
var (
	appid   = field{name: "appid", filled: true, check: checkID}
	offerID = field{name: "offer_id", filled: true, check: checkText}
	openid  = field{name: "openid", check: checkID}
	pf      = field{name: "pf", filled: true, fallback: "android", check: checkText}
	ts      = field{name: "ts", number: true, filled: true, check: checkTimestamp}
	userIP  = field{name: "user_ip", optional: true, incidental: true, check: checkIP}
	zoneID  = field{name: "zone_id", filled: true, fallback: "1", check: checkText}

	amt           = field{name: "amt", number: true, check: checkAmount}
	appRemark     = field{name: "app_remark", optional: true, check: checkText}
	billNo        = field{name: "bill_no", check: checkBillNo}
	payItem       = field{name: "pay_item", optional: true, check: checkText}
	cancelledItem = field{name: "pay_item", optional: true, incidental: true, check: checkText}
	presentCounts = field{name: "present_counts", number: true, check: checkAmount}
)

// The fields of v2, but for those that are the same in v1.
// https://developers.weixin.qq.com/minigame/introduction/commercialization/virtual-payment/coins.html
var (
	ourAppid = field{name: "appid", ours: true, filled: true, check: checkID}
	env      = field{name: "env", number: true, filled: true, check: checkOneOf("0", "1")}

	amount     = field{name: "amount", number: true, check: checkAmount}
	billNoV2   = field{name: "bill_no", check: checkBillNoV2}
	bizID      = field{name: "biz_id", number: true, check: checkOneOf("1", "2")}
	coinType   = field{name: "coin_type", number: true, optional: true, check: checkOneOf("0", "1")}
	outTradeNo = field{name: "out_trade_no", check: checkText} // given by the game's client, by other rules
	payBillNo  = field{name: "pay_bill_no", check: checkBillNoV2}
	payitem    = field{name: "payitem", optional: true, check: checkText}
	remark     = field{name: "remark", optional: true, check: checkText}
)

// maxFields is how many fields the APIs with the most of them have, pay.
const maxFields = 11

// v1Fields returns the fields that every v1 API has and its own, sorted as they
// are signed.
func v1Fields(own ...field) []field {
	return sorted(append(own, appid, offerID, openid, pf, ts, userIP, zoneID))
}

// v2Fields is v1Fields for v2, where what is signed need not be sorted.
func v2Fields(own ...field) []field {
	return sorted(append(own, env, offerID, openid, ourAppid, ts, userIP, zoneID))
}

func sorted(fields []field) []field {
	slices.SortFunc(fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	return fields
}

// index returns the place of the field called name, or -1.
func (a *API) index(name string) int {
	return slices.IndexFunc(a.fields, func(f field) bool { return f.name == name })
}

// names lists the API's fields, for messages.
func (a *API) names() string {
	var names []string
	for _, f := range a.fields {
		names = append(names, f.name)
	}
	return strings.Join(names, ", ")
}

// similar returns the index of the field that is called name but for its case and for _
// and -, and -1 if there is none.
func (a *API) similar(name string) int {
	plain := strings.NewReplacer("_", "", "-", "")
	return slices.IndexFunc(a.fields, func(f field) bool { return strings.EqualFold(plain.Replace(f.name), plain.Replace(name)) })
}

// A signature or token is the sidecar's to add. These are the names under which
// callers have been seen to send one, in v1 and v2.
var signatureFields = []string{"sig", "mp_sig", "pay_sig", "signature", "access_token"}

// IsSignature reports whether a field or query parameter called name is a signature or
// token, which only callers send that sign for themselves.
func IsSignature(name string) bool { return slices.Contains(signatureFields, name) }

// FirstSignature returns the first signature or token that has reports to be there, in an
// order that is always the same, or "".
func FirstSignature(has func(name string) bool) string {
	if at := slices.IndexFunc(signatureFields, has); at >= 0 {
		return signatureFields[at]
	}
	return ""
}

func checkText(value string) string {
	if strings.ContainsFunc(value, unicode.IsControl) {
		return "must not contain control characters"
	}
	return ""
}

// checkID accepts what WeChat gives out as openid and appid. Both become part of
// a path in the secret store, so nothing else may pass.
func checkID(value string) string {
	if len(value) > 128 || !isWord(value) {
		return "must be 1 to 128 characters of A-Z a-z 0-9 _ -"
	}
	return ""
}

func checkBillNo(value string) string {
	if len(value) > 63 || !isWord(value) {
		return "must be 1 to 63 characters of A-Z a-z 0-9 _ -"
	}
	return ""
}

// ours is how the numbers of our own refunds begin: that one of them is in use proves
// that an order was given back.
const ours = "midas-sidecar-"

// checkBillNoV2 knows that WeChat keeps numbers that begin with _ for itself.
func checkBillNoV2(value string) string {
	if value[0] == '_' {
		return "must not begin with _"
	}
	if strings.HasPrefix(value, ours) {
		return "must not begin with " + ours
	}
	return checkBillNo(value)
}

// checkOneOf accepts a few numbers, each spelled in one way.
func checkOneOf(allowed ...string) func(string) string {
	return func(literal string) string {
		if !slices.Contains(allowed, literal) {
			return fmt.Sprintf("must be %s, got %.32s", strings.Join(allowed, " or "), literal)
		}
		return ""
	}
}

func isWord(value string) bool {
	for i := range len(value) {
		switch c := value[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-':
		default:
			return false
		}
	}
	return value != ""
}

// The largest integer that every reader of JSON keeps exact, 2^53-1. WeChat
// documents no maximum; a number that the other side may round must not be
// signed.
const maxAmount = "9007199254740991"

func checkAmount(literal string) string {
	if !isDigits(literal) || literal[0] == '0' {
		return fmt.Sprintf("must be a positive integer, got %.32s", literal)
	}
	if len(literal) > len(maxAmount) || len(literal) == len(maxAmount) && literal > maxAmount {
		return "must be at most " + maxAmount
	}
	return ""
}

// A caller's ts is replaced, but one that is no time at all shows a mistake.
func checkTimestamp(literal string) string {
	if !isDigits(literal) {
		return fmt.Sprintf("must be UNIX seconds, got %.32s", literal)
	}
	return ""
}

func isDigits(literal string) bool {
	return literal != "" && strings.Trim(literal, "0123456789") == ""
}

func checkIP(value string) string {
	if addr, err := netip.ParseAddr(value); err != nil || addr.Zone() != "" {
		return "must be an IP address"
	}
	return ""
}
