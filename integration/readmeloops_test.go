package integration

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// client is a program of the README.
type client struct{ language, text string }

// readmeClients returns the README's programs whose language is installed, of those that
// hold a text and those that do not.
func readmeClients(t *testing.T, text string, holds bool) []client {
	t.Helper()
	var found []client
	for _, b := range readme(t) {
		how, known := clients[b.language]
		if !known || strings.Contains(b.text, text) != holds {
			continue
		}
		if _, err := exec.LookPath(how.command[0]); err != nil {
			t.Logf("the client in %s is not tried: %s is not installed", b.language, how.command[0])
			continue
		}
		found = append(found, client{b.language, b.text})
	}
	return found
}

// runner makes a program ready, moved to another address and with its waits left out, and
// returns what runs it.
func (c client) runner(t *testing.T, address string) func() string {
	t.Helper()
	dir, how := t.TempDir(), clients[c.language]
	text := strings.NewReplacer(
		"127.0.0.1:8080", address,
		"for wait in 0, 1, 5, 30, 120:", "for wait in 0, 0, 0, 0, 0:",
		"\t\ttime.Sleep(wait)\n", "\t\ttime.Sleep(0 * wait)\n",
	).Replace(c.text)
	file := filepath.Join(dir, how.file)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	command := append(how.command, file)
	if c.language == "go" { // compiled once
		command = []string{filepath.Join(dir, "pay")}
		out, err := exec.Command("go", "build", "-o", command[0], file).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	return func() string {
		program := exec.Command(command[0], command[1:]...)
		program.Dir = dir
		out, _ := program.CombinedOutput() // some end with a status of their own
		return string(out)
	}
}

// The README's loops, told one thing after the other: what they take for settled, and what
// they never do.
func TestTheREADMEsLoopsSettleAnOrderAsTheTableAboveThemSays(t *testing.T) {
	type told struct {
		outcome string // "" is an answer of something else, "gone" none
		status  int
	}
	always := func(one told) []told { return []told{one, one, one, one, one} }
	const paid, unpaid, unsettled = "paid", "not paid", "not settled"
	for _, loop := range readmeClients(t, "not settled", true) {
		var script atomic.Pointer[[]told]
		var calls atomic.Int32
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			lines := *script.Load()
			one := lines[min(int(calls.Add(1)), len(lines))-1]
			if one.outcome == "gone" {
				panic(http.ErrAbortHandler)
			}
			if one.outcome != "" {
				w.Header().Set("Midas-Outcome", one.outcome)
			}
			w.WriteHeader(one.status)
		}))
		t.Cleanup(server.Close)
		run := loop.runner(t, server.Listener.Addr().String())
		for _, c := range []struct {
			told  []told
			want  string
			calls int
		}{
			{[]told{{"applied", 200}}, paid, 1},
			{[]told{{"already_applied", 200}}, paid, 1},
			{[]told{{"duplicate", 200}}, paid, 1},
			{[]told{{"rejected", 200}}, unpaid, 1},
			{[]told{{"rejected", 401}}, unpaid, 1},
			{[]told{{"not_sent", 400}}, unpaid, 1},
			{[]told{{"not_sent", 503}, {"rejected", 200}}, unpaid, 2},
			{[]told{{"not_sent", 503}, {"applied", 200}}, paid, 2},
			{[]told{{"unknown", 504}, {"rejected", 200}, {"not_sent", 400}, {"duplicate", 200}}, paid, 4},
			{[]told{{"gone", 0}, {"rejected", 200}, {"already_applied", 200}}, paid, 3},
			{[]told{{"", 200}, {"rejected", 200}, {"duplicate", 200}}, paid, 3},
			{[]told{{"", 502}, {"not_sent", 400}, {"applied", 200}}, paid, 3},
			{append([]told{{"unknown", 504}}, always(told{"rejected", 200})...), unsettled, 5},
			{always(told{"unknown", 504}), unsettled, 5},
			{always(told{"gone", 0}), unsettled, 5},
			{always(told{"", 200}), unsettled, 5},
		} {
			t.Run(fmt.Sprint(loop.language, c.told), func(t *testing.T) {
				script.Store(&c.told)
				calls.Store(0)
				out, got := run(), unpaid
				switch {
				case strings.Contains(out, "not settled"):
					got = unsettled
				case strings.Contains(out, "applied"):
					got = paid
				}
				require.Equal(t, c.want, got, out)
				require.EqualValues(t, c.calls, calls.Load(), out)
			})
		}
	}
}

// A sidecar that is away is an end that is unknown, not one of the game server.
func TestTheREADMEsClientsSayThatTheSidecarIsAway(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	samples := readmeClients(t, "not settled", false)
	require.NotEmpty(t, samples)
	for _, sample := range samples {
		t.Run(sample.language, func(t *testing.T) {
			t.Parallel()
			out := sample.runner(t, listener.Addr().String())()
			require.Regexp(t, `^no answer, so unknown: call again with the same bill_no: \S.*\n$`, out)
		})
	}
}
