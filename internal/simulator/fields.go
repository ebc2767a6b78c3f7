package simulator

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"midas-sidecar/internal/wechat"
)

// table is a page's table of body fields. It is not taken from wechat: what we send
// is checked against a second reading of the pages.
type table struct{ required, optional, signatures []string }

// v1Table: https://developers.weixin.qq.com/minigame/en/dev/api-backend/midas-payment/midas.pay.html
// and its siblings midas.cancelPay, midas.getBalance and midas.present.
func v1Table(required, optional string) table {
	return table{
		required:   strings.Fields("openid appid offer_id ts zone_id pf " + required),
		optional:   strings.Fields("user_ip " + optional),
		signatures: strings.Fields("sig mp_sig"),
	}
}

// v2Table: https://developers.weixin.qq.com/minigame/introduction/commercialization/virtual-payment/coins.html
// and https://developers.weixin.qq.com/minigame/dev/api-backend/midas-payment/order/api_pay_v2.queryorder.html.
// The tables require user_ip, the examples beside them have none.
func v2Table(required, optional string) table {
	return table{
		required: strings.Fields("openid offer_id ts zone_id env " + required),
		optional: strings.Fields("user_ip " + optional),
	}
}

var tables = map[*wechat.API]table{
	wechat.Pay:        v1Table("amt bill_no", "pay_item app_remark"),
	wechat.CancelPay:  v1Table("bill_no", "pay_item"),
	wechat.GetBalance: v1Table("", ""),
	wechat.Present:    v1Table("bill_no present_counts", ""),

	wechat.PayV2:          v2Table("amount bill_no", "payitem remark"),
	wechat.CancelPayV2:    v2Table("amount bill_no pay_bill_no", ""),
	wechat.GetBalanceV2:   v2Table("", "coin_type"),
	wechat.PresentV2:      v2Table("amount bill_no", ""),
	wechat.QueryOrderInfo: v2Table("out_trade_no biz_id", ""),
}

var (
	counts = []string{"ts", "amt", "present_counts", "amount"}
	// choices are the numbers of which there are few.
	choices = map[string][]string{"env": {"0", "1"}, "coin_type": {"0", "1"}, "biz_id": {"1", "2"}}
)

// check refuses a body that has not exactly the fields of the table. Whether
// mp_sig may be absent is the app's to say.
func (t table) check(m Message) *reply {
	for _, f := range m.Fields {
		if refusal := t.checkField(f); refusal != nil {
			return refusal
		}
	}
	for _, name := range t.required {
		if !m.has(name) {
			return t.missing(name)
		}
	}
	if !t.isV2() && !m.has("sig") {
		return t.missing("sig")
	}
	return nil
}

// isV2: the signatures of v2 are in the query.
func (t table) isV2() bool { return t.signatures == nil }

// missing answers as has been seen in the field: 40101 for v1's openid and mp_sig.
// https://developers.weixin.qq.com/community/develop/doc/000a00883cc4a04aa8a9d3b8951000
func (t table) missing(name string) *reply {
	if !t.isV2() && (name == "openid" || name == "mp_sig") {
		return refuse(40101, name+" missing", "")
	}
	return badParameter(name, "is missing")
}

func (t table) checkField(f Field) *reply {
	count, choice := slices.Contains(counts, f.Name), choices[f.Name]
	switch {
	case f.Name == "access_token":
		return badParameter(f.Name, "belongs in the query, not in the body")
	case !t.knows(f.Name):
		return badParameter(printable(f.Name), "is not a field of this API")
	case (count || choice != nil) && f.kind != '0':
		return badParameter(f.Name, "must be a number")
	case count && !isCount(f.Value):
		return badParameter(f.Name, "must be a plain positive integer of at most "+strconv.Itoa(maxCoins))
	case choice != nil && !slices.Contains(choice, f.Value):
		return badParameter(f.Name, "must be "+strings.Join(choice, " or "))
	case count || choice != nil:
		return nil
	case f.kind != '"':
		return badParameter(f.Name, "must be a string")
	case f.Value == "":
		return badParameter(f.Name, "must not be empty: leave an optional field out")
	case strings.HasSuffix(f.Name, "bill_no") && t.isV2() && f.Value[0] == '_':
		return badParameter(f.Name, "must not begin with _")
	case (strings.HasSuffix(f.Name, "bill_no") || f.Name == "out_trade_no") && !isName(f.Value):
		return badParameter(f.Name, "must be 1 to 63 characters of A-Z a-z 0-9 _ -")
	case (f.Name == "openid" || f.Name == "zone_id") && t.isV2() && !isName(f.Value): // both name a v2 order
		return badParameter(f.Name, "is invalid")
	}
	return nil
}

func badParameter(name, rule string) *reply {
	return refuse(90018, "parameter error: "+name+": "+rule, "")
}

// isCount reports whether a number is written as digits alone. JSON has seen to it
// that there is no leading zero.
func isCount(literal string) bool {
	n, err := strconv.ParseInt(literal, 10, 64)
	return err == nil && n >= 1 && n <= maxCoins
}

// integer returns a number field's value, which check has seen.
func (m Message) integer(name string) int64 {
	n, _ := strconv.ParseInt(m.get(name), 10, 64)
	return n
}

// isName reports whether a text can be a bill_no. An openid is one, too.
func isName(text string) bool { return len(text) <= 63 && isWord(text) }

func isWord(text string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
	return text != "" && strings.Trim(text, letters) == ""
}

// printable returns a name that the caller made up, if it can be shown: plain,
// and shorter than any key.
func printable(name string) string {
	if len(name) <= 20 && isWord(name) {
		return name
	}
	return "a field"
}

// parseObject returns the fields of the one JSON object in body. Names that stand
// twice and bad UTF-8 are errors.
func parseObject(body []byte) ([]Field, error) {
	d := jsontext.NewDecoder(bytes.NewReader(body))
	if d.PeekKind() != '{' {
		return nil, errNoObject
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	var fields []Field
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		f := Field{Name: name.String()}
		raw, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		f.kind, f.Value = byte(raw.Kind()), string(raw)
		if f.kind == '"' {
			text, err := jsontext.AppendUnquote(nil, raw)
			if err != nil {
				return nil, err
			}
			f.Value = string(text)
		}
		fields = append(fields, f)
	}
	if _, err := d.ReadToken(); err != nil { // the object's end
		return nil, err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errNoObject
	}
	return fields, nil
}
