package caddymodule_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/require"
)

func TestACredentialThatTheConfigHoldsIsWarnedOfByTheNameOfItsField(t *testing.T) {
	t.Setenv("VAULT_CANARY", "canary-5ecret")
	for auth, field := range map[string]string{
		"token canary-5ecret":   "auth token",
		"token canary-{5ecret":  "auth token",
		"token {$VAULT_CANARY}": "auth token",
		"approle {\n role_id {env.VAULT_CANARY}\n secret_id canary-5ecret\n }":         "auth approle secret_id",
		"approle {\n role_id {env.VAULT_CANARY}\n secret_id canary-5ecret wrapped\n }": "auth approle secret_id",
		"userpass {\n username midas\n password canary-5ecret\n }":                     "auth userpass password",
	} {
		t.Run(auth, func(t *testing.T) {
			require.Equal(t, []string{field}, literals(t, auth))
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
		"approle {\n role_id an-id\n secret_id {file." + path + "}\n }",
		"userpass {\n username midas\n password {env.VAULT_CANARY}\n }",
		"kubernetes {\n role midas\n }",
	} {
		t.Run(auth, func(t *testing.T) {
			require.Empty(t, literals(t, auth))
		})
	}
}

// literals starts a sidecar that logs in like this, and returns the fields that its log
// warns of.
func literals(t *testing.T, auth string) (fields []string) {
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
			secrets vault http://127.0.0.1:1 {
				auth %s
			}
			app %s {
				offer_id 12345678
			}
		}
	}`, path, auth, appID))
	require.NoError(t, err)
	require.NoError(t, caddy.Load(config, true))
	require.NoError(t, caddy.Stop())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NotContains(t, string(text), "5ecret")
	for line := range strings.Lines(string(text)) {
		var entry struct{ Level, Msg, Field string }
		require.NoError(t, json.Unmarshal([]byte(line), &entry))
		if strings.HasPrefix(entry.Msg, "a credential is part of the config") {
			require.Equal(t, "warn", entry.Level)
			fields = append(fields, entry.Field)
		}
	}
	return fields
}
