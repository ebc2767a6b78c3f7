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

// logged starts a world whose log has the format, lets it act, and returns the lines of
// the log that say msg.
func logged(t *testing.T, format, options, msg string, act func(*world)) (lines []map[string]any) {
	t.Helper()
	w := newWorld(t, options, "")
	log := filepath.Join(t.TempDir(), "log")
	w.reload(strings.Replace(w.config, "output discard", fmt.Sprintf("output file %q\n %s", log, format), 1))
	act(w)
	require.NoError(t, caddy.Stop())
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &fields))
		if fields["msg"] == msg {
			lines = append(lines, fields)
		}
	}
	return lines
}

func TestAnOrdersLineNamesPlayerZoneAndAmount(t *testing.T) {
	lines := logged(t, "format json", "", "order", func(w *world) {
		w.post("/cgi-bin/midas/pay", pay("b1", 7))
		w.post("/cgi-bin/midas/cancelpay", `{"openid":"`+player+`","bill_no":"b1"}`)
		w.post("/wxa/game/pay", `{"openid":"`+player+`","zone_id":"2","amount":3,"bill_no":"b2","user_ip":"203.0.113.9","ts":1}`)
		w.post("/cgi-bin/midas/pay", `{`)
	})
	require.Len(t, lines, 4)
	for i, want := range []map[string]any{
		{"openid": player, "zone_id": "1", "amount": 7.0},
		{"openid": player, "zone_id": "1", "amount": nil},
		{"openid": player, "zone_id": "2", "amount": 3.0},
		{"openid": nil, "zone_id": nil, "amount": nil},
	} {
		for field, value := range want {
			require.Equal(t, value, lines[i][field], "%s of %v", field, lines[i])
		}
	}
}

func TestTheLogsFilterHashesOrDropsAPlayer(t *testing.T) {
	lines := logged(t, "format filter {\n openid hash\n amount delete\n wrap json\n }", "", "order", func(w *world) {
		w.post("/cgi-bin/midas/pay", pay("b1", 7))
	})
	require.Len(t, lines, 1)
	require.Regexp(t, `^[0-9a-f]{8}$`, lines[0]["openid"])
	require.NotContains(t, lines[0], "amount")
	require.Equal(t, "b1", lines[0]["bill_no"])
}

func TestEachConfigBeginsWithALineThatSaysWhatIsServed(t *testing.T) {
	lines := logged(t, "format json", "app "+appID+" {\n offer_id 1\n }\n app wx2 {\n offer_id 2\n }", "serving", func(w *world) {
		w.reload(strings.Replace(w.config, "midas\n", "midas {\n environment sandbox\n }\n", 1))
	})
	require.Len(t, lines, 2)
	first := lines[0]
	require.Equal(t, "midas", first["logger"])
	require.Equal(t, "info", first["level"])
	require.Equal(t, []any{appID, "wx2"}, first["apps"])
	require.Equal(t, []any{"127.0.0.1:0"}, first["sites"])
	require.Equal(t, []any{"official", "sandbox"}, first["environments"])
	require.Regexp(t, `^file /.*keys\.json$`, first["secrets"])
	require.Len(t, first["upstreams"], 1)
	require.Regexp(t, `^http://127\.0\.0\.1:\d+$`, first["upstreams"].([]any)[0])
	require.Equal(t, "direct", first["transport"])
	require.NotEmpty(t, first["version"])
}
