package simulator

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/wechat"
)

func TestAPlanStrikesAttemptByAttempt(t *testing.T) {
	s := newSite(t)
	require.NoError(t, s.sim.Plan(Plan{Rules: []Rule{
		{BillNo: "b1", Faults: []Fault{{Kind: "lost_after"}, {Kind: "busy_before"}, {Kind: "none"}, {Kind: "http_502_after"}}},
	}}))
	noAnswer(t, s.payOnce("b1"))
	require.True(t, s.paid("b1"))
	require.Equal(t, -1, s.payOnce("b1").answered(t).Errcode)
	require.Equal(t, 90012, s.payOnce("b1").answered(t).Errcode)
	html(502)(t, s.payOnce("b1"))
	require.Equal(t, 90012, s.payOnce("b1").answered(t).Errcode)
	require.Zero(t, s.payOnce("b2").answered(t).Errcode, "another order")
	require.Equal(t, int64(9990), s.purse().Balance)
	require.Equal(t, 5, s.sim.Attempts(wechat.Pay, official("b1")))
}

func TestTheFirstRuleThatFitsDecides(t *testing.T) {
	w := newWorld(t)
	fault := func(errcode string) []Fault { return []Fault{{Kind: errcode}} }
	require.NoError(t, w.sim.Plan(Plan{Rules: []Rule{
		{API: "pay", BillNo: "b1", Environment: wechat.Sandbox, Faults: fault("busy_before")},
		{API: "pay", BillNo: "b1", Faults: fault("key_90011")},
		{API: "cancelpay", Faults: fault("processing_before")},
		{Environment: wechat.Sandbox, Faults: fault("session_90009")},
		{API: "getbalance", Faults: fault("session_90010"), Rate: 1},
		{Faults: fault("none")},
		{Faults: fault("lost_after"), Rate: 1},
	}}))
	require.Equal(t, -1, w.signed(sandboxPayPath, map[string]any{"bill_no": "b1", "amt": int64(5)}).Errcode)
	require.Equal(t, 90009, w.signed(sandboxPayPath, map[string]any{"bill_no": "b2", "amt": int64(5)}).Errcode)
	require.Equal(t, 90011, w.pay("b1", 5).Errcode)
	require.Zero(t, w.pay("b1", 5).Errcode, "the rule that fits is used up, and no other is asked")
	require.Equal(t, 90016, w.cancel("b1").Errcode)
	require.Zero(t, w.cancel("b1").Errcode)
	for range 3 {
		require.Equal(t, 90010, w.signed(balancePath, nil).Errcode)
	}
	require.Zero(t, w.present("gift", 5).Errcode)
}

func TestAKindOfOneAPISparesTheOthers(t *testing.T) {
	w := newWorld(t)
	w.sim.Misbehave(always("processing_before"))
	require.Zero(t, w.pay("b1", 5).Errcode)
	require.Equal(t, 90016, w.cancel("b1").Errcode)
}

// struckBy lists which of the first three attempts of a thousand orders the rule
// strikes, and with what.
func struckBy(rule Rule) (struck []string) {
	plan := Plan{Rules: []Rule{rule}}
	for order := range 1000 {
		for attempt := range 3 {
			c := Call{wechat.At(wechat.Pay, wechat.Official), appID, openID, "", fmt.Sprint("b", order), attempt + 1}
			if fault := plan.decide(c); fault.Kind != "" {
				struck = append(struck, fmt.Sprint(c.BillNo, c.Attempt, fault.Kind))
			}
		}
	}
	return struck
}

func TestARateIsReproducible(t *testing.T) {
	rule := Rule{Rate: 0.2, Seed: 7, Faults: []Fault{{Kind: "lost_after"}, {Kind: "late"}, {Kind: "none"}}}
	struck := struckBy(rule)
	require.InDelta(t, 600, len(struck), 60)
	for _, fault := range rule.Faults {
		count := len(slices.DeleteFunc(slices.Clone(struck), func(s string) bool { return s[len(s)-4:] != fault.Kind[len(fault.Kind)-4:] }))
		require.InDelta(t, 200, count, 50, fault.Kind)
	}
	require.Equal(t, struck, struckBy(rule))

	rule.Seed = 8
	require.NotEqual(t, struck, struckBy(rule))
	rule.Rate = 1
	require.Len(t, struckBy(rule), 3000)
	rule.Rate = 0
	require.Len(t, struckBy(rule), 3000, "no chance: by attempt")
	require.Equal(t, []string{"b01lost_after", "b02late", "b03none"}, struckBy(rule)[:3])
}

func TestAPlanInGoIsRefusedAsOverHTTP(t *testing.T) {
	w := newWorld(t)
	lost := []Fault{{Kind: "lost_after"}}
	for problem, rule := range map[string]Rule{
		"rules/0/rate: must be from 0 to 1":                   {Faults: lost, Rate: math.NaN()},
		"rules/0/faults/0: must be one of the kinds that GET": {Faults: []Fault{{}}},
		"rules/0/faults/1/delay: must be from 0s to 1h0m0s":   {Faults: append(lost, Fault{Kind: "late", Delay: 2 * time.Hour})},
	} {
		require.ErrorContains(t, w.sim.Plan(Plan{Rules: []Rule{rule}}), problem)
	}
}

func TestFaultsOverHTTP(t *testing.T) {
	w := newWorld(t)
	const url = "/simulator/faults"
	const rules = `{"rules":[{"api":"pay","environment":"official","bill_no":"b1","faults":["busy_before",{"kind":"late","delay":"1.5s"}]},` +
		`{"faults":["none"],"rate":0.25,"seed":7}]}`
	set := w.do(http.MethodPost, url, "", rules)
	require.Equal(t, http.StatusOK, set.status, set.text)
	require.JSONEq(t, rules, set.text)
	require.Equal(t, -1, w.pay("b1", 5).Errcode)

	list := w.do(http.MethodGet, url, "", "")
	require.Contains(t, list.text, rules[:len(rules)-1])
	for _, kind := range Kinds() {
		require.Contains(t, list.text, fmt.Sprintf(`{"kind":%q,"applied":%q`, kind.Name, kind.Applied))
	}
	rest, loginKinds, _ := strings.Cut(list.text, `"login_kinds":`)
	for _, kind := range LoginKinds() {
		require.Contains(t, loginKinds, fmt.Sprintf(`{"kind":%q,"applied":%q`, kind.Name, kind.Applied))
	}
	_, tokenKinds, _ := strings.Cut(rest, `"token_kinds":`)
	for _, kind := range TokenKinds() {
		require.Contains(t, tokenKinds, fmt.Sprintf(`{"kind":%q,"applied":%q`, kind.Name, kind.Applied))
	}
	require.Contains(t, list.text, `{"kind":"processing_after","applied":"yes","api":"cancelpay","family":"v1","about":"errcode 90016`)

	require.JSONEq(t, `{"rules":[]}`, w.do(http.MethodDelete, url, "", "").text)
	require.Contains(t, w.do(http.MethodGet, url, "", "").text, `{"rules":[],`)
	require.Zero(t, w.pay("b1", 5).Errcode)
	require.Equal(t, http.StatusMethodNotAllowed, w.do(http.MethodPut, url, "", "").status)
}

func TestARuleMayBeForOneFamily(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.sim.Plan(Plan{Rules: []Rule{
		{Family: "v2", API: "pay", Faults: []Fault{{Kind: "session_90016"}, {Kind: "key_90011"}}},
		{Family: "v1", Environment: wechat.Official, Faults: []Fault{{Kind: "session_90009"}}},
		{API: "queryorderinfo", Faults: []Fault{{Kind: "session_90010"}}},
	}}))
	require.Equal(t, 90016, w.payV2("b1", 5).Errcode)
	require.Equal(t, 90009, w.pay("b1", 5).Errcode)
	refused := w.payV2("b1", 5)
	require.Equal(t, 90011, refused.Errcode)
	require.Contains(t, refused.Errmsg, "pay_sig error")
	require.Zero(t, w.pay("b1", 5).Errcode)
	require.Equal(t, 90010, w.signed(queryPathV2, map[string]any{"out_trade_no": "b1", "biz_id": int64(1)}).Errcode)
}

func TestAttemptsOfV2AreThePlayersInTheZone(t *testing.T) {
	w := newWorld(t)
	var calls []Call
	w.sim.Misbehave(func(c Call) Fault {
		calls = append(calls, c)
		return Fault{}
	})
	pay := func(own map[string]any) {
		own["bill_no"], own["amount"] = "b1", int64(5)
		w.signed(payPathV2, own)
	}
	pay(map[string]any{})
	pay(map[string]any{})
	pay(map[string]any{"zone_id": "2"})
	pay(map[string]any{"env": int64(1)})
	pay(map[string]any{"openid": "friend"})
	pay(map[string]any{"zone_id": "a/b"})
	pay(map[string]any{"offer_id": "9"})
	at, sandbox := wechat.At(wechat.PayV2, wechat.Official), wechat.At(wechat.PayV2, wechat.Sandbox)
	require.Equal(t, []Call{
		{at, appID, openID, "1", "b1", 1},
		{at, appID, openID, "1", "b1", 2},
		{at, appID, openID, "2", "b1", 1},
		{sandbox, appID, openID, "1", "b1", 1},
		{at, appID, "friend", "1", "b1", 1},
	}, calls)
	require.Equal(t, 2, w.sim.Attempts(wechat.PayV2, inZone("b1")))
}

// A seed strikes orders of v2 apart that differ in zone or environment alone.
func TestARateTellsV2OrdersApart(t *testing.T) {
	rule := Rule{Rate: 0.5, Seed: 7, Faults: []Fault{{Kind: "lost_after"}}}
	struck := make(map[string]int)
	for _, env := range []wechat.Environment{wechat.Official, wechat.Sandbox} {
		for zone := range 100 {
			fault := rule.decide(Call{wechat.At(wechat.PayV2, env), appID, openID, strconv.Itoa(zone), "b1", 1})
			struck[string(env)+fault.Kind]++
		}
	}
	require.Len(t, struck, 4, "some of each, and not all")
}

func TestRefusedFaultsOverHTTP(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.sim.Plan(Plan{Rules: []Rule{{BillNo: "kept", Faults: []Fault{{Kind: "none"}}}}}))
	for body, problem := range map[string]string{
		``:                                   "empty post data",
		`{"rules":[`:                         "the body stops being JSON at byte",
		`{"rules":[],"rules":[]}`:            "a field stands twice",
		`[]`:                                 "the body must be {",
		`{}`:                                 "rules: must hold at least one rule; DELETE clears them",
		`{"rules":[]}`:                       "rules: must hold at least one rule",
		`{"rule":[]}`:                        "rule: is not a field",
		`{"rules":{}}`:                       "rules: must be a list",
		`{"rules":[1]}`:                      "rules/0: must be an object",
		`{"rules":[{"apis":"pay"}]}`:         "rules/0/apis: is not a field",
		`{"rules":[{"api":7}]}`:              "rules/0/api: must be a text",
		`{"rules":[{"api":"paid"}]}`:         "rules/0/api: must be pay, cancelpay, getbalance, present or, in v2, queryorderinfo",
		`{"rules":[{"environment":"test"}]}`: "rules/0/environment: must be official or sandbox",
		`{"rules":[{"bill_no":"b|1"}]}`:      "rules/0/bill_no: must be 1 to 63 characters",
		`{"rules":[{"api":"getbalance","bill_no":"b1"}]}`:                 "rules/0/bill_no: getbalance has none",
		`{"rules":[{"api":"queryorderinfo","bill_no":"b1"}]}`:             "rules/0/bill_no: queryorderinfo has none",
		`{"rules":[{"family":"v3"}]}`:                                     "rules/0/family: must be v1 or v2",
		`{"rules":[{"family":"v1","api":"queryorderinfo"}]}`:              "rules/0/api: must be pay, cancelpay",
		`{"rules":[{"api":"jscode2session","family":"v2"}]}`:              "rules/0: jscode2session has no family",
		`{"rules":[{"api":"jscode2session","faults":["late"]}]}`:          "rules/0/faults/0: must be one of the login_kinds",
		`{"rules":[{"family":"v2","faults":["processing_before"]}]}`:      "rules/0/faults/0: processing_before strikes v1 only",
		`{"rules":[{"api":"queryorderinfo","faults":["session_90009"]}]}`: "rules/0/faults/0: session_90009 strikes v1 only",
		`{"rules":[{"family":"v1","faults":["session_90016"]}]}`:          "rules/0/faults/0: session_90016 strikes v2 only",
		`{"rules":[{"bill_no":"b1"}]}`:                                    "rules/0/faults: must name at least one fault",
		`{"rules":[{"faults":"lost_after"}]}`:                             "rules/0/faults: must be a list",
		`{"rules":[{"faults":[7]}]}`:                                      "rules/0/faults/0: must be an object",
		`{"rules":[{"faults":["none","lost"]}]}`:                          "rules/0/faults/1: must be one of the kinds that GET /simulator/faults lists",
		`{"rules":[{"faults":[{"kind":"late","wait":"1s"}]}]}`:            "rules/0/faults/0/wait: is not a field",
		`{"rules":[{"faults":[{"kind":"late","delay":1}]}]}`:              `rules/0/faults/0/delay: must be a duration such as "1.5s"`,
		`{"rules":[{"faults":[{"kind":"late","delay":"soon"}]}]}`:         "rules/0/faults/0/delay: must be a duration",
		`{"rules":[{"faults":[{"kind":"late","delay":"-1s"}]}]}`:          "rules/0/faults/0/delay: must be from 0s to 1h0m0s",
		`{"rules":[{"faults":[{"kind":"lost_after","delay":"1s"}]}]}`:     "rules/0/faults/0/delay: lost_after has none",
		`{"rules":[{"api":"stable_token","bill_no":"b1"}]}`:               "rules/0: stable_token has no family, no environment and no bill_no",
		`{"rules":[{"api":"stable_token","environment":"sandbox"}]}`:      "rules/0: stable_token has no family, no environment and no bill_no",
		`{"rules":[{"api":"stable_token","faults":["late"]}]}`:            "rules/0/faults/0: must be one of the token_kinds that GET /simulator/faults lists",
		`{"rules":[{"faults":["ip_40164"]}]}`:                             "rules/0/faults/0: must be one of the kinds that GET /simulator/faults lists",
		`{"rules":[{"api":"pay","faults":["processing_before"]}]}`:        "rules/0/faults/0: processing_before strikes cancelpay only",
		`{"rules":[{"faults":["none"],"rate":1.1}]}`:                      "rules/0/rate: must be from 0 to 1",
		`{"rules":[{"faults":["none"],"rate":"all"}]}`:                    "rules/0/rate: must be a number",
		`{"rules":[{"faults":["none"],"rate":1,"seed":-1}]}`:              "rules/0/seed: must be a whole number, and not negative",
		`{"rules":[{"faults":["none"],"seed":1}]}`:                        "rules/0/seed: is of use with a rate only",
		`{"rules":[{"faults":["none"]},{"faults":["none"],"rate":-1}]}`:   "rules/1/rate: must be from 0 to 1",
	} {
		answer := w.do(http.MethodPost, "/simulator/faults", "", body)
		require.Equal(t, http.StatusBadRequest, answer.status, body)
		require.Contains(t, answer.Error, problem, body)
	}
	require.Contains(t, w.do(http.MethodGet, "/simulator/faults", "", "").text, `"bill_no":"kept"`, "what is refused changes nothing")
}
