package simulator

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/wechat"
)

// paymentV2 is a good v2 pay, signed after bend.
func (w *world) paymentV2(bend func(*draft)) *draft {
	d := w.draft(payPathV2, map[string]any{"bill_no": "b1", "amount": int64(5)})
	if bend != nil {
		bend(d)
	}
	return d.sign()
}

// queried replaces a part of the query that the draft is sent with.
func queried(from, to string) func(*draft) {
	return func(d *draft) { d.query = strings.Replace(d.sentQuery(), from, to, 1) }
}

func TestRefusalsOfV2(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*State) // before the call
		bend   func(*draft) // before it is signed
		spoil  func(*draft) // after
		code   int
		errmsg string
		logged string
	}{
		"not POST":            {spoil: func(d *draft) { d.method = "GET" }, code: 43002},
		"no token":            {spoil: queried("access_token=ACCESSTOKEN&", ""), code: 41001},
		"an invented one":     {spoil: func(d *draft) { d.token = "garbage" }, code: 40014},
		"no signature":        {spoil: queried("&signature=", "&signatur="), code: 90018, errmsg: "query: must hold access_token, signature, sig_method, pay_sig, each once"},
		"no pay_sig":          {spoil: queried("&pay_sig=", "&sig="), code: 90018, errmsg: "query: must hold"},
		"no sig_method":       {spoil: queried("&sig_method=hmac_sha256", ""), code: 90018, errmsg: "query: must hold"},
		"another sig_method":  {spoil: queried("hmac_sha256", "md5"), code: 90018, errmsg: "sig_method: must be hmac_sha256"},
		"more in query":       {spoil: queried("access_token", "env=0&access_token"), code: 90018, errmsg: "query: must hold"},
		"a signature twice":   {spoil: queried("&signature", "&signature=0&signature"), code: 90018, errmsg: "query: must hold"},
		"a broken query":      {spoil: queried("access_token", "%zz&access_token"), code: 90018, errmsg: "query: must hold"},
		"a form post":         {spoil: func(d *draft) { d.contentType = "application/x-www-form-urlencoded" }, code: 90018, logged: "Content-Type must be application/json"},
		"token in body":       {bend: with("access_token", theToken), code: 90018, errmsg: "access_token: belongs in the query"},
		"pay_sig in body":     {bend: with("pay_sig", "0"), code: 90018, errmsg: "pay_sig: is not a field"},
		"sig in body":         {bend: with("sig", "0"), code: 90018, errmsg: "sig: is not a field"},
		"v1's appid":          {bend: with("appid", appID), code: 90018, errmsg: "appid: is not a field"},
		"v1's pf":             {bend: with("pf", "android"), code: 90018, errmsg: "pf: is not a field"},
		"v1's amt":            {bend: with("amt", int64(5)), code: 90018, errmsg: "amt: is not a field"},
		"another's field":     {bend: with("pay_bill_no", "b0"), code: 90018, errmsg: "pay_bill_no: is not a field"},
		"no openid":           {bend: without("openid"), code: 90018, errmsg: "openid: is missing"},
		"no offer_id":         {bend: without("offer_id"), code: 90018, errmsg: "offer_id: is missing"},
		"no ts":               {bend: without("ts"), code: 90018, errmsg: "ts: is missing"},
		"no zone_id":          {bend: without("zone_id"), code: 90018, errmsg: "zone_id: is missing"},
		"no env":              {bend: without("env"), code: 90018, errmsg: "env: is missing"},
		"no amount":           {bend: without("amount"), code: 90018, errmsg: "amount: is missing"},
		"no bill_no":          {bend: without("bill_no"), code: 90018, errmsg: "bill_no: is missing"},
		"env as text":         {bend: with("env", "1"), code: 90018, errmsg: "env: must be a number"},
		"env 2":               {bend: with("env", int64(2)), code: 90018, errmsg: "env: must be 0 or 1"},
		"amount as text":      {bend: with("amount", "5"), code: 90018, errmsg: "amount: must be a number"},
		"amount zero":         {bend: with("amount", int64(0)), code: 90018, errmsg: "amount: must be a plain positive integer"},
		"amount with a point": {bend: with("amount", json.Number("5.0")), code: 90018, errmsg: "amount: must be"},
		"nested":              {bend: with("payitem", []string{}), code: 90018, errmsg: "payitem: must be a string"},
		"empty optional":      {bend: with("remark", ""), code: 90018, errmsg: "remark: must not be empty"},
		"bill_no of WeChat's": {bend: with("bill_no", "_b1"), code: 90018, errmsg: "bill_no: must not begin with _"},
		"bill_no long":        {bend: with("bill_no", strings.Repeat("b", 64)), code: 90018, errmsg: "bill_no: must be 1 to 63"},
		"zone_id strange":     {bend: with("zone_id", "1/2"), code: 90018, errmsg: "zone_id: is invalid"},
		"openid strange":      {bend: with("openid", "a/b"), code: 90018, errmsg: "openid: is invalid"},
		"ts old":              {bend: func(d *draft) { d.fields["ts"] = d.fields["ts"].(int64) - 310 }, code: 90018, errmsg: "ts: is too old"},
		"ts milliseconds":     {bend: func(d *draft) { d.fields["ts"] = d.fields["ts"].(int64) * 1000 }, code: 90018, errmsg: "ts: must be UNIX seconds"},
		"unknown offer_id":    {bend: with("offer_id", "1"), code: 90017, logged: "no app with this offer_id"},
		"another's token":     {change: func(s *State) { s.Apps["wx2"] = otherApp() }, bend: with("offer_id", "2"), code: 90017, logged: "issued to another app than that of offer_id"},
		"unknown player":      {bend: with("openid", "nobody"), code: 90010, logged: "no player with this openid"},
		"an ended session":    {change: func(s *State) { s.Apps[appID].Players[openID].SessionKey = "" }, code: 90016, errmsg: "session_key expired", logged: "not logged in"},
		"a changed body":      {spoil: with("amount", int64(6)), code: 90010},
		"wrong signature":     {spoil: func(d *draft) { d.signature = "0" }, code: 90010, errmsg: "signature error hint: [sim1]"},
		"wrong pay_sig":       {spoil: func(d *draft) { d.paySig = "0" }, code: 90011, errmsg: "pay_sig error hint: [sim1]"},
		"both wrong":          {spoil: func(d *draft) { d.signature, d.paySig = "0", "0" }, code: 90010, logged: "besides, pay_sig is wrong"},
		"the other env's key": {bend: func(d *draft) { d.midasKey = demoKeys.MidasSandbox }, code: 90011},
		"no mp_sig, in v1":    {change: func(s *State) { s.Apps[appID].MPSigOptional = true }, spoil: func(d *draft) { d.signature = "" }, code: 90010},
		"short balance":       {bend: with("amount", int64(10001)), code: 90013, logged: "amount is 10001 and the balance 10000"},
		"short in the sandbox": {bend: func(d *draft) {
			d.fields["env"], d.fields["amount"] = int64(1), int64(10001)
			d.midasKey = demoKeys.MidasSandbox
		}, code: 90013},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if c.change != nil {
				w = newWorld(t, c.change)
			}
			d := w.paymentV2(c.bend)
			if c.spoil != nil {
				c.spoil(d)
			}
			before := w.sim.State()
			answer := w.send(d)
			require.Equal(t, c.code, answer.Errcode, answer.text)
			require.Equal(t, http.StatusOK, answer.status)
			require.Contains(t, answer.Errmsg, c.errmsg)
			w.requireLogged(c.logged)
			require.Equal(t, before, w.sim.State(), "a refusal moves nothing")
			require.NotContains(t, wechat.PayV2.Explain(answer.Errcode).Meaning, "not documented")
		})
	}
}

func TestFieldsOfTheOtherV2APIs(t *testing.T) {
	for _, c := range []struct {
		path   string
		own    map[string]any
		errmsg string
	}{
		{cancelPathV2, map[string]any{"bill_no": "r1", "amount": int64(1)}, "pay_bill_no: is missing"},
		{cancelPathV2, map[string]any{"bill_no": "_r", "amount": int64(1), "pay_bill_no": "b1"}, "bill_no: must not begin with _"},
		{cancelPathV2, map[string]any{"bill_no": "r1", "amount": int64(1), "pay_bill_no": "_b"}, "pay_bill_no: must not begin with _"},
		{cancelPathV2, map[string]any{"bill_no": "r1", "amount": int64(1), "pay_bill_no": "b|"}, "pay_bill_no: must be 1 to 63"},
		{presentPathV2, map[string]any{"bill_no": "p1", "present_counts": int64(1)}, "present_counts: is not a field"},
		{presentPathV2, map[string]any{"bill_no": "p1"}, "amount: is missing"},
		{balancePathV2, map[string]any{"coin_type": int64(2)}, "coin_type: must be 0 or 1"},
		{balancePathV2, map[string]any{"coin_type": int64(1), "zone_id": "2"}, "zone_id: must be 1"},
		{queryPathV2, map[string]any{"out_trade_no": "b1"}, "biz_id: is missing"},
		{queryPathV2, map[string]any{"out_trade_no": "b1", "biz_id": int64(3)}, "biz_id: must be 1 or 2"},
		{queryPathV2, map[string]any{"out_trade_no": "b 1", "biz_id": int64(1)}, "out_trade_no: must be 1 to 63"},
	} {
		answer := newWorld(t).signed(c.path, c.own)
		require.Equal(t, 90018, answer.Errcode, answer.text)
		require.Contains(t, answer.Errmsg, c.errmsg)
	}
}

// The body is signed as the bytes that it is: blanks, order and escapes are the
// caller's.
func TestAnyBytesMayBeSignedThatAreSent(t *testing.T) {
	w := newWorld(t)
	ts := string(mustJSON(w.options.Now().Unix()))
	for _, body := range []string{
		`{"openid": "` + openID + `", "offer_id": "12345678", "ts": ` + ts + `, "zone_id": "1", "env": 0}`,
		"\n{\"env\":0,\"zone_id\":\"\\u0031\",\"ts\":" + ts + ",\"offer_id\":\"12345678\",\"openid\":\"" + openID + "\"}\n\n",
	} {
		d := w.draft(balancePathV2, nil)
		d.raw = body
		require.Zero(t, w.send(d.sign()).Errcode, w.log)
		d.raw += " "
		require.Equal(t, 90010, w.send(d).Errcode)
	}
}

func TestEveryV2APIWorksInBothEnvironments(t *testing.T) {
	w := newWorld(t)
	for _, env := range []int64{1, 0} {
		for _, c := range []struct {
			path string
			own  map[string]any
		}{
			{payPathV2, map[string]any{"bill_no": "b1", "amount": int64(5)}},
			{cancelPathV2, map[string]any{"bill_no": "r1", "pay_bill_no": "b1", "amount": int64(5)}},
			{balancePathV2, map[string]any{"coin_type": int64(0), "user_ip": "203.0.113.7"}},
			{presentPathV2, map[string]any{"bill_no": "p1", "amount": int64(5)}},
			{queryPathV2, map[string]any{"out_trade_no": "b1", "biz_id": int64(1)}},
		} {
			own := maps.Clone(c.own)
			own["env"] = env
			answer := w.signed(c.path, own)
			require.Zero(t, answer.Errcode, answer.text)
			require.Equal(t, "ok", answer.Errmsg)
		}
	}
	for _, path := range []string{"/wxa/game/sandbox/pay", "/wxa/game/pay/", "/wxa/game/refund"} {
		require.Equal(t, http.StatusNotFound, w.do(http.MethodPost, path, "application/json", "{}").status, path)
	}
}

func TestALoginEndsTheOldSessionForV2(t *testing.T) {
	w := newWorld(t)
	code, err := w.sim.Login(appID, openID)
	require.NoError(t, err)
	require.Equal(t, 90010, w.payV2("b1", 1).Errcode)
	w.requireLogged("signature is wrong: it would be right with the player's earlier session_key")
	fresh := w.code2Session(code).SessionKey
	require.Zero(t, w.send(w.paymentV2(func(d *draft) { d.sessionKey = fresh })).Errcode)
}
