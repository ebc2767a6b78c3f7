package caddymodule_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/wechat"
)

// talkative is an upstream that repeats what it was told behind each answer, when the
// connection is idle.
func talkative(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		body := `{"errcode":0,"errmsg":"ok"}`
		if r.URL.Path == wechat.StableTokenPath {
			body = `{"access_token":"theAccessToken","expires_in":7200}`
		}
		conn, _, err := rw.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		time.Sleep(20 * time.Millisecond) // for the client to read all of it
		_, _ = io.WriteString(conn, `told "`+r.URL.RawQuery+"\" and\r\n"+r.URL.RawQuery)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// sinking is a config whose lines of Go's own log go to a file.
func sinking(t *testing.T, caddyfile, file string) map[string]any {
	t.Helper()
	text, err := adapt(caddyfile)
	require.NoError(t, err)
	var config map[string]any
	require.NoError(t, json.Unmarshal(text, &config))
	config["logging"].(map[string]any)["sink"] = map[string]any{"writer": map[string]any{"output": "file", "filename": file}}
	return config
}

func loads(t *testing.T, config map[string]any) error {
	t.Helper()
	text, err := json.Marshal(config)
	require.NoError(t, err)
	return caddy.Load(text, true)
}

// The log of Go's own is pointed at another file by each config, even by one that
// cannot be used.
func TestWhatAPeerSendsUnaskedIsNotedAndNotQuoted(t *testing.T) {
	w, _ := before(t, talkative(t), "replay 0\n transport http")
	w.reload(strings.Replace(w.config, "http://127.0.0.1:0", w.sidecar, 1)) // the same port for all
	refused := func(config map[string]any) map[string]any {
		config["storage"] = map[string]any{"module": "nothing"} // before any app is made
		return config
	}
	dir := t.TempDir()
	for i, c := range []struct {
		name string
		load func(config map[string]any)
	}{
		{"the first config", func(config map[string]any) { require.NoError(t, loads(t, config)) }},
		{"another", func(config map[string]any) { require.NoError(t, loads(t, config)) }},
		{"one that cannot be used", func(config map[string]any) { require.ErrorContains(t, loads(t, refused(config)), "nothing") }},
		{"and another", func(config map[string]any) { require.NoError(t, loads(t, config)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			file := filepath.Join(dir, strconv.Itoa(i))
			c.load(sinking(t, w.config, file))
			require.Equal(t, "applied", w.do(http.MethodPost, payPath, pay("b1", 1), "Content-Type", "application/json", "Connection", "close").header.Get("Midas-Outcome"))
			var text []byte
			require.Eventually(t, func() bool {
				text, _ = os.ReadFile(file)
				return strings.Contains(string(text), `Unsolicited response received on idle HTTP channel starting with \"…\"; err=`)
			}, 5*time.Second, 10*time.Millisecond)
			require.NotContains(t, string(text), "theAccessToken")
		})
	}
}

func TestGosOwnLogIsWithoutWhatItQuotes(t *testing.T) {
	w, _ := before(t, unreachable(t), "")
	for i, c := range []struct{ line, want string }{
		{`http2: Transport encoding header ":path" = "/x?access_token=T"`, `http2: Transport encoding header "…"`},
		{fmt.Sprintf("starting with %q; err=%v", `a"b\`+"\n\xff", io.EOF), `starting with "…"; err=EOF`},
		{"one \"T\" two\nthree \"T\" four", "one \"…\" two\nthree \"…\" four"},
		{"nothing is quoted", "nothing is quoted"},
		{`half of it "is`, `half of it "is`},
	} {
		file := filepath.Join(t.TempDir(), strconv.Itoa(i))
		require.NoError(t, loads(t, sinking(t, w.config, file)))
		log.Print(c.line)
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var said struct{ Msg string }
		for line := range strings.Lines(string(text)) {
			require.NoError(t, json.Unmarshal([]byte(line), &said))
		}
		require.Equal(t, c.want, said.Msg)
	}
}
