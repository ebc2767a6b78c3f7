package payment_test

import (
	"errors"
	"os"
	"regexp"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/upstream"
	"midas-sidecar/internal/wechat"
)

// said is what WeChat may say to a first attempt, and what the sidecar does then. The rows
// are those of README's table "WeChat said"; a row that either of them lacks fails the test.
var said = []struct {
	row      string // begins like this in the README
	api      *wechat.API
	exchange upstream.Exchange
	wallet   wallet
	attempts int // of them, all but the first are answered with 0
	outcome  outcome.Outcome
}{
	{"nothing: no connection", wechat.Pay, upstream.Exchange{Err: errors.New("refused")}, wallet{}, 1, outcome.Applied},
	{"nothing after it was sent", wechat.Pay, upstream.Exchange{Sent: true, Err: errors.New("reset")}, wallet{}, 2, outcome.Applied},
	{"nothing after it was sent", wechat.Pay, answers(502, `{"errcode":0}`), wallet{}, 2, outcome.Applied},
	{"nothing after it was sent", wechat.PayV2, answers(302, `{"errcode":0}`), wallet{}, 2, outcome.Applied},
	{"nothing after it was sent", wechat.PayV2, answers(200, `<html>`), wallet{}, 2, outcome.Applied},
	{"-1 |", wechat.Pay, says(-1, "system busy"), wallet{}, 2, outcome.Applied},
	{"-1 |", wechat.CancelPayV2, says(-1, "system busy"), wallet{}, 2, outcome.Applied},
	{"-1 with", wechat.Pay, says(-1, "1034-131-0 balance"), wallet{}, 1, outcome.Rejected},
	{"-1 with", wechat.PayV2, says(-1, "1021-1021-0"), wallet{}, 1, outcome.Rejected},
	{"-1 with", wechat.Pay, says(-1, "1001-0-0 bad parameter(zoneid/pf)"), wallet{}, 1, outcome.Rejected},
	{"-1 with", wechat.Pay, says(-1, "2001-7-0 something new"), wallet{}, 2, outcome.Applied},
	{"45011", wechat.Pay, says(45011, "freq"), wallet{}, 1, outcome.Rejected},
	{"40001, 40014, 42001", wechat.Pay, says(40001, "token"), wallet{renewed: "2"}, 2, outcome.Applied},
	{"40001, 40014, 42001", wechat.PayV2, says(42001, "token"), wallet{}, 1, outcome.Rejected},
	{"90009, 90010; in v2", wechat.Pay, says(90009, "mp_sig"), wallet{renewed: "2"}, 2, outcome.Applied},
	{"90009, 90010; in v2", wechat.Pay, says(90010, "login"), wallet{}, 1, outcome.Rejected},
	{"90009, 90010; in v2", wechat.PayV2, says(90016, "login"), wallet{renewed: "2"}, 2, outcome.Applied},
	{"90011", wechat.Pay, says(90011, "sig"), wallet{renewed: "2"}, 2, outcome.Applied},
	{"90011", wechat.PayV2, says(90011, "pay_sig"), wallet{}, 1, outcome.Rejected},
	{"90016 to a cancelpay", wechat.CancelPay, says(90016, "processing"), wallet{}, 2, outcome.Applied},
	{"90000 (no such order)", wechat.CancelPay, says(90000, "no such order"), wallet{}, 1, outcome.Rejected},
	{"anything else", wechat.Pay, says(0, "ok"), wallet{}, 1, outcome.Applied},
	{"anything else", wechat.Pay, says(90012, "exists"), wallet{}, 1, outcome.Duplicate},
	{"anything else", wechat.Pay, says(90013, "short"), wallet{}, 1, outcome.Rejected},
	{"anything else", wechat.Pay, says(90007, "openid"), wallet{}, 1, outcome.Rejected},
	{"anything else", wechat.Pay, says(123456, "new"), wallet{}, 1, outcome.Rejected},
}

func TestAttempts(t *testing.T) {
	rows := readmeRows(t)
	for _, c := range said {
		t.Run(c.row, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := plays(c.exchange, says(0, "ok"), says(0, "ok"), says(0, "ok"))
				answer := through(s).Process(t.Context(), anOrder(t, c.api), c.wallet)
				require.Equal(t, c.outcome, answer.Outcome)
				require.Equal(t, c.attempts, answer.Attempts, "the script has answers to spare")
			})
		})
		found := false
		for row := range rows {
			if len(row) >= len(c.row) && row[:len(c.row)] == c.row {
				rows[row], found = true, true
			}
		}
		require.True(t, found, "README's table has no row %q", c.row)
	}
	for row, tested := range rows {
		require.True(t, tested, "README's row has no test: %s", row)
	}
}

func TestAttempts_noSuchOrderYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := plays(upstream.Exchange{Sent: true, Err: errors.New("reset")}, says(90000, "no such order"), says(0, "ok"), says(0, "ok"))
		p := through(s)
		p.Replay = replay
		s.lines = s.lines[:1]
		require.Equal(t, outcome.Unknown, p.Process(t.Context(), anOrder(t, wechat.Pay), wallet{}).Outcome)
		s.lines = s.lines[:4]
		answer := p.Process(t.Context(), anOrder(t, wechat.CancelPay), wallet{})
		require.Equal(t, outcome.Applied, answer.Outcome, "the pay may have landed since")
		require.Equal(t, 2, answer.Attempts)
	})
}

// readmeRows returns the rows of README's table "WeChat said".
func readmeRows(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	table := regexp.MustCompile(`(?m)^\| WeChat said \|.*\n\|.*\n((?:\|.*\n)+)`).FindSubmatch(text)
	require.NotNil(t, table)
	rows := make(map[string]bool)
	for _, row := range regexp.MustCompile(`(?m)^\| (.*)$`).FindAllSubmatch(table[1], -1) {
		rows[string(row[1])] = false
	}
	return rows
}
