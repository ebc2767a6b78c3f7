package caddymodule_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestACredentialThatTheConfigHoldsIsWarnedOfByTheNameOfItsField(t *testing.T) {
	t.Setenv("VAULT_CANARY", "canary-5ecret")
	for auth, field := range map[string]string{
		"token canary-5ecret":   "auth token",
		"token canary-{5ecret":  "auth token",
		"token {$VAULT_CANARY}": "auth token",
		"approle {\n role_id canary-5ecret\n secret_id {env.VAULT_CANARY}\n }":         "auth approle role_id",
		"approle {\n role_id {env.VAULT_CANARY}\n secret_id canary-5ecret\n }":         "auth approle secret_id",
		"approle {\n role_id {env.VAULT_CANARY}\n secret_id canary-5ecret wrapped\n }": "auth approle secret_id",
		"userpass {\n username midas\n password canary-5ecret\n }":                     "auth userpass password",
	} {
		t.Run(auth, func(t *testing.T) {
			require.Equal(t, []string{field}, literals(t, auth))
		})
	}
}

func TestEachCredentialThatTheConfigHoldsIsWarnedOf(t *testing.T) {
	require.Equal(t, []string{"auth approle role_id", "auth approle secret_id"},
		literals(t, "approle {\n role_id an-id\n secret_id canary-5ecret\n }"))
}

func TestAProxysPasswordThatTheConfigHoldsIsWarnedOf(t *testing.T) {
	t.Setenv("PROXY_CANARY", "http://midas:canary-5ecret@proxy.test:3128")
	for transport, fields := range map[string][]string{
		"midas {\n network_proxy url http://midas:canary-5ecret@proxy.test:3128\n }": {"transport network_proxy"},
		"http {\n network_proxy url http://midas:canary-5ecret@proxy.test:3128\n }":  {"transport network_proxy"},
		"http {\n forward_proxy_url http://midas:canary-5ecret@proxy.test:3128\n }":  {"transport network_proxy"},
		"http {\n network_proxy url {env.PROXY_CANARY}\n }":                          nil,
		"http {\n network_proxy url http://midas@proxy.test:3128\n }":                nil,
		"http {\n network_proxy none\n }":                                            nil,
	} {
		t.Run(transport, func(t *testing.T) {
			require.Equal(t, fields, literals(t, "token_file /nowhere", "transport "+transport))
		})
	}
}

func TestACredentialThatIsKeptElsewhereIsNotWarnedOf(t *testing.T) {
	t.Setenv("VAULT_CANARY", "canary-5ecret")
	path := filepath.Join(t.TempDir(), "credential")
	require.NoError(t, os.WriteFile(path, []byte("canary-5ecret"), 0o600))
	for _, auth := range []string{
		"token {env.VAULT_CANARY}",
		"token {file." + path + "}",
		"token {file./nowhere/yet}",
		"token_file " + path,
		"approle {\n role_id {env.VAULT_CANARY}\n secret_id {file." + path + "}\n }",
		"userpass {\n username midas\n password {env.VAULT_CANARY}\n }",
		"kubernetes {\n role midas\n }",
	} {
		t.Run(auth, func(t *testing.T) {
			require.Empty(t, literals(t, auth))
		})
	}
}

func TestWhatGoesOverTheNetworkInPlainTextIsWarnedOf(t *testing.T) {
	for lines, fields := range map[string][]string{
		"secrets vault http://canary-5ecret.test:8200 {\n auth token_file /nowhere\n }":                   {"secrets vault"},
		"secrets vault http://203.0.113.5 {\n auth token_file /nowhere\n }":                               {"secrets vault"},
		"secrets file /nowhere\n upstream https://api.weixin.qq.com http://canary-5ecret.test":            {"upstream"},
		"secrets file /nowhere\n upstream http://a.canary-5ecret.test http://b.canary-5ecret.test":        {"upstream"},
		"secrets file /nowhere\n transport midas {\n tls_insecure_skip_verify\n }":                        {"transport tls_insecure_skip_verify"},
		"secrets file /nowhere\n transport http {\n tls_insecure_skip_verify\n }":                         {"transport tls_insecure_skip_verify"},
		"secrets vault http://127.0.0.1:1 {\n auth token_file /nowhere\n }\n upstream http://localhost:1": nil,
		"secrets vault http://[::1]:1 {\n auth token_file /nowhere\n }\n upstream http://127.9.9.9:1":     nil,
		"secrets vault unix:///nowhere.sock {\n auth token_file /nowhere\n }":                             nil,
		"secrets vault https://vault.test {\n auth token_file /nowhere\n }":                               nil,
	} {
		t.Run(lines, func(t *testing.T) {
			require.Equal(t, fields, fieldsWarnedOf(t, "can be read, and changed, on the network", lines))
		})
	}
}

// literals starts a sidecar that logs in like this, and returns the fields that its log
// warns of.
func literals(t *testing.T, auth string, lines ...string) []string {
	t.Helper()
	return fieldsWarnedOf(t, "a credential is part of the config",
		"secrets vault http://127.0.0.1:1 {\n auth "+auth+"\n }\n"+strings.Join(lines, "\n"))
}

// fieldsWarnedOf starts a sidecar with these lines, and returns the fields of the warnings
// that say this. No line of its log shows what is secret.
func fieldsWarnedOf(t *testing.T, message, lines string) (fields []string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	config, err := adapt(fmt.Sprintf(`{
		admin off
		persist_config off
		log {
			output file %q
			format json
		}
		midas {
			%s
			app %s {
				offer_id 12345678
			}
		}
	}`, path, lines, appID))
	require.NoError(t, err)
	for _, w := range warnings(t, config, path) {
		if strings.Contains(w.Msg, message) {
			fields = append(fields, w.Field)
		}
	}
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, `"msg":"serving"`) { // which names hosts
			require.NotContains(t, line, "5ecret")
		}
	}
	return fields
}
