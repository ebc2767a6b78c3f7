package simulator

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What public code sends and WeChat is said to take: refused by default, by a message that
// names it, and taken with Lenient.
func TestLenientTakesWhatWeChatIsSaidToTake(t *testing.T) {
	replaced := func(old, by string) func(*draft) {
		return func(d *draft) { d.raw = strings.Replace(d.body(), old, by, 1) }
	}
	typed := func(contentType string) func(*draft) {
		return func(d *draft) { d.contentType = contentType }
	}
	unsigned := func(name string, value any) func(*draft) { // added after the signing
		return func(d *draft) { d.fields[name] = value }
	}
	for name, c := range map[string]struct {
		bend, spoil func(*draft) // before and after it is signed
		code        int
		errmsg      string
	}{
		"a form's type":         {spoil: typed("application/x-www-form-urlencoded"), code: 40101, errmsg: "openid missing: the Content-Type must be application/json, got application/x-www-form-urlencoded"},
		"text":                  {spoil: typed("text/plain"), code: 40101, errmsg: "must be application/json, got text/plain"},
		"no type":               {spoil: typed(""), code: 40101, errmsg: "must be application/json, got none"},
		"a strange type":        {spoil: typed("text/" + strings.Repeat("k", 32)), code: 40101, errmsg: "must be application/json, got another"},
		"a number as text":      {bend: with("amt", "5"), code: 90018, errmsg: "amt: must be a number"},
		"a text as number":      {bend: with("zone_id", int64(1)), code: 90018, errmsg: "zone_id: must be a string"},
		"the token in the body": {spoil: unsigned("access_token", theToken), code: 90018, errmsg: "access_token: belongs in the query"},
		"a foreign field":       {bend: with("session", "s"), code: 90018, errmsg: "session: is not a field"},
		"one that is unsigned":  {spoil: unsigned("session", "s"), code: 90018, errmsg: "session: is not a field"},
		"an empty optional":     {bend: with("app_remark", ""), code: 90018, errmsg: "app_remark: must not be empty"},
		"one that is not in it": {spoil: unsigned("app_remark", ""), code: 90018, errmsg: "app_remark: must not be empty"},
		"null":                  {bend: with("pay_item", nil), code: 90018, errmsg: "pay_item: must be a string"},
		"a fraction":            {bend: with("amt", json.Number("5.0")), code: 90018, errmsg: "amt: must be"},
		"a fraction as text":    {bend: with("amt", "5.0"), code: 90018, errmsg: "amt: must be a number"},
		"a changed amount":      {spoil: replaced(`"amt":5`, `"amt":4`), code: 90009},
		"another's signature":   {spoil: with("mp_sig", "0"), code: 90009},
	} {
		t.Run(name, func(t *testing.T) {
			call := func(w *world) answer {
				d := w.draft(payPath, map[string]any{"bill_no": "b1", "amt": int64(5)})
				if c.bend != nil {
					c.bend(d)
				}
				d.sign()
				if c.spoil != nil {
					c.spoil(d)
				}
				return w.send(d)
			}
			strict := call(newWorld(t))
			require.Equal(t, c.code, strict.Errcode, strict.text)
			require.Contains(t, strict.Errmsg, c.errmsg)

			w := newWorldWith(t, Options{Lenient: true})
			taken := call(w)
			switch name {
			case "null", "a fraction", "a fraction as text", "a changed amount", "another's signature":
				require.Equal(t, c.code, taken.Errcode, taken.text)
				require.Equal(t, int64(10000), w.purse().Balance)
			default:
				require.Zero(t, taken.Errcode, taken.text)
				require.Equal(t, int64(9995), w.purse().Balance)
			}
		})
	}
}

func TestLenientTakesV2Too(t *testing.T) {
	for name, bend := range map[string]func(*draft){
		"no type":               func(d *draft) { d.contentType = "" },
		"numbers as text":       func(d *draft) { d.fields["env"], d.fields["amount"] = "0", "5" },
		"the token in the body": with("access_token", theToken),
		"a foreign field":       with("appid", appID),
		"an empty optional":     with("remark", ""),
	} {
		t.Run(name, func(t *testing.T) {
			call := func(w *world) answer {
				d := w.draft(payPathV2, map[string]any{"bill_no": "b1", "amount": int64(5)})
				bend(d)
				return w.send(d.sign())
			}
			require.Equal(t, 90018, call(newWorld(t)).Errcode)
			taken := call(newWorldWith(t, Options{Lenient: true}))
			require.Zero(t, taken.Errcode, taken.text)
		})
	}
}

// WeChat's staff ask for the rid of a v1 call and the traceid of a v2 call.
func TestARefusalNamesItsCall(t *testing.T) {
	w := newWorld(t)
	v1 := w.send(w.payment(with("amt", int64(10001))))
	require.Regexp(t, `^balance not enough hint: \[sim1\] rid: [0-9a-f]{8}-sim1$`, v1.Errmsg)
	v2 := w.payV2("b1", 10001)
	require.Regexp(t, `"errmsg":"balance not enough hint: \[sim2\]","traceid":"[0-9a-f]{8}-sim2"}$`, v2.text)
}
