package simulator

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/wechat"
)

// payment is a good pay, signed after bend and sent after break.
func (w *world) payment(bend func(*draft)) *draft {
	d := w.draft(payPath, map[string]any{"bill_no": "b1", "amt": int64(5)})
	if bend != nil {
		bend(d)
	}
	return d.sign()
}

func with(name string, value any) func(*draft) {
	return func(d *draft) { d.fields[name] = value }
}

func without(name string) func(*draft) {
	return func(d *draft) { delete(d.fields, name) }
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*State) // before the call
		bend   func(*draft) // before it is signed
		spoil  func(*draft) // after
		code   int
		errmsg string
		logged string
	}{
		"not POST":         {spoil: func(d *draft) { d.method = "GET" }, code: 43002, errmsg: "require POST"},
		"no token":         {spoil: func(d *draft) { d.token = "" }, code: 41001, logged: "in the query"},
		"an invented one":  {spoil: func(d *draft) { d.token = "garbage" }, code: 40014, logged: "never issued"},
		"more in query":    {spoil: func(d *draft) { d.query = "access_token=ACCESSTOKEN&env=1" }, code: 90018, errmsg: "query"},
		"two tokens":       {spoil: func(d *draft) { d.query = "access_token=ACCESSTOKEN&access_token=x" }, code: 90018, errmsg: "query"},
		"a broken query":   {spoil: func(d *draft) { d.query = "access_token=ACCESSTOKEN&%zz" }, code: 90018, errmsg: "query"},
		"a form post":      {spoil: func(d *draft) { d.contentType = "application/x-www-form-urlencoded" }, code: 40101, errmsg: "missing", logged: "Content-Type must be application/json"},
		"no content type":  {spoil: func(d *draft) { d.contentType = "" }, code: 40101, errmsg: "missing"},
		"token in body":    {bend: with("access_token", theToken), code: 90018, errmsg: "access_token: belongs in the query"},
		"unknown field":    {bend: with("env", int64(0)), code: 90018, errmsg: "env: is not a field"},
		"another's field":  {bend: with("present_counts", int64(1)), code: 90018, errmsg: "present_counts: is not a field"},
		"a strange field":  {bend: with("屠龙", "x"), code: 90018, errmsg: "a field: is not a field"},
		"no openid":        {bend: without("openid"), code: 40101, errmsg: "openid missing"},
		"no appid":         {bend: without("appid"), code: 90018, errmsg: "appid: is missing"},
		"no offer_id":      {bend: without("offer_id"), code: 90018, errmsg: "offer_id: is missing"},
		"no ts":            {bend: without("ts"), code: 90018, errmsg: "ts: is missing"},
		"no zone_id":       {bend: without("zone_id"), code: 90018, errmsg: "zone_id: is missing"},
		"no pf":            {bend: without("pf"), code: 90018, errmsg: "pf: is missing"},
		"no amt":           {bend: without("amt"), code: 90018, errmsg: "amt: is missing"},
		"no bill_no":       {bend: without("bill_no"), code: 90018, errmsg: "bill_no: is missing"},
		"no sig":           {spoil: without("sig"), code: 90018, errmsg: "sig: is missing"},
		"no mp_sig":        {spoil: without("mp_sig"), code: 40101, errmsg: "mp_sig missing"},
		"amt as text":      {bend: with("amt", "5"), code: 90018, errmsg: "amt: must be a number"},
		"ts as text":       {bend: with("ts", "1507530737"), code: 90018, errmsg: "ts: must be a number"},
		"zone_id a number": {bend: with("zone_id", int64(1)), code: 90018, errmsg: "zone_id: must be a string"},
		"openid null":      {bend: with("openid", nil), code: 90018, errmsg: "openid: must be a string"},
		"nested":           {bend: with("pay_item", map[string]any{}), code: 90018, errmsg: "pay_item: must be a string"},
		"amt zero":         {bend: with("amt", int64(0)), code: 90018, errmsg: "amt: must be a plain positive integer"},
		"amt negative":     {bend: with("amt", int64(-5)), code: 90018, errmsg: "amt: must be"},
		"amt with a point": {bend: with("amt", json.Number("5.0")), code: 90018, errmsg: "amt: must be"},
		"amt exponential":  {bend: with("amt", json.Number("1e3")), code: 90018, errmsg: "amt: must be"},
		"amt too large":    {bend: with("amt", int64(maxCoins+1)), code: 90018, errmsg: "amt: must be"},
		"amt beyond int64": {bend: with("amt", json.Number("9223372036854775808")), code: 90018, errmsg: "amt: must be"},
		"empty optional":   {bend: with("app_remark", ""), code: 90018, errmsg: "app_remark: must not be empty"},
		"bill_no long":     {bend: with("bill_no", strings.Repeat("b", 64)), code: 90018, errmsg: "bill_no: must be 1 to 63"},
		"bill_no strange":  {bend: with("bill_no", "b|1"), code: 90018, errmsg: "bill_no: must be 1 to 63"},
		"ts milliseconds":  {bend: func(d *draft) { d.fields["ts"] = d.fields["ts"].(int64) * 1000 }, code: 90018, errmsg: "ts: must be UNIX seconds", logged: "ts is in milliseconds"},
		"ts old":           {bend: func(d *draft) { d.fields["ts"] = d.fields["ts"].(int64) - 310 }, code: 90018, errmsg: "ts: is too old", logged: "behind the simulator's clock, which allows 5m0s"},
		"ts ahead":         {bend: func(d *draft) { d.fields["ts"] = d.fields["ts"].(int64) + 310 }, code: 90018, errmsg: "ts: is in the future", logged: "ahead of the simulator's clock, which allows 5m0s"},
		"unknown appid":    {bend: with("appid", "wx2"), code: 90017, logged: "no app with this appid"},
		"another offer_id": {bend: with("offer_id", "1"), code: 90017, logged: "offer_id is not the one of appid"},
		"another's token": {change: func(s *State) { s.Apps["wx2"] = otherApp() }, bend: func(d *draft) {
			d.fields["appid"], d.fields["offer_id"] = "wx2", "2"
		}, code: 90017, logged: "issued to another app"},
		"unknown player": {bend: with("openid", "nobody"), code: 90010, errmsg: "no session", logged: "no player with this openid"},
		"not logged in": {
			change: func(s *State) { s.Apps[appID].Players[openID].SessionKey = "" },
			code:   90010, errmsg: "no session", logged: "not logged in",
		},
		"wrong mp_sig":     {spoil: with("mp_sig", "0"), code: 90009, errmsg: "mp_sig error hint: [sim1]"},
		"wrong sig":        {spoil: func(d *draft) { d.midasKey = "x"; d.sign() }, code: 90011, errmsg: "sig error hint: [sim1]"},
		"short balance":    {bend: with("amt", int64(10001)), code: 90013, errmsg: "balance", logged: "amt is 10001 and the balance 10000"},
		"wrong when given": {change: func(s *State) { s.Apps[appID].MPSigOptional = true }, spoil: with("mp_sig", "0"), code: 90009},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if c.change != nil {
				w = newWorld(t, c.change)
			}
			d := w.payment(c.bend)
			if c.spoil != nil {
				delete(d.fields, "sig")
				delete(d.fields, "mp_sig")
				d.sign()
				c.spoil(d)
			}
			before := w.sim.State()
			answer := w.send(d)
			require.Equal(t, c.code, answer.Errcode, answer.text)
			require.Equal(t, http.StatusOK, answer.status)
			require.Contains(t, answer.Errmsg, c.errmsg)
			w.requireLogged(c.logged)
			require.Equal(t, before, w.sim.State(), "a refusal moves nothing")
			require.NotContains(t, wechat.Pay.Explain(answer.Errcode).Meaning, "not documented")
		})
	}
}

func otherApp() *App {
	app := *Demo().Apps[appID]
	app.OfferID = "2"
	return &app
}

func TestRefusedBodies(t *testing.T) {
	good := newWorld(t).payment(nil).body()
	for name, c := range map[string]struct {
		body   string
		code   int
		logged string
	}{
		"empty":         {"", 44002, "empty post data"},
		"not JSON":      {"{", 47001, "stops being JSON at byte"},
		"an array":      {"[]", 47001, "exactly one JSON object"},
		"trailing data": {good + "{}", 47001, "exactly one JSON object"},
		"a name twice":  {strings.Replace(good, "{", `{"amt":1,`, 1), 47001, "a field stands twice"},
		"bad UTF-8":     {"{\"openid\":\"\xff\"}", 47001, "stops being JSON"},
		"too large":     {`{"openid":"` + strings.Repeat("o", maxBody) + `"}`, 47001, "larger than 65536 bytes"},
		"no fields":     {"{}", 40101, "openid missing"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			answer := w.do(http.MethodPost, payPath+"?access_token="+theToken, "application/json", c.body)
			require.Equal(t, c.code, answer.Errcode, answer.text)
			w.requireLogged(c.logged)
		})
	}
}

func TestABodyThatEndsEarlyIsRefused(t *testing.T) {
	w := newWorld(t)
	r := httptest.NewRequest(http.MethodPost, payPath+"?access_token="+theToken, iotest.ErrReader(http.ErrBodyReadAfterClose))
	recorder := httptest.NewRecorder()
	w.sim.ServeHTTP(recorder, r)
	require.Contains(t, recorder.Body.String(), "47001")
}

func TestTheContentTypeMayNameACharset(t *testing.T) {
	w := newWorld(t)
	d := w.payment(nil)
	d.contentType = "application/json; charset=utf-8"
	require.Zero(t, w.send(d).Errcode)
}

func TestMPSigMayBeAbsentWhereTheAppSaysSo(t *testing.T) {
	w := newWorld(t, func(s *State) {
		s.Apps[appID].MPSigOptional = true
		s.Apps[appID].Players[openID].SessionKey = ""
	})
	d := w.payment(func(d *draft) { d.sessionKey = "" })
	require.Zero(t, w.send(d).Errcode)
	require.Equal(t, int64(9995), w.purse().Balance)
}

func TestTheToleranceIsAsTold(t *testing.T) {
	w := newWorldWith(t, Options{Tolerance: time.Hour})
	d := w.payment(func(d *draft) { d.fields["ts"] = d.fields["ts"].(int64) - 3500 })
	require.Zero(t, w.send(d).Errcode)
	d = w.payment(func(d *draft) { d.fields["ts"] = d.fields["ts"].(int64) - 3700 })
	require.Equal(t, 90018, w.send(d).Errcode)
}

func TestOtherPathsAreNotFound(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/", "/cgi-bin/tokens", "/cgi-bin/midas/pay/", "/cgi-bin/midas//pay", "/cgi-bin/midas/refund"} {
		require.Equal(t, http.StatusNotFound, w.do(http.MethodPost, path, "application/json", "{}").status, path)
	}
	w.requireLogged("path=/cgi-bin/tokens")
}

func TestEveryAPIWorksOnItsPath(t *testing.T) {
	w := newWorld(t)
	own := map[*wechat.API]map[string]any{
		wechat.Pay:        {"bill_no": "b1", "amt": int64(5)},
		wechat.CancelPay:  {"bill_no": "b1"},
		wechat.GetBalance: {},
		wechat.Present:    {"bill_no": "b2", "present_counts": int64(5)},
	}
	for _, env := range []wechat.Environment{wechat.Sandbox, wechat.Official} {
		for _, api := range []*wechat.API{wechat.Pay, wechat.CancelPay, wechat.GetBalance, wechat.Present} {
			answer := w.signed(wechat.At(api, env).Path, maps.Clone(own[api]))
			require.Zero(t, answer.Errcode, answer.text)
			require.Equal(t, "ok", answer.Errmsg)
		}
	}
}
