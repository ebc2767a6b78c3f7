package simulator

import (
	"encoding/json"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/wechat"
)

// vector is a v1 row of the test vectors: WeChat's own and some that two
// independent programs computed.
type vector struct {
	Name, Path  string
	Params      map[string]json.RawMessage
	MidasKey    string `json:"midas_key"`
	SessionKey  string `json:"session_key"`
	AccessToken string `json:"access_token"`
	Sig         string
	MPSig       string `json:"mp_sig"`
}

func v1Vectors(t *testing.T) []vector {
	t.Helper()
	text, err := os.ReadFile("../../signer/testdata/vectors.json")
	require.NoError(t, err)
	var rows []vector
	require.NoError(t, json.Unmarshal(text, &rows))
	rows = slices.DeleteFunc(rows, func(v vector) bool { return v.MidasKey == "" })
	require.Len(t, rows, 37)
	return rows
}

// ts is when the vector was signed.
func (v vector) ts(t *testing.T) time.Time {
	t.Helper()
	var seconds int64
	require.NoError(t, json.Unmarshal(v.Params["ts"], &seconds))
	return time.Unix(seconds, 0)
}

// world returns one in which the vector is the right thing to send.
func (v vector) world(t *testing.T) *world {
	t.Helper()
	now := v.ts(t)
	return newWorldWith(t, Options{Now: func() time.Time { return now }}, func(s *State) {
		app := s.Apps[appID]
		app.MidasKey, app.MidasKeySandbox = v.MidasKey, v.MidasKey
		player := app.Players[openID]
		player.SessionKey = v.SessionKey
		player.Official.Balance, player.Sandbox.Balance = maxCoins, maxCoins
		s.Tokens[appID].Issued[0].AccessToken = v.AccessToken
		switch e, _ := wechat.EndpointOf(v.Path); e.API {
		case wechat.Present:
			player.Official.Balance, player.Sandbox.Balance = 0, 0
		case wechat.CancelPay:
			*player.purse(e.Environment) = Purse{CostSum: 5}
			s.Orders = map[OrderID]*Order{
				{AppID: appID, Environment: e.Environment, BillNo: "BillNo_123"}: {API: "pay", OpenID: openID, Amount: 5, Time: now, Applied: 1},
			}
		}
	})
}

func (v vector) draft() *draft {
	d := &draft{
		method: "POST", path: v.Path, token: v.AccessToken, contentType: "application/json",
		fields: map[string]any{"sig": v.Sig, "mp_sig": v.MPSig},
	}
	for name, raw := range v.Params {
		d.fields[name] = json.Number(raw)
		if strings.HasPrefix(string(raw), `"`) {
			var text string
			if err := json.Unmarshal(raw, &text); err != nil {
				panic(err)
			}
			d.fields[name] = text
		}
	}
	return d
}

func TestEveryVectorIsAccepted(t *testing.T) {
	for _, v := range v1Vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			w := v.world(t)
			answer := w.send(v.draft())
			require.Zero(t, answer.Errcode, "%s\n%s", answer.text, w.log)
		})
	}
}

// One digit, one letter more or another number in any one field, token or path
// breaks a signature.
func TestEveryVectorIsRefusedOnceAnythingInItIsChanged(t *testing.T) {
	for _, v := range v1Vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			w := v.world(t)
			w.sim.options.Log = slog.New(slog.DiscardHandler) // to say why is most of the work
			before := w.sim.State()
			for name, value := range v.draft().fields {
				changed := v.draft()
				switch value := value.(type) {
				case json.Number:
					changed.fields[name] = otherNumber(value)
				case string:
					changed.fields[name] = otherText(value)
				}
				requireRefused(t, w, changed, name)
			}
			withoutSig := v.draft()
			delete(withoutSig.fields, "sig")
			requireRefused(t, w, withoutSig, "no sig")

			otherToken := v.draft()
			otherToken.token = "another"
			requireRefused(t, w, otherToken, "token")

			otherPath := v.draft()
			if path, ok := strings.CutPrefix(v.Path, "/cgi-bin/midas/sandbox/"); ok {
				otherPath.path = "/cgi-bin/midas/" + path
			} else {
				otherPath.path = strings.Replace(v.Path, "midas/", "midas/sandbox/", 1)
			}
			requireRefused(t, w, otherPath, "path")
			require.Equal(t, before, w.sim.State())
		})
	}
}

// vectorV2 is a v2 row: the bytes of a body and both signatures.
type vectorV2 struct {
	Name, Path, Body string
	AppKey           string `json:"app_key"`
	SessionKey       string `json:"session_key"`
	PaySig           string `json:"pay_sig"`
	Signature        string
}

func v2Vectors(t *testing.T) []vectorV2 {
	t.Helper()
	text, err := os.ReadFile("../../signer/testdata/vectors.json")
	require.NoError(t, err)
	var rows []vectorV2
	require.NoError(t, json.Unmarshal(text, &rows))
	rows = slices.DeleteFunc(rows, func(v vectorV2) bool { return v.Signature == "" })
	require.Len(t, rows, 11)
	return rows
}

// Those of the table that are no call of ours, xpay's and the login's, are formulas all
// the same.
func TestTheFormulasOfV2GiveTheVectors(t *testing.T) {
	for _, v := range v2Vectors(t) {
		m := MessageV2{Path: v.Path, Body: []byte(v.Body)}
		require.Equal(t, v.Signature, signatureOf(m, v.SessionKey), v.Name)
		if v.PaySig != "" {
			require.Equal(t, v.PaySig, paySigOf(m, v.AppKey), v.Name)
		}
	}
}

// game returns a world in which the vector is the right thing to send.
func (v vectorV2) game(t *testing.T) *world {
	t.Helper()
	const player = "oUrsfxxxxxxxxxx"
	now := time.Unix(1668136271, 0)
	return newWorldWith(t, Options{Now: func() time.Time { return now }}, func(s *State) {
		app := s.Apps[appID]
		app.MidasKey, app.MidasKeySandbox = v.AppKey, v.AppKey
		coins := Purse{Balance: 1000, CostSum: 100}
		app.Players[player] = &Player{SessionKey: v.SessionKey, Official: coins, Sandbox: coins}
		if v.Path == cancelPathV2 {
			s.Orders = map[OrderID]*Order{{appID, wechat.Official, "BillNo_123", player, "1"}: {API: "pay", OpenID: player, Amount: 100, Time: now, Applied: 1}}
		}
	})
}

func (v vectorV2) draft() *draft {
	return &draft{method: "POST", path: v.Path, token: theToken, contentType: "application/json", raw: v.Body, signature: v.Signature, paySig: v.PaySig}
}

func TestEveryV2VectorIsAcceptedAndRefusedOnceAnythingInItIsChanged(t *testing.T) {
	calls := 0
	for _, v := range v2Vectors(t) {
		if !strings.HasPrefix(v.Path, "/wxa/game/") {
			continue
		}
		calls++
		t.Run(v.Name, func(t *testing.T) {
			w := v.game(t)
			w.sim.options.Log = slog.New(slog.DiscardHandler)
			before := w.sim.State()
			for at := range len(v.Body) { // any byte of a name, a value or between them
				bytes := []byte(v.Body)
				bytes[at] ^= 1
				changed := v.draft()
				changed.raw = string(bytes)
				requireRefused(t, w, changed, changed.raw)
			}
			for _, change := range []func(*draft){
				func(d *draft) { d.signature = otherText(d.signature) },
				func(d *draft) { d.paySig = otherText(d.paySig) },
				func(d *draft) { d.signature, d.paySig = d.paySig, d.signature },
				func(d *draft) { d.token = "another" },
				func(d *draft) { d.path = queryPathV2 },
			} {
				changed := v.draft()
				change(changed)
				requireRefused(t, w, changed, changed.sentQuery())
			}
			require.Equal(t, before, w.sim.State())
			answer := w.send(v.draft())
			require.Zero(t, answer.Errcode, answer.text)
		})
	}
	require.Equal(t, 7, calls)
}

func requireRefused(t *testing.T, w *world, d *draft, what string) {
	t.Helper()
	require.NotZero(t, w.send(d).Errcode, what)
}

// otherText changes the last byte, so that a hex digit stays one.
func otherText(text string) string {
	last := text[len(text)-1]
	if last == '1' {
		return text[:len(text)-1] + "2"
	}
	return text[:len(text)-1] + "1"
}

// otherNumber stays in the tolerance where it is a ts.
func otherNumber(n json.Number) json.Number {
	value, _ := n.Int64()
	return json.Number(json.RawMessage(mustJSON(value - 1)))
}

func mustJSON(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return text
}

// What the sidecar signs is accepted: the one place where its signer and the
// simulator meet.
func TestTheSidecarsOwnCallsAreAccepted(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		api  *wechat.API
		body string
	}{
		{wechat.GetBalance, `{"openid":"` + openID + `","user_ip":"203.0.113.7"}`},
		{wechat.Pay, `{"openid":"` + openID + `","amt":7,"bill_no":"b1","pay_item":"屠龙","app_remark":"a=1&b"}`},
		{wechat.CancelPay, `{"openid":"` + openID + `","bill_no":"b1","pay_item":""}`},
		{wechat.Present, `{"openid":"` + openID + `","bill_no":"b2","present_counts":3}`},

		{wechat.GetBalanceV2, `{"openid":"` + openID + `","user_ip":"203.0.113.7","coin_type":0}`},
		{wechat.PayV2, `{"openid":"` + openID + `","amount":7,"bill_no":"b1","payitem":"屠龙","remark":"a=1&b</>"}`},
		{wechat.CancelPayV2, `{"openid":"` + openID + `","amount":3,"bill_no":"r1","pay_bill_no":"b1"}`},
		{wechat.PresentV2, `{"openid":"` + openID + `","bill_no":"b2","amount":3}`},
		{wechat.QueryOrderInfo, `{"openid":"` + openID + `","out_trade_no":"b1","biz_id":1}`},
	} {
		for _, env := range []wechat.Environment{wechat.Official, wechat.Sandbox} {
			out := sidecarCall(t, wechat.At(c.api, env), c.body, w.options.Now())
			answer := w.do("POST", out.Path()+"?"+out.Query(), "application/json", string(out.Body()))
			require.Zero(t, answer.Errcode, "%s %s: %s\n%s", c.api, env, answer.text, w.log)
		}
	}
}
