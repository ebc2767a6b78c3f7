package caddymodule_test

import (
	"net"
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

// failsToLoad returns why a config cannot be loaded.
func (w *world) failsToLoad(config string) error {
	w.t.Helper()
	text, err := adapt(config)
	require.NoError(w.t, err)
	return caddy.Load(text, true)
}

// alsoSays is the config with more lines among the global options.
func (w *world) alsoSays(lines string) string {
	return strings.Replace(w.config, "secrets file", lines+"\n secrets file", 1)
}

func TestAConfigThatIsRefusedLeavesTheWayToWeChatAlone(t *testing.T) {
	w := newWorld(t, "", "")
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, dead.Close())
	err = w.failsToLoad(w.alsoSays("transport http {\n network_proxy url http://" + dead.Addr().String() + "\n }\n deadline {env.NOWHERE_SET}"))
	require.ErrorContains(t, err, "deadline: evaluated placeholder {env.NOWHERE_SET} is empty")
	require.Equal(t, "applied", w.post("/cgi-bin/midas/pay", pay("b1", 1)).header.Get("Midas-Outcome"))
}

func TestAConfigThatCannotStartLeavesTheLogAlone(t *testing.T) {
	w := newWorld(t, "", "")
	ours, theirs := filepath.Join(t.TempDir(), "ours"), filepath.Join(t.TempDir(), "theirs")
	w.reload(strings.Replace(w.config, "output discard", "output file "+ours, 1))
	w.post("/cgi-bin/midas/pay", pay("b1", 1))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = taken.Close() }()
	bad := strings.Replace(w.config, "output file "+ours, "output file "+theirs, 1)
	bad = strings.Replace(bad, "http://127.0.0.1:0", "http://"+taken.Addr().String(), 1)
	for range 8 { // apps start in random order
		require.Error(t, w.failsToLoad(bad))
	}
	require.NoError(t, os.WriteFile(w.keys, []byte("nonsense"), 0o600))
	require.Eventually(t, func() bool {
		w.post("/cgi-bin/midas/getbalance", `{"openid":"`+player+`"}`)
		text, _ := os.ReadFile(ours)
		return strings.Contains(string(text), "secrets file cannot be used")
	}, 10*time.Second, 100*time.Millisecond)
}

func TestAReloadResolvesPlaceholdersOfTheLoginAnew(t *testing.T) {
	logins := make(chan string, 100)
	vault := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		logins <- r.URL.Path
		rw.WriteHeader(http.StatusBadRequest)
	}))
	defer vault.Close()
	user := filepath.Join(t.TempDir(), "user")
	w := newWorld(t, "", "")
	before, after, _ := strings.Cut(w.config, "secrets file")
	_, after, _ = strings.Cut(after, "\n")
	config := before + "secrets vault " + vault.URL + " {\n auth userpass {\n username {file." + user + "}\n password x\n }\n }\n" + after
	for i, name := range []string{"anna", "bert"} {
		require.NoError(t, os.WriteFile(user, []byte(name), 0o600))
		w.reload(strings.Replace(config, "midas {", "midas {\n replay "+[]string{"9m", "8m"}[i], 1))
		require.Eventually(t, func() bool {
			w.post("/cgi-bin/midas/pay", pay("b1", 1))
			select {
			case path := <-logins:
				return path == "/v1/auth/userpass/login/"+name
			default:
				return false
			}
		}, 10*time.Second, 100*time.Millisecond)
	}
}

// What was read is used on, above all when it cannot be read again.
func TestSecretsOutliveAnyChangeOfTheConfig(t *testing.T) {
	away := make(chan struct{})
	vault := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		select {
		case <-away:
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		default:
		}
		data := `{"midas_key":"` + demoKeys["midas/"+appID]["midas_key"] + `","app_secret":"` + demoKeys["midas/"+appID]["app_secret"] + `"}`
		if strings.Contains(r.URL.Path, "sessions") {
			data = `{"session_key":"` + demoKeys["midas/"+appID+"/sessions/"+player]["session_key"] + `"}`
		}
		if strings.HasPrefix(r.URL.Path, "/v1/sys/") {
			data = `{"path":"secret/","type":"kv","options":{"version":"1"}}`
		}
		_, _ = rw.Write([]byte(`{"data":` + data + `}`))
	}))
	defer vault.Close()
	w := newWorld(t, "", "")
	before, after, _ := strings.Cut(w.config, "secrets file")
	_, after, _ = strings.Cut(after, "\n")
	config := func(inVault, inMidas string) string {
		return before + inMidas + "\n secrets vault " + vault.URL + " {\n auth token t1\n " + inVault + "\n }\n" + after
	}
	pays := func(billNo string) {
		t.Helper()
		a := w.post("/cgi-bin/midas/pay", pay(billNo, 1))
		require.Equal(t, "applied", a.header.Get("Midas-Outcome"), a.body)
	}
	w.reload(config("", ""))
	pays("b1")
	close(away)
	w.reload(config("timeout 3s", "cache {\n stale 48h\n sessions 5\n }"))
	pays("b2")
	w.reload(config("timeout 1s", "cache {\n fresh 10m\n }"))
	pays("b3")
	w.reload(config("", ""))
	pays("b4")
	require.Equal(t, 1, w.hits.count("/cgi-bin/stable_token"))
}

func TestOnlyItsOrdersNameAPlayerInTheLog(t *testing.T) {
	w := newWorld(t, "", "")
	file := filepath.Join(t.TempDir(), "log")
	w.store(keys{"midas/" + appID: demoKeys["midas/"+appID]})
	w.reload(strings.Replace(w.config, "output discard", "output file "+file, 1))
	require.Equal(t, "session_missing", w.post("/cgi-bin/midas/pay", pay("b1", 1)).Error)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(text), "session_missing")
	require.Equal(t, 1, strings.Count(string(text), player), "the field openid of the order")
}

// Reloads may cost connections, but no order that reached WeChat: whoever has an
// answer has a true one, and whoever has none asks again.
func TestReloadsUnderLoadLoseNoOrder(t *testing.T) {
	w := newWorld(t, "", "")
	config := w.config
	// A fixed port, which both configs listen on.
	address := strings.TrimPrefix(w.sidecar, "http://")
	config = strings.Replace(config, "http://127.0.0.1:0", "http://"+address, 1)
	w.reload(config)

	const callers = 8
	sidecar := w.sidecar
	stop := make(chan struct{})
	paid := make(chan int, callers)
	for caller := range callers {
		go func() {
			n := 0
			defer func() { paid <- n }()
			for order := 0; ; order++ {
				select {
				case <-stop:
					return
				default:
				}
				if payUntilAnswered(sidecar, "c"+strconv.Itoa(caller)+"-"+strconv.Itoa(order)) {
					n++
				}
			}
		}()
	}
	for i := range 20 {
		w.reload(strings.Replace(config, "secrets file", "replay "+strconv.Itoa(60+i)+"s\n secrets file", 1))
		time.Sleep(50 * time.Millisecond)
	}
	close(stop)
	sum := 0
	for range callers {
		sum += <-paid
	}
	t.Log(sum, "orders through 20 reloads")
	require.Equal(t, int64(10_000-sum), w.balance(wechat.Official))
	require.Positive(t, sum)
}

// payUntilAnswered pays one coin, calling again while there is no answer, and tells
// whether it was paid.
func payUntilAnswered(sidecar, billNo string) bool {
	for {
		res, err := http.Post(sidecar+"/cgi-bin/midas/pay", "application/json", strings.NewReader(pay(billNo, 1)))
		if err != nil {
			continue // the connection was lost with its listener
		}
		_ = res.Body.Close()
		outcome := res.Header.Get("Midas-Outcome")
		if outcome != "unknown" {
			return outcome == "applied" || outcome == "already_applied"
		}
	}
}
