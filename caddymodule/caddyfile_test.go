package caddymodule_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/stretchr/testify/require"

	_ "midas-sidecar/caddymodule"
)

var update = flag.Bool("update", false, "write the JSON of testdata/adapt anew")

// A golden file is a Caddyfile, a line of ten dashes, and what it becomes.
const dashes = "\n----------\n"

func TestCaddyfilesBecomeTheirJSON(t *testing.T) {
	for _, file := range glob(t, "testdata/adapt/*.caddyfiletest") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			input, want := golden(t, file)
			require.Equal(t, string(caddyfile.Format([]byte(input))), input, "must be fmt-clean")
			got, err := adapt(input)
			require.NoError(t, err)
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(strings.TrimSuffix(input, "\n")+dashes+indented(t, got)), 0o644))
				return
			}
			require.JSONEq(t, want, string(got))
		})
	}
}

func TestCaddyfileMistakesNameTheLineAndWhatIsAllowed(t *testing.T) {
	for _, file := range glob(t, "testdata/errors/*.caddyfiletest") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			input, want := golden(t, file)
			_, err := adapt(input)
			require.ErrorContains(t, err, strings.TrimSpace(want))
		})
	}
}

// What adapt makes can be loaded as JSON, and JSON that nobody knows is refused.
func TestConfigsAreJudgedWithoutSpeakingToAnyone(t *testing.T) {
	t.Setenv("SECOND_APPID", "wx2")
	t.Setenv("DEADLINE", "8s")
	t.Setenv("PATH_OUT", "../wx1")
	t.Setenv("TWO_LINES", "1234\n5678")
	t.Setenv("NO_TEXT", "1234\xff")
	for _, c := range []struct{ name, apps, handler, want string }{
		{"production", `{"secrets":{"vault":{"address":"http://127.0.0.1:1","auth":{"approle":{"role_id":"{file./nowhere/role}","secret_id":"{file./nowhere/secret}"}}}},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, ""},
		{"a service account", `{"secrets":{"vault":{"address":"https://v","auth":{"kubernetes":{"role":"midas"}}}},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, ""},
		{"a JWT that is not there yet", `{"secrets":{"vault":{"address":"https://v","auth":{"jwt":{"role":"{env.SECOND_APPID}","jwt_file":"/nowhere/jwt"}}}},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, ""},
		{"a password that is not there yet", `{"secrets":{"vault":{"address":"https://v","auth":{"userpass":{"username":"u","password":"{file./nowhere/password}"}}}},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, ""},
		{"a wrapping token that is not there yet", `{"secrets":{"vault":{"address":"https://v","auth":{"approle":{"role_id":"r","secret_id":"{file./nowhere/wrapped}","wrapped":true}}}},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, ""},
		{"a token file that is not there yet", `{"secrets":{"vault":{"address":"http://127.0.0.1:1","auth":{"token_file":"/nowhere/token"}}},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, ""},
		{"a secrets file that is not there yet", `{"secrets":{"file":"/nowhere/midas.json"},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, ""},
		{"placeholders and numbers", `{"secrets":{"file":"/x"},"apps":{"{env.SECOND_APPID}":{"offer_id":"1"}},"deadline":"{env.DEADLINE}","attempt_timeout":2000000000}`, `{"max_amount":5,"max_body":"1KiB"}`, ""},

		{"nothing", `{}`, `{}`, "the global option midas is missing"},
		{"no app", `{"secrets":{"file":"/x"}}`, `{}`, "app: is missing"},
		{"two stores", `{"secrets":{"file":"/x","vault":{}},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, "secrets: must be exactly one of vault and file"},
		{"no auth", `{"secrets":{"vault":{"address":"http://v"}},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, "auth: is missing"},
		{"two auths", `{"secrets":{"vault":{"address":"http://v","auth":{"token":"a","token_file":"b"}}},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, "auth: must be exactly one of token, token_file, approle, kubernetes, jwt, userpass or cert"},
		{"two auths with blocks", `{"secrets":{"vault":{"address":"https://v","auth":{"kubernetes":{"role":"r"},"cert":{}}}},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, "auth: must be exactly one of token"},
		{"no role", `{"secrets":{"vault":{"address":"https://v","auth":{"kubernetes":{}}}},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, "auth kubernetes: role is required"},
		{"no jwt_file", `{"secrets":{"vault":{"address":"https://v","auth":{"jwt":{"role":"r"}}}},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, "auth jwt: jwt_file is required"},
		{"no password", `{"secrets":{"vault":{"address":"https://v","auth":{"userpass":{"username":"u"}}}},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, "auth userpass: password is required"},
		{"a username that leaves its path", `{"secrets":{"vault":{"address":"https://v","auth":{"userpass":{"username":"{env.SECOND_APPID}/../x","password":"p"}}}},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, "auth userpass: username must not contain a slash"},
		{"a password that is not set", `{"secrets":{"vault":{"address":"https://v","auth":{"userpass":{"username":"u","password":"{env.NOWHERE_SET}"}}}},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, "auth: userpass: password: evaluated placeholder {env.NOWHERE_SET} is empty"},
		{"no certificate for cert", `{"secrets":{"vault":{"address":"https://v","auth":{"cert":{}}}},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, "auth cert: needs client_cert"},
		{"bad address", `{"secrets":{"vault":{"address":"vault:8200","auth":{"token":"a"}}},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, "address: must begin with http://, https:// or unix://"},
		{"an unset environment variable", `{"secrets":{"vault":{"address":"http://v","auth":{"token":"{env.NOWHERE_SET}"}}},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, "token: evaluated placeholder {env.NOWHERE_SET} is empty"},
		{"an unknown placeholder", `{"secrets":{"file":"{nobody.knows}"},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, "file: unrecognized placeholder {nobody.knows}"},
		{"no offer_id", `{"secrets":{"file":"/x"},"apps":{"wx1":{}}}`, `{}`, "app wx1: offer_id: is missing"},
		{"one app under two names", `{"secrets":{"file":"/x"},"apps":{"wx2":{"offer_id":"1"},"{env.SECOND_APPID}":{"offer_id":"1"}}}`, `{}`, "app wx2: is configured twice"},
		{"a session for everyone", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1","session":"players/key"}}}`, `{}`, "session: must contain {openid}"},
		{"a token path without a path", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1","access_token":{"field":"x"}}}}`, `{}`, "access_token: secret is missing"},
		{"an upstream with a path", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1"}},"upstreams":["https://api.weixin.qq.com/cgi-bin"]}`, `{}`, "upstream: must be http:// or https:// and a host, nothing more"},
		{"an upstream with an impossible port", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1"}},"upstreams":["https://api.weixin.qq.com","http://{env.SECOND_APPID}:0"]}`, `{}`, "upstream: the port must be from 1 to 65535; that of number 2 is not"},
		{"an appid that leaves its path", `{"secrets":{"file":"/x"},"apps":{"{env.PATH_OUT}":{"offer_id":"1"}}}`, `{}`, "app {env.PATH_OUT}: must be 1 to 128 characters of A-Z a-z 0-9 _ -"},
		{"an appid that is too long", `{"secrets":{"file":"/x"},"apps":{"` + strings.Repeat("a", 129) + `":{"offer_id":"1"}}}`, `{}`, "must be 1 to 128 characters of A-Z a-z 0-9 _ -"},
		{"an appid as long as may be", `{"secrets":{"file":"/x"},"apps":{"` + strings.Repeat("a", 128) + `":{"offer_id":"1"}}}`, `{}`, ""},
		{"an offer_id of two lines", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"{env.TWO_LINES}"}}}`, `{}`, "app wx1: offer_id: must be printable characters without spaces"},
		{"an offer_id_v2", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1","offer_id_v2":"{env.SECOND_APPID}"}}}`, `{}`, ""},
		{"an offer_id_v2 of two lines", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1","offer_id_v2":"{env.TWO_LINES}"}}}`, `{}`, "app wx1: offer_id_v2: must be printable characters without spaces"},
		{"an offer_id_v2 alone", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id_v2":"1"}}}`, `{}`, "app wx1: offer_id: is missing"},
		{"an offer_id that is no text", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"{env.NO_TEXT}"}}}`, `{}`, "app wx1: offer_id: must be printable characters without spaces"},
		{"an offer_id that was no text", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1\ufffd"}}}`, `{}`, "app wx1: offer_id: must be printable characters without spaces"},
		{"compression over midas", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1"}},"transport":{"protocol":"midas","compression":true}}`, `{}`, "compression: is not an option of midas"},
		{"HTTP/3 to WeChat", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1"}},"transport":{"protocol":"http","versions":["3"]}}`, `{}`, "transport: versions: must not be 3"},
		{"HTTP/2 alone to WeChat", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1"}},"transport":{"protocol":"http","versions":["2"]}}`, `{}`, ""},
		{"an impossible deadline", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1"}},"deadline":"1s","attempt_timeout":"2s"}`, `{}`, "deadline: must not be shorter than attempt_timeout"},
		{"a short deadline alone", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1"}},"deadline":"1s"}`, `{}`, ""},
		{"a deadline that is no duration", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1"}},"deadline":"soon"}`, `{}`, `deadline: must be a positive duration such as 3s or 500ms, got "soon"`},
		{"an unknown field", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1"}},"deadlin":"1s"}`, `{}`, `unknown field "deadlin"`},
		{"stale secrets not at all", `{"secrets":{"file":"/x"},"cache":{"stale":0,"sessions":5},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, ""},
		{"a cache for no session", `{"secrets":{"file":"/x"},"cache":{"sessions":"0"},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, `cache: sessions: must be a positive integer, got "0"`},
		{"a cache that is never fresh", `{"secrets":{"file":"/x"},"cache":{"fresh":"0s"},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, "cache: fresh: must be a positive duration"},
		{"a cache that is stale for ever", `{"secrets":{"file":"/x"},"cache":{"stale":"-1s"},"apps":{"wx1":{"offer_id":"1"}}}`, `{}`, "cache: stale: must be a positive duration"},
		{"a deadline whose placeholder is no duration", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1"}},"deadline":"{env.SECOND_APPID}"}`, `{}`, "deadline: must be a positive duration such as 3s or 500ms, which {env.SECOND_APPID} is not"},
		{"no memory", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1"}},"replay":0}`, `{}`, ""},
		{"an unknown way with unknowns", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1"}},"on_unknown":"refund"}`, `{}`, `on_unknown: must be leave or cancel, got "refund"`},
		{"an unknown environment", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1"}}}`, `{"environment":"sandbx"}`, `environment: must be official or sandbox, got "sandbx"`},
		{"an unknown mode", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1"}}}`, `{"signed":"maybe"}`, `signed: must be reject, resign or pass, got "maybe"`},
		{"an unknown API", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1"}}}`, `{"apis":["refund"]}`, "apis: must be of pay, cancelpay, getbalance, present or queryorderinfo"},
		{"no API", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1"}}}`, `{"apis":[]}`, "apis: must name at least one"},
		{"no amount", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1"}}}`, `{"max_amount":0}`, "max_amount: must be a positive integer"},
		{"an empty amount", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1"}}}`, `{"max_amount":""}`, "must not be empty"},
		{"an amount that is null", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1"}}}`, `{"max_amount":null}`, "must not be empty"},
		{"an empty deadline", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1"}},"deadline":""}`, `{}`, "must not be empty"},
		{"no size", `{"secrets":{"file":"/x"},"apps":{"wx1":{"offer_id":"1"}}}`, `{"max_body":"0"}`, "max_body: must be a size"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var handler map[string]any
			require.NoError(t, json.Unmarshal([]byte(c.handler), &handler))
			handler["handler"] = "midas"
			config := map[string]any{"apps": map[string]any{
				"midas": json.RawMessage(c.apps),
				"http":  map[string]any{"servers": map[string]any{"s": map[string]any{"listen": []string{"127.0.0.1:0"}, "routes": []any{map[string]any{"handle": []any{handler}}}}}},
			}}
			err := validate(t, mustJSON(t, config))
			if c.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.want)
			}
		})
	}
}

func TestTheHandlerNeedsTheApp(t *testing.T) {
	config, err := adapt("http://127.0.0.1:8080 {\n\tmidas\n}\n")
	require.NoError(t, err)
	require.ErrorContains(t, validate(t, config), "the global option midas is missing")
}

func TestTheProductionCaddyfileIsValidAndListensOnThisHostOnly(t *testing.T) {
	text, err := os.ReadFile("../Caddyfile")
	require.NoError(t, err)
	require.Equal(t, string(caddyfile.Format(text)), string(text), "must be fmt-clean")
	config, err := adapt(string(text))
	require.NoError(t, err)
	require.Contains(t, string(config), `"listen":["127.0.0.1:8080"]`)
	require.NoError(t, validate(t, config))
}

func FuzzCaddyfilesNeverPanic(f *testing.F) {
	for _, pattern := range []string{"testdata/adapt/*", "testdata/errors/*"} {
		for _, file := range glob(f, pattern) {
			input, _ := golden(f, file)
			f.Add(input)
		}
	}
	f.Fuzz(func(_ *testing.T, input string) { _, _ = adapt(input) })
}

func glob(t testing.TB, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return files
}

func golden(t testing.TB, file string) (input, want string) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	input, want, _ = strings.Cut(string(text), dashes)
	return strings.TrimSuffix(input, "\n") + "\n", want
}

func adapt(input string) ([]byte, error) {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(input), map[string]any{"filename": "Caddyfile"})
	return config, err
}

// validate does what "validate" does: it provisions all and starts nothing.
func validate(t testing.TB, config []byte) error {
	t.Helper()
	var c caddy.Config
	require.NoError(t, json.Unmarshal(config, &c))
	return caddy.Validate(&c)
}

func mustJSON(t testing.TB, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	require.NoError(t, err)
	return text
}

func indented(t testing.TB, config []byte) string {
	t.Helper()
	var value any
	require.NoError(t, json.Unmarshal(config, &value))
	text, err := json.MarshalIndent(value, "", "\t")
	require.NoError(t, err)
	return string(text) + "\n"
}
