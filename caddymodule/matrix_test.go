package caddymodule_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/wechat"
)

// policy is what a site allows one of its callers.
type policy struct {
	environment string
	apis        []string
	signed      string
	maxAmount   int
}

func (p policy) lines() string {
	var text strings.Builder
	if p.environment != "" {
		fmt.Fprintf(&text, " environment %s\n", p.environment)
	}
	if p.apis != nil {
		fmt.Fprintf(&text, " apis %s\n", strings.Join(p.apis, " "))
	}
	if p.signed != "" {
		fmt.Fprintf(&text, " signed %s\n", p.signed)
	}
	if p.maxAmount > 0 {
		fmt.Fprintf(&text, " max_amount %d\n", p.maxAmount)
	}
	return text.String()
}

func everyPolicy() (all []policy) {
	for _, environment := range []string{"", "official", "sandbox"} {
		for _, apis := range [][]string{nil, {"pay"}, {"getbalance", "cancelpay"}, {"present", "queryorderinfo"}} {
			for _, signed := range []string{"", "reject", "resign", "pass"} {
				for _, maxAmount := range []int{0, 5} {
					all = append(all, policy{environment, apis, signed, maxAmount})
				}
			}
		}
	}
	return all
}

// way is how a call is made.
type way struct {
	method string
	amount int
	signed string // "", "body" or "query"
}

func everyWay() []way {
	ways := []way{{"POST", 1, ""}, {"POST", 5, ""}, {"POST", 6, ""}, {"POST", 1, "body"}, {"POST", 6, "body"}, {"POST", 1, "query"}}
	for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "PROPFIND", "post", "POSTS"} {
		ways = append(ways, way{method, 1, ""})
	}
	return ways
}

// route is a path of the contract's and, in v2, what the body says of the environment.
// Where a call goes is written in the same way: a path, and in v2 the number of env.
type route struct {
	api, coins      string // coins is the field that says how many move, "" for none
	goes, sandboxed string // where it goes by itself, and where environment sandbox sends it
}

func (r route) isV2() bool { return strings.HasPrefix(r.goes, "/wxa/game/") }

// The routes, as the contract lists them, and paths that are none.
var (
	routes   = everyRoute()
	noRoutes = []string{
		"/", "/cgi-bin/midas", "/cgi-bin/midas/", "/cgi-bin/midas/refund", "/cgi-bin/midas/pay/", "/cgi-bin/midas/Pay",
		"/cgi-bin/midas/official/pay", "/cgi-bin/midas/sandbox/", "/cgi-bin/stable_token", "/cgi-bin/token", "/wxa/midas/pay",
		"/cgi-bin/midas/queryorderinfo", "/wxa/game", "/wxa/game/", "/wxa/game/refund", "/wxa/game/pay/", "/wxa/game/Pay", "/wxa/game/sandbox/pay",
	}
)

// slips are those that nearly are one.
var slips = []string{"/cgi-bin/midas/pay/", "/cgi-bin/midas/Pay", "/wxa/game/pay/", "/wxa/game/Pay"}

func everyRoute() map[string]route {
	all := make(map[string]route)
	for api, coins := range map[string]string{"pay": "amt", "cancelpay": "", "getbalance": "", "present": "present_counts"} {
		official, sandboxed := "/cgi-bin/midas/"+api, "/cgi-bin/midas/sandbox/"+api
		all[official] = route{api, coins, official, sandboxed}
		all[sandboxed] = route{api, coins, sandboxed, sandboxed}
	}
	for api, coins := range map[string]string{"pay": "amount", "cancelpay": "amount", "getbalance": "", "present": "amount", "queryorderinfo": ""} {
		path := "/wxa/game/" + api
		all[path] = route{api, coins, path + " 0", path + " 1"}
		all[path+" 0"] = route{api, coins, path + " 0", path + " 1"}
		all[path+" 1"] = route{api, coins, path + " 1", path + " 1"}
	}
	return all
}

// rule is the contract in a few lines: where the call goes ("next" or one of WeChat's),
// or the status of its refusal.
func rule(p policy, path string, w way) (where string, status int) {
	route, known := routes[path]
	signed := w.signed != ""
	switch {
	case slices.Contains(slips, path):
		return "", 404
	case p.signed == "resign" && strings.HasSuffix(path, "token"): // which is worth nothing
		if w.method == "GET" || w.method == "POST" {
			return "", 200
		}
		return "", 405
	case !known:
		return "next", 0
	case w.method != "POST":
		return "", 405
	case signed && p.signed == "pass":
		return "next", 0
	case signed && p.signed != "resign":
		return "", 400
	case p.apis != nil && !slices.Contains(p.apis, route.api):
		return "", 403
	case route.coins != "" && p.maxAmount > 0 && w.amount > p.maxAmount:
		return "", 403
	case p.environment == "official" && route.goes == route.sandboxed:
		return "", 403
	case p.environment == "sandbox":
		return route.sandboxed, 0
	default:
		return route.goes, 0
	}
}

// body is a call's; each has a billNo of its own.
func (c way) body(path, billNo string) string {
	members := `"openid":"` + player + `"`
	add := func(format string, args ...any) { members += "," + fmt.Sprintf(format, args...) }
	route := routes[path]
	if route.coins != "" {
		add(`"%s":%d`, route.coins, c.amount)
	}
	if route.api == "queryorderinfo" {
		add(`"out_trade_no":%q,"biz_id":1`, billNo)
	} else if route.api != "getbalance" {
		add(`"bill_no":%q`, billNo)
	}
	if route.isV2() && route.api == "cancelpay" {
		add(`"pay_bill_no":"never"`)
	}
	if _, env, named := strings.Cut(path, " "); named {
		add(`"env":%s`, env)
	}
	if c.signed == "body" && route.isV2() {
		add(`"pay_sig":"x","signature":"x"`)
	} else if c.signed == "body" {
		add(`"sig":"x","mp_sig":"x"`)
	}
	return "{" + members + "}"
}

// Every route, and what is none, by every method, for every kind of caller: what is
// not allowed does not reach WeChat.
func TestWhatIsNotAllowedReachesNobody(t *testing.T) {
	require.Len(t, routes, 2*4+3*5)
	for _, api := range wechat.APIs {
		for _, env := range []wechat.Environment{wechat.Official, wechat.Sandbox} {
			require.Equal(t, api.Name, routes[wechat.At(api, env).Path].api, "the matrix must know every route")
		}
	}

	var site strings.Builder
	for i, p := range everyPolicy() {
		fmt.Fprintf(&site, "@caller%d header X-Caller %d\n midas @caller%d {\n%s }\n", i, i, i, p.lines())
	}
	w := newWorld(t, "", site.String()+"respond 404")
	paths := slices.Concat(slices.Sorted(maps.Keys(routes)), noRoutes)

	cells, reached, refused, next := 0, 0, 0, 0
	for i, p := range everyPolicy() {
		for _, path := range paths {
			for _, c := range everyWay() {
				cells++
				name := fmt.Sprintf("%+v %s %+v", p, path, c)
				before := w.hits.snapshot()
				target, _, _ := strings.Cut(path, " ")
				if c.signed == "query" {
					target += "?access_token=x"
				}
				body := c.body(path, fmt.Sprint("b", cells))
				a := w.do(c.method, target, body, "Content-Type", "application/json", "X-Caller", strconv.Itoa(i))

				switch where, status := rule(p, path, c); {
				case where == "next":
					next++
					require.Equal(t, http.StatusNotFound, a.status, name)
					require.Empty(t, a.header.Get("Midas-Outcome"), name)
				case where == "":
					refused++
					require.Equal(t, status, a.status, name)
					require.Equal(t, "not_sent", a.header.Get("Midas-Outcome"), name)
				default:
					reached++
					require.Contains(t, []string{"applied", "rejected"}, a.header.Get("Midas-Outcome"), name)
					sent, env, _ := strings.Cut(where, " ")
					before[sent]++
					require.Equal(t, env, w.hits.env(), name)
				}
				require.Equal(t, before, w.hits.snapshot(), name)
			}
		}
	}
	t.Logf("%d cells: %d reached WeChat, %d were refused, %d went to the next handler", cells, reached, refused, next)
	require.NotZero(t, reached)
}

// snapshot returns how often each path but the token's was called.
func (h *hits) snapshot() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	counts := maps.Clone(h.paths)
	delete(counts, wechat.StableTokenPath)
	return counts
}

// env returns the environment that the last call names in its body, "" for none.
func (h *hits) env() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var sent struct {
		Env json.Number `json:"env"`
	}
	_ = json.Unmarshal([]byte(h.body), &sent)
	return sent.Env.String()
}
