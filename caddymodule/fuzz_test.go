package caddymodule_test

import (
	"encoding/json"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/stretchr/testify/require"

	"midas-sidecar/caddymodule"
)

// Whatever stands in our directives: an error names the line, and what is accepted
// is JSON that says the same and that can be judged.
func FuzzDirectivesAreReadOrRefusedByLine(f *testing.F) {
	const minimal = "midas {\n secrets file /nowhere\n app wx1 {\n offer_id 1\n }\n }"
	for _, options := range []string{
		minimal, "", "midas", "midas {", "midas }", "midas {\n}", "midas x", "midas {\n app wx1 {\n offer_id 1\n",
		"midas {\n secrets vault https://v {\n auth token t\n namespace n\n mount m\n ca_file /nowhere\n server_name s\n timeout 2s\n }\n app wx1 {\n offer_id 1\n }\n }",
		"midas {\n secrets vault https://v {\n auth approle {\n role_id r\n secret_id {file./nowhere} wrapped\n mount m\n }\n }\n app wx1 {\n offer_id 1\n access_token secret t f\n mp_sig off\n }\n }",
		"midas {\n secrets vault https://v {\n auth kubernetes {\n role r\n }\n }\n cache {\n fresh 1m\n stale 0\n sessions 5\n }\n app wx1 {\n offer_id 1\n secret a/{appid}\n session b/{openid}\n }\n }",
		"midas {\n secrets vault unix:///nowhere {\n auth jwt {\n role r\n jwt_file /nowhere\n }\n }\n app wx1 {\n offer_id 1\n }\n upstream http://a https://b\n deadline 5s\n attempt_timeout 1s\n replay 0\n on_unknown cancel\n }",
		"midas {\n secrets vault https://v {\n auth userpass {\n username u\n password p\n }\n }\n app {env.HOME} {\n offer_id {nobody.knows}\n }\n transport http {\n dial_timeout 1s\n tls_insecure_skip_verify\n }\n }",
		"midas {\n secrets vault https://v {\n auth cert {\n role r\n }\n client_cert a b\n }\n app wx1 {\n offer_id 1\n }\n transport fastcgi\n deadline 99999999h\n }",
	} {
		f.Add(options, "midas")
	}
	for _, site := range []string{
		"midas {\n environment sandbox\n signed resign\n apis pay cancelpay\n max_amount 5\n max_body 1KiB\n }",
		"midas {\n max_amount {env.HOME}\n max_body 99999999999999999999\n }", "midas {\n apis pay pay\n }", "midas {\n login\n }", "midas {\n environment\n }", "midas {\n {\n }\n }",
	} {
		f.Add(minimal, site)
	}
	f.Fuzz(func(t *testing.T, options, site string) {
		midas, handler := new(caddymodule.Midas), new(caddymodule.Handler)
		if !read(t, options, midas) || !read(t, site, handler) {
			return
		}
		app, route := again(t, midas, new(caddymodule.Midas)), again(t, handler, new(caddymodule.Handler))
		var module map[string]any
		require.NoError(t, json.Unmarshal(route, &module))
		module["handler"] = "midas"
		_ = caddy.Validate(&caddy.Config{ // which must not panic; it may well refuse
			Admin:   &caddy.AdminConfig{Disabled: true, Config: &caddy.ConfigSettings{Persist: new(bool)}},
			Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output":"discard"}`)}}}},
			AppsRaw: caddy.ModuleMap{
				"midas": app,
				"http":  mustJSON(t, map[string]any{"servers": map[string]any{"s": map[string]any{"listen": []string{"127.0.0.1:0"}, "automatic_https": map[string]any{"disable": true}, "routes": []any{map[string]any{"handle": []any{module}}}}}}),
			},
		})
	})
}

// read reports whether a directive is accepted.
func read(t *testing.T, input string, into caddyfile.Unmarshaler) bool {
	t.Helper()
	tokens, err := caddyfile.Tokenize([]byte(input), "Caddyfile")
	if err != nil || len(tokens) == 0 {
		return false
	}
	if err := into.UnmarshalCaddyfile(caddyfile.NewDispenser(tokens)); err != nil {
		require.ErrorContains(t, err, "Caddyfile:")
		return false
	}
	return true
}

// again reads what a directive becomes into another one, which must become the same.
func again(t *testing.T, directive, other any) []byte {
	t.Helper()
	text := mustJSON(t, directive)
	require.NoError(t, caddy.StrictUnmarshalJSON(text, other))
	require.JSONEq(t, string(text), string(mustJSON(t, other)))
	return text
}
