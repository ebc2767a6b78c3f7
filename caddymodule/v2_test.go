package caddymodule_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/wechat"
)

// pay2 is a pay of v2, as a game server says it.
func pay2(billNo string, amount int, more ...string) string {
	fields := append([]string{fmt.Sprintf(`"openid":"%s","amount":%d,"bill_no":"%s"`, player, amount, billNo)}, more...)
	return "{" + strings.Join(fields, ",") + "}"
}

const refund2 = `{"openid":"` + player + `","amount":%d,"bill_no":%q,"pay_bill_no":%q}`

func TestAV2PaymentIsSignedSentAndAnswered(t *testing.T) {
	w := newWorld(t, "", "")
	a := w.post("/wxa/game/pay", pay2("b1", 123))
	require.Equal(t, http.StatusOK, a.status, a.body)
	require.JSONEq(t, `{"errcode":0,"errmsg":"ok","bill_no":"b1","balance":9877,"used_present_amount":0}`, a.body)
	require.Equal(t, "applied", a.header.Get("Midas-Outcome"))
	require.Equal(t, int64(9877), w.balance(wechat.Official))

	query, err := url.ParseQuery(w.hits.last.URL.RawQuery)
	require.NoError(t, err)
	require.Len(t, query, 4, "access_token, pay_sig, sig_method, signature")
	require.Equal(t, "hmac_sha256", query.Get("sig_method"))
	var sent map[string]any
	require.NoError(t, json.Unmarshal([]byte(w.hits.body), &sent))
	require.ElementsMatch(t, []string{"amount", "bill_no", "env", "offer_id", "openid", "ts", "zone_id"}, keysOf(sent))
}

func keysOf(m map[string]any) (names []string) {
	for name := range m {
		names = append(names, name)
	}
	return names
}

func TestEveryV2APIWorksInBothEnvironments(t *testing.T) {
	w := newWorld(t, "", "")
	for env, where := range map[int]wechat.Environment{0: wechat.Official, 1: wechat.Sandbox} {
		before := w.balance(where)
		for _, c := range []struct{ api, body string }{
			{"pay", pay2("b1", 10)},
			{"cancelpay", fmt.Sprintf(refund2, 4, "r1", "b1")},
			{"cancelpay", fmt.Sprintf(refund2, 6, "r2", "b1")},
			{"present", pay2("p1", 7)},
			{"getbalance", `{"openid":"` + player + `"}`},
			{"queryorderinfo", `{"openid":"` + player + `","out_trade_no":"b1","biz_id":1}`},
		} {
			a := w.post("/wxa/game/"+c.api, fmt.Sprintf(`%s,"env":%d}`, c.body[:len(c.body)-1], env))
			require.Equal(t, "applied", a.header.Get("Midas-Outcome"), "%s %s: %s", where, c.api, a.body)
		}
		require.Equal(t, before+7, w.balance(where))
	}
}

func TestARefundInPartIsRemembered(t *testing.T) {
	w := newWorld(t, "", "")
	w.post("/wxa/game/pay", pay2("b1", 10))
	refund := fmt.Sprintf(refund2, 4, "r1", "b1")
	first := w.post("/wxa/game/cancelpay", refund)
	again := w.post("/wxa/game/cancelpay", refund)
	require.Equal(t, first.body, again.body)
	require.Equal(t, "true", again.header.Get("Midas-Replayed"))
	require.Equal(t, int64(9994), w.balance(wechat.Official))
	require.Equal(t, "bill_no_conflict", w.post("/wxa/game/cancelpay", fmt.Sprintf(refund2, 5, "r1", "b1")).Error)
	require.Equal(t, "rejected", w.post("/wxa/game/cancelpay", fmt.Sprintf(refund2, 7, "r2", "b1")).header.Get("Midas-Outcome"), "more than was paid")
	require.Equal(t, "duplicate", w.post("/wxa/game/pay", pay2("b1", 10)).header.Get("Midas-Outcome"), "it is no longer what it was")
	require.Equal(t, int64(9994), w.balance(wechat.Official))
}

func TestTheEnvironmentOfASiteOverrulesOrRefusesEnv(t *testing.T) {
	for _, c := range []struct {
		site, env string
		want      string
		hit       wechat.Environment
	}{
		{"environment sandbox", `"env":0`, "applied", wechat.Sandbox},
		{"environment official", `"env":0`, "applied", wechat.Official},
		{"environment official", `"env":1`, "not_sent", ""},
	} {
		w := newWorld(t, "", "midas {\n "+c.site+"\n}")
		a := w.post("/wxa/game/pay", pay2("b1", 1, c.env))
		require.Equal(t, c.want, a.header.Get("Midas-Outcome"), a.body)
		for _, where := range []wechat.Environment{wechat.Official, wechat.Sandbox} {
			if where == c.hit {
				require.Equal(t, int64(9999), w.balance(where))
			}
		}
	}
}

func TestPoliciesHoldForV2(t *testing.T) {
	w := newWorld(t, "", "midas {\n apis pay\n max_amount 5\n}")
	require.Equal(t, "forbidden", w.post("/wxa/game/pay", pay2("b1", 6)).Error)
	require.Equal(t, "forbidden", w.post("/wxa/game/getbalance", `{"openid":"`+player+`"}`).Error)
	require.Equal(t, "applied", w.post("/wxa/game/pay", pay2("b1", 5)).header.Get("Midas-Outcome"))
	require.Equal(t, 1, w.hits.payments())
}

func TestAV2CallPicksItsAppByOfferIDOrAppid(t *testing.T) {
	w := newWorld(t, `app `+appID+` {
		offer_id 12345678
	}
	app wx2 {
		offer_id 2
	}
	app wx3 {
		offer_id 2
	}`, "")
	for more, want := range map[string]string{
		`"offer_id":"12345678"`: "",
		`"appid":"wx1234567"`:   "",
		`"zone_id":"1"`:         "appid: is missing: several apps are configured",
		`"offer_id":"2"`:        "appid: is missing: several apps have this offer_id",
		`"offer_id":"9"`:        "offer_id: is not configured",
		`"appid":"wx9"`:         "appid: is not configured",
	} {
		a := w.post("/wxa/game/getbalance", `{"openid":"`+player+`",`+more+`}`)
		if want == "" {
			require.Equal(t, "applied", a.header.Get("Midas-Outcome"), a.body)
			continue
		}
		require.Equal(t, want, a.Errmsg)
		require.Equal(t, "not_sent", a.header.Get("Midas-Outcome"))
	}
}

func TestV2MayHaveAnOfferIDOfItsOwn(t *testing.T) {
	w := newWorld(t, `app `+appID+` {
		offer_id 777
		offer_id_v2 12345678
	}
	app wx2 {
		offer_id 12345678
		offer_id_v2 777
	}`, "")
	for _, c := range []struct{ path, fields, sent, want string }{
		{"/wxa/game/pay", `"offer_id":"12345678"`, "12345678", ""}, // which picks the app
		{"/wxa/game/pay", `"appid":"wx1234567"`, "12345678", ""},
		{"/wxa/game/pay", `"appid":"wx1234567","offer_id":"777"`, "", "offer_id: must be the configured app's"},
		{"/cgi-bin/midas/pay", `"appid":"wx1234567"`, "777", ""},
		{"/cgi-bin/midas/pay", `"appid":"wx1234567","offer_id":"777"`, "777", ""},
		{"/cgi-bin/midas/pay", `"appid":"wx1234567","offer_id":"12345678"`, "", "offer_id: must be the configured app's"},
	} {
		amount := "amt"
		if strings.HasPrefix(c.path, "/wxa") {
			amount = "amount"
		}
		before := w.hits.payments()
		a := w.post(c.path, fmt.Sprintf(`{"openid":%q,%q:1,"bill_no":"b1",%s}`, player, amount, c.fields))
		if c.want != "" {
			require.Equal(t, c.want, a.Errmsg, c)
			require.Equal(t, before, w.hits.payments())
			continue
		}
		var sent map[string]any
		require.NoError(t, json.Unmarshal([]byte(w.hits.body), &sent))
		require.Equal(t, c.sent, sent["offer_id"], "%v: %s", c, a.body)
	}
}

func TestAV2CallIsSignedForThePlayerThoughMPSigIsOff(t *testing.T) {
	w := newWorld(t, "app "+appID+" {\n offer_id 12345678\n mp_sig off\n}", "")
	require.Equal(t, "applied", w.post("/wxa/game/pay", pay2("b1", 1)).header.Get("Midas-Outcome"))
}

func TestACallThatIsRefusedIsCountedWhereItWouldHaveGone(t *testing.T) {
	w, log := before(t, unreachable(t), "")
	w.reload(strings.Replace(w.config, "midas\n\t}", "midas {\n environment official\n }\n\t}", 1))
	require.Equal(t, "forbidden", w.post("/wxa/game/pay", pay2("b1", 1, `"env":1`)).Error)
	require.Contains(t, log(), `"environment":"sandbox","bill_no":"b1"`)
}
