package caddymodule

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
	"midas-sidecar/signer"
)

// startSimulator runs the command and returns its URL, what it prints, and how to
// end it.
func startSimulator(t *testing.T, stateFile string, lenient ...bool) (url string, out *strings.Builder, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := serveSimulator(ctx, "127.0.0.1:0", stateFile, len(lenient) > 0, writer)
		writer.Close()
		ended <- err
	}()

	out = new(strings.Builder)
	buffer := make([]byte, 4096)
	n, err := reader.Read(buffer) // the greeting is one write
	require.NoError(t, err)
	out.Write(buffer[:n])
	copied := make(chan struct{})
	go func() {
		_, _ = io.Copy(out, reader)
		close(copied)
	}()
	stop = func() error {
		cancel()
		err := <-ended
		<-copied
		return err
	}
	return regexp.MustCompile(`http://[0-9.:]+[0-9]`).FindString(out.String()), out, stop
}

func get(t *testing.T, url string) string {
	t.Helper()
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(url)
	require.NoError(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return string(body)
}

func TestSimulatorServesAndEndsCleanly(t *testing.T) {
	url, out, stop := startSimulator(t, "")
	require.Contains(t, get(t, url+"/simulator/books"), `"balance":10000`)
	require.Contains(t, get(t, url+"/cgi-bin/midas/pay"), "43002")
	require.NoError(t, stop())
	require.Contains(t, out.String(), "upstream "+url)
	require.Contains(t, out.String(), "in memory: use --state to keep it")
	require.Regexp(t, `(?m)^time=\d\d:\d\d:\d\d msg="GET /cgi-bin/midas/pay" errcode=43002 `, out.String())
	_, err := http.Get(url)
	require.Error(t, err)
}

func TestSimulatorIsLenientWhereItIsToldTo(t *testing.T) {
	for _, c := range []struct {
		lenient []bool
		errcode string
	}{{nil, "90018"}, {[]bool{true}, "40014"}} { // the query, or only the token in it
		url, _, stop := startSimulator(t, "", c.lenient...)
		answer, err := http.Post(url+"/cgi-bin/midas/pay?access_token=x&more=1", "text/plain", strings.NewReader("{}"))
		require.NoError(t, err)
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Contains(t, string(body), `"errcode":`+c.errcode)
		http.DefaultClient.CloseIdleConnections()
		require.NoError(t, stop())
	}
}

func TestSimulatorKeepsItsStateInAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state.json")
	_, out, stop := startSimulator(t, file)
	require.NoError(t, stop())
	require.Contains(t, out.String(), "kept in "+file)
	text, err := os.ReadFile(file)
	require.NoError(t, err)

	changed := strings.Replace(string(text), `"balance": 10000`, `"balance": 77`, 1)
	require.NoError(t, os.WriteFile(file, []byte(changed), 0o600))
	url, _, stop := startSimulator(t, file)
	require.Contains(t, get(t, url+"/simulator/books"), `"balance":77`)
	require.NoError(t, stop())

	require.NoError(t, os.WriteFile(file, []byte(`{"app":{}}`), 0o600))
	err = serveSimulator(t.Context(), "127.0.0.1:0", file, false, io.Discard)
	require.ErrorContains(t, err, "--state: ")
	require.ErrorContains(t, err, `unknown object member name "app"`)
}

func TestSimulatorSaysWhatToDoWhenItCannotListen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	err = serveSimulator(t.Context(), taken.Addr().String(), "", false, io.Discard)
	require.ErrorContains(t, err, "is taken by another program; choose another port")
	err = serveSimulator(t.Context(), "nowhere", "", false, io.Discard)
	require.ErrorContains(t, err, "an address such as 127.0.0.1:8080 is needed")
}

// The help shows the values of the demo's state: they must be those.
func TestTheSimulatorsHelpShowsTheDemosKeys(t *testing.T) {
	help := commandHelp(t, "simulator")
	for appid, app := range simulator.Demo().Apps {
		for openid, player := range app.Players {
			for _, value := range []string{appid, app.OfferID, app.Secret, app.MidasKey, app.MidasKeySandbox, openid, player.SessionKey} {
				require.Contains(t, help, value)
			}
		}
	}
}

// The help names all that it serves, and what it can be told.
func TestTheSimulatorsHelpNamesWhatItServesAndIsStrictAbout(t *testing.T) {
	help := commandHelp(t, "simulator")
	for _, said := range []string{
		"/cgi-bin/stable_token", "/cgi-bin/token", "/sns/jscode2session", "/wxa/checksession", "mp_sig_optional",
		"--lenient", "Content-Type", "number written as text", "access_token in the body", "field that the API does not have", "empty optional",
	} {
		require.Contains(t, strings.Join(strings.Fields(help), " "), said)
	}
}

// The help shows how to set faults: what it shows must work.
func TestTheSimulatorsHelpShowsFaultsThatCanBeSet(t *testing.T) {
	url, _, stop := startSimulator(t, "")
	examples := regexp.MustCompile(`(?m)^    -d '(\{"rules".*)'$`).FindAllStringSubmatch(commandHelp(t, "simulator"), -1)
	require.Len(t, examples, 3)
	for _, example := range examples {
		answer, err := http.Post(url+"/simulator/faults", "", strings.NewReader(example[1]))
		require.NoError(t, err)
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.JSONEq(t, example[1], string(text))
	}
	http.DefaultClient.CloseIdleConnections()
	require.NoError(t, stop())
}

// Ctrl-C ends the simulator also while a call hangs by a fault.
func TestTheSimulatorEndsWhileACallHangs(t *testing.T) {
	url, _, stop := startSimulator(t, "")
	post := func(path, body string) (text string, err error) {
		answer, err := http.Post(url+path, "application/json", strings.NewReader(body))
		if err != nil {
			return "", err
		}
		defer answer.Body.Close()
		all, err := io.ReadAll(answer.Body)
		return string(all), err
	}
	_, err := post("/simulator/faults", `{"rules":[{"api":"pay","faults":["hang_after"]}]}`)
	require.NoError(t, err)

	app := simulator.Demo().Apps["wx1234567"]
	const openid = "odkx20ENSNa2w5y3g_qOkOvBNM1g"
	issued, err := post("/cgi-bin/stable_token", `{"grant_type":"client_credential","appid":"wx1234567","secret":"`+app.Secret+`"}`)
	require.NoError(t, err)
	token := regexp.MustCompile(`"access_token":"([^"]*)"`).FindStringSubmatch(issued)[1]
	request, err := wechat.Decode(wechat.At(wechat.Pay, wechat.Official), []byte(`{"openid":"`+openid+`","amt":5,"bill_no":"b1"}`))
	require.NoError(t, err)
	request, err = request.Complete("wx1234567", app.OfferID)
	require.NoError(t, err)
	out := request.Sign(wechat.Keys{
		Midas:       signer.NewKey(app.MidasKey),
		Session:     signer.NewKey(app.Players[openid].SessionKey),
		AccessToken: secrets.NewValue(token),
	}, time.Now())

	hung := make(chan error, 1)
	go func() {
		_, err := post(out.Path()+"?"+out.Query(), string(out.Body()))
		hung <- err
	}()
	require.Eventually(t, func() bool {
		return strings.Contains(get(t, url+"/simulator/books"), `"balance":9995`)
	}, 5*time.Second, time.Millisecond)
	begin := time.Now()
	require.NoError(t, stop())
	require.ErrorIs(t, <-hung, io.EOF)
	require.Less(t, time.Since(begin), 4*time.Second, "it does not wait as for a call that may come to an end")
}

func commandHelp(t *testing.T, name string) string {
	t.Helper()
	command, known := caddycmd.Commands()[name]
	require.True(t, known)
	return command.Long
}
