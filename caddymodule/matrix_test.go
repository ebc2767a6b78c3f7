package caddymodule_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/wechat"
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
		for _, apis := range [][]string{nil, {"pay"}, {"getbalance", "cancelpay"}, {"present"}} {
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

// The routes, as the contract lists them, and paths that are none.
var (
	routes = map[string]struct{ api, sandboxed string }{
		"/cgi-bin/midas/pay":                {"pay", "/cgi-bin/midas/sandbox/pay"},
		"/cgi-bin/midas/cancelpay":          {"cancelpay", "/cgi-bin/midas/sandbox/cancelpay"},
		"/cgi-bin/midas/getbalance":         {"getbalance", "/cgi-bin/midas/sandbox/getbalance"},
		"/cgi-bin/midas/present":            {"present", "/cgi-bin/midas/sandbox/present"},
		"/cgi-bin/midas/sandbox/pay":        {"pay", "/cgi-bin/midas/sandbox/pay"},
		"/cgi-bin/midas/sandbox/cancelpay":  {"cancelpay", "/cgi-bin/midas/sandbox/cancelpay"},
		"/cgi-bin/midas/sandbox/getbalance": {"getbalance", "/cgi-bin/midas/sandbox/getbalance"},
		"/cgi-bin/midas/sandbox/present":    {"present", "/cgi-bin/midas/sandbox/present"},
	}
	noRoutes = []string{
		"/", "/cgi-bin/midas", "/cgi-bin/midas/", "/cgi-bin/midas/refund", "/cgi-bin/midas/pay/", "/cgi-bin/midas/Pay",
		"/cgi-bin/midas/official/pay", "/cgi-bin/midas/sandbox/", "/cgi-bin/stable_token", "/cgi-bin/token", "/wxa/midas/pay",
	}
)

// rule is the contract in a few lines: where the call goes ("next" or a path of
// WeChat's), or the status of its refusal.
func rule(p policy, path string, w way) (where string, status int) {
	route, known := routes[path]
	signed := w.signed != ""
	moves := route.api == "pay" || route.api == "present"
	switch {
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
	case moves && p.maxAmount > 0 && w.amount > p.maxAmount:
		return "", 403
	case p.environment == "official" && path == route.sandboxed:
		return "", 403
	case p.environment == "sandbox":
		return route.sandboxed, 0
	default:
		return path, 0
	}
}

func (c way) body(api, billNo string) string {
	members := `"openid":"` + player + `"`
	switch api {
	case "pay":
		members += fmt.Sprintf(`,"amt":%d`, c.amount)
	case "present":
		members += fmt.Sprintf(`,"present_counts":%d`, c.amount)
	}
	if api != "getbalance" {
		members += `,"bill_no":"` + billNo + `"`
	}
	if c.signed == "body" {
		members += `,"sig":"x","mp_sig":"x"`
	}
	return "{" + members + "}"
}

// Every route, and what is none, by every method, for every kind of caller: what is
// not allowed does not reach WeChat.
func TestWhatIsNotAllowedReachesNobody(t *testing.T) {
	require.Len(t, routes, 2*len(wechat.APIs), "the matrix must know every route")
	for _, api := range wechat.APIs {
		require.Equal(t, api.Name, routes[wechat.At(api, wechat.Official).Path].api)
		require.Equal(t, wechat.At(api, wechat.Sandbox).Path, routes[wechat.At(api, wechat.Official).Path].sandboxed)
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
				target := path
				if c.signed == "query" {
					target += "?access_token=x"
				}
				body := c.body(routes[path].api, fmt.Sprint("b", cells))
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
					before[where]++
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
