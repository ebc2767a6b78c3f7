package wechat

import (
	"regexp"
	"slices"
	"strings"
)

// Action is what an errcode means for the order that it answers.
type Action uint8

// The actions.
const (
	// Refused: the order was not carried out, and saying it again would not help.
	Refused Action = iota
	// Applied: the order was carried out.
	Applied
	// Done: an order with this number was carried out before.
	Done
	// Unsure: the order may or may not have been carried out, or will be yet.
	Unsure
	// TokenRefused: the access_token is no longer good. Midas was not reached.
	TokenRefused
	// SessionRefused: mp_sig or the player's session_key is not good.
	SessionRefused
	// KeyRefused: sig, and so the Midas key, environment or path is not good.
	KeyRefused
)

// The APIs of a family, for the rows of the table.
var (
	v1APIs = []*API{Pay, CancelPay, GetBalance, Present}
	v2APIs = []*API{PayV2, CancelPayV2, GetBalanceV2, PresentV2, QueryOrderInfo}
)

// The errcodes that others have to know by name.
const (
	Busy        = -1    // "system busy": it may or may not have been done
	NoSuchOrder = 90000 // of a cancelpay
	OtherApp    = 90007 // the access_token and the openid are of different apps
	TooOften    = 45011 // too many calls this minute
)

// Errcode is one row of the table of errcodes. What each column decides, and where:
//
//	Action           the outcome, and whether the order is sent or signed again: payment's decide
//	RulesOutApplied  whether a refusal also speaks for lost attempts: payment's decide
//	Meaning          what a person reads: the simulator's errmsg
//
// That a row is there gives its code a label of its own in metrics, and lets a refusal be
// believed whose errmsg is not JSON: see ReadAnswer.
type Errcode struct {
	Code    int
	APIs    []*API // nil: all
	Action  Action
	Meaning string
}

// RulesOutApplied reports whether a refusal proves that no earlier attempt of the same order
// was carried out either. Of a cancel, WeChat says 90000 and 90014 about an order
// that is not returned. Of a pay no refusal proves anything: the balance may be
// short (90013) because the lost attempt spent it, and whether WeChat looks at the
// balance, the session or the signature before it looks for a duplicate is not
// documented.
func (e Errcode) RulesOutApplied() bool {
	return slices.ContainsFunc(e.APIs, (*API).Cancels) && (e.Code == NoSuchOrder || e.Code == 90014)
}

// Errcodes is every errcode whose meaning is documented or has been reported. A
// code may have rows for different APIs. Sources: the pages of the APIs;
// https://developers.weixin.qq.com/doc/oplatform/Return_codes/Return_code_descriptions_new.html
// for the codes below 90000.
var Errcodes = []Errcode{
	{0, nil, Applied, "ok"},
	// A timeout inside WeChat: the coins may be deducted. Same bill_no again.
	{Busy, nil, Unsure, "system busy"},

	// The access_token is another app's than the openid. No page has it.
	{OtherApp, nil, Refused, "the openid is of another app than the access_token"},
	{NoSuchOrder, []*API{CancelPay, CancelPayV2}, Refused, "no such order"},
	{90009, v1APIs, SessionRefused, "mp_sig is wrong"},
	{90010, v1APIs, SessionRefused, "the player is not logged in or the login has expired"},
	{90010, v2APIs, SessionRefused, "signature is wrong"},
	{90011, v1APIs, KeyRefused, "sig is wrong"},
	{90011, v2APIs, KeyRefused, "pay_sig is wrong"},
	{90012, []*API{Pay, Present, PayV2, PresentV2}, Done, "the order exists"},
	{90012, []*API{CancelPayV2}, Done, "the refund exists"},
	{90013, []*API{Pay, PayV2}, Refused, "the balance is short"},
	{90014, []*API{CancelPay}, Refused, "the order is paid and confirmed"},
	// A cancel's Done: the coins are back.
	{90015, []*API{CancelPay}, Done, "the order is returned"},
	{90016, []*API{CancelPay}, Unsure, "the order is being processed"},
	{90016, v2APIs, SessionRefused, "the session_key has expired"},
	{90017, nil, Refused, "no permission for this API"},
	{90018, nil, Refused, "a parameter is wrong"},
	{90019, []*API{QueryOrderInfo}, Refused, "there is no such out_trade_no"},

	{40001, nil, TokenRefused, "the access_token is invalid or not the latest"},
	{40014, nil, TokenRefused, "the access_token is illegal"},
	{42001, nil, TokenRefused, "the access_token has expired"},
	{40013, nil, Refused, "the appid is wrong"},
	{40101, nil, Refused, "a parameter is missing"},
	{40164, nil, Refused, "this IP address is not on the app's list"},
	{41001, nil, Refused, "the access_token is missing"},
	{43002, nil, Refused, "must be POST"},
	{43003, nil, Refused, "must be https"},
	{44002, nil, Refused, "the body is empty"},
	{45009, nil, Refused, "the daily quota is used up"},
	{TooOften, nil, Refused, "too many calls this minute"},
	{47001, nil, Refused, "the body is not JSON"},
	{48001, nil, Refused, "the app may not use this API"},
	{48017, nil, Refused, "this access point is retired"},
}

// Explain returns the table's row for a code that answers api. A code that the table does
// not have is a definite refusal, as every code but those listed is.
func (a *API) Explain(code int) Errcode {
	if row, ok := a.row(code); ok {
		return row
	}
	return Errcode{Code: code, Action: Refused, Meaning: "not documented for " + a.Name}
}

func (a *API) row(code int) (Errcode, bool) {
	for _, row := range Errcodes {
		if row.Code == code && (row.APIs == nil || slices.Contains(row.APIs, a)) {
			return row, true
		}
	}
	return Errcode{}, false
}

// refuses reports whether the table has the code as a refusal of the api.
func (a *API) refuses(code int) bool {
	row, ok := a.row(code)
	return ok && row.Action != Applied && row.Action != Done && row.Action != Unsure
}

// refusedAsBusy are the business codes of definite refusals. WeChat has answered -1,
// "system busy", for plain business failures, with such a code at the beginning of errmsg;
// repeating such a call would never end.
var refusedAsBusy = []string{
	"1034-131-0",  // balance short: https://developers.weixin.qq.com/community/develop/doc/000aee3d6f0cd8344bb61d5955b400
	"1021-1021-0", // currency code wrong: https://developers.weixin.qq.com/community/minigame/doc/000c0c6e4704c0884ceeda0685bc00
	"1001-0-0",    // zone or pf is not published in the environment: the same forum
}

var businessCode = regexp.MustCompile(`^[0-9]{1,9}(?:-[0-9]{1,9}){2,3}(?:[^0-9-]|$)`)

// BusinessCode returns the business code with which the errmsg of a -1 begins, "" if there
// is none. One that Action does not know leaves the order's end unknown.
func (a Answer) BusinessCode() string {
	if a.Errcode != Busy {
		return ""
	}
	code := businessCode.FindString(a.Errmsg)
	return strings.TrimRightFunc(code, func(r rune) bool { return r < '0' || r > '9' })
}

// Action returns what the answer means for an order of api.
func (a Answer) Action(api *API) Action {
	if a.refusedAsBusy() {
		return Refused
	}
	return api.Explain(a.Errcode).Action
}

func (a Answer) refusedAsBusy() bool { return slices.Contains(refusedAsBusy, a.BusinessCode()) }

// UnknownBusinessCode returns the BusinessCode of an answer if it is none that is known.
func (a Answer) UnknownBusinessCode() string {
	if a.refusedAsBusy() {
		return ""
	}
	return a.BusinessCode()
}
