package payment_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/upstream"
	"midas-sidecar/internal/wechat"
)

func TestWhatWeChatSaysIsPassedOnForWhatItMeans(t *testing.T) {
	for _, c := range []struct {
		api      *wechat.API
		exchange upstream.Exchange
		want     outcome.Outcome
	}{
		{wechat.Pay, says(0, "ok"), outcome.Applied},
		{wechat.CancelPay, says(0, "ok"), outcome.Applied},
		{wechat.Present, says(0, "ok"), outcome.Applied},
		{wechat.GetBalance, answers(200, `{"errcode":0,"balance":1e3}`), outcome.Applied},
		{wechat.Pay, answers(200, " {\"bill_no\":\"b1\",\"errcode\":0}\n"), outcome.Applied},

		{wechat.Pay, says(90012, "exists"), outcome.Duplicate},
		{wechat.Present, says(90012, "exists"), outcome.Duplicate},
		{wechat.CancelPay, says(90015, "returned"), outcome.Duplicate},

		{wechat.Pay, says(90013, "short"), outcome.Rejected},
		{wechat.Pay, says(90015, "of a cancel"), outcome.Rejected},
		{wechat.Pay, says(90016, "of a cancel"), outcome.Rejected},
		{wechat.Pay, says(90017, "no permission"), outcome.Rejected},
		{wechat.Pay, says(90018, "parameter"), outcome.Rejected},
		{wechat.Pay, says(45009, "quota"), outcome.Rejected},
		{wechat.Pay, says(123456, "undocumented"), outcome.Rejected},
		{wechat.Pay, says(-2, "undocumented"), outcome.Rejected},
		{wechat.Pay, answers(404, `{"errcode":48017}`), outcome.Rejected},
		{wechat.CancelPay, says(90000, "no such order"), outcome.Rejected},
		{wechat.CancelPay, says(90012, "of a pay"), outcome.Rejected},
		{wechat.CancelPay, says(90014, "confirmed"), outcome.Rejected},
		{wechat.GetBalance, says(90018, "parameter"), outcome.Rejected},
		{wechat.GetBalance, says(90012, "of a pay"), outcome.Rejected},

		// Nothing else is there to sign with.
		{wechat.Pay, says(40001, "token"), outcome.Rejected},
		{wechat.Pay, says(40014, "token"), outcome.Rejected},
		{wechat.Pay, says(42001, "token"), outcome.Rejected},
		{wechat.Pay, says(90011, "sig"), outcome.Rejected},
		{wechat.PayV2, says(90011, "pay_sig"), outcome.Rejected},

		{wechat.PayV2, says(0, "ok"), outcome.Applied},
		{wechat.CancelPayV2, says(0, "ok"), outcome.Applied},
		{wechat.PresentV2, says(0, "ok"), outcome.Applied},
		{wechat.GetBalanceV2, says(0, "ok"), outcome.Applied},
		{wechat.QueryOrderInfo, says(0, "ok"), outcome.Applied},
		{wechat.PayV2, says(90012, "exists"), outcome.Duplicate},
		{wechat.PresentV2, says(90012, "exists"), outcome.Duplicate},
		{wechat.CancelPayV2, says(90012, "exists"), outcome.Duplicate},
		{wechat.PayV2, says(90013, "short"), outcome.Rejected},
		{wechat.PayV2, says(90009, "of v1"), outcome.Rejected},
		{wechat.CancelPayV2, says(90000, "no such order"), outcome.Rejected},
		{wechat.CancelPayV2, says(90015, "of v1"), outcome.Rejected},
		{wechat.QueryOrderInfo, says(90012, "of a pay"), outcome.Rejected},
		{wechat.QueryOrderInfo, says(90019, "no such number"), outcome.Rejected},
		{wechat.PayV2, says(-1, "system busy"), outcome.Unknown},
		{wechat.CancelPayV2, says(-1, "system busy"), outcome.Unknown},
		{wechat.PayV2, says(-1, "1034-131-0 balance"), outcome.Rejected},

		{wechat.Pay, says(-1, "system busy"), outcome.Unknown},
		{wechat.CancelPay, says(-1, "system busy"), outcome.Unknown},
		{wechat.CancelPay, says(90016, "in progress"), outcome.Unknown},
		{wechat.GetBalance, says(-1, "system busy"), outcome.Unknown},
		{wechat.Pay, says(-1, "1034-131-0 balance"), outcome.Rejected},
		{wechat.Pay, says(-1, "1021-1021-0 currency"), outcome.Rejected},
		{wechat.Pay, says(-1, "not 1034-131-0"), outcome.Unknown},

		// A 5xx may come from anybody on the way, but says what -1 says.
		{wechat.Pay, answers(500, `{"errcode":-1,"errmsg":"system busy"}`), outcome.Unknown},
		{wechat.Pay, answers(503, `{"errcode":-1,"errmsg":"1034-131-0 balance"}`), outcome.Unknown},
	} {
		t.Run(fmt.Sprintf("%s %s %d %s", c.api.Family.Name, c.api, c.exchange.Status, c.exchange.Body), func(t *testing.T) {
			answer := through(plays(c.exchange)).Process(t.Context(), anOrder(t, c.api), wallet{})
			require.Equal(t, outcome.Answer{
				Outcome:     c.want,
				Attempts:    1,
				Errcode:     errcodeOf(t, c.exchange.Body),
				Status:      c.exchange.Status,
				ContentType: c.exchange.ContentType,
				Body:        c.exchange.Body,
			}, answer)
		})
	}
}

func errcodeOf(t *testing.T, body []byte) int {
	t.Helper()
	var answer struct{ Errcode *int }
	require.NoError(t, json.Unmarshal(body, &answer), "%s", body)
	require.NotNil(t, answer.Errcode)
	return *answer.Errcode
}

// lost are the exchanges after which nobody knows what became of the order.
var lost = map[string]upstream.Exchange{
	"a timeout":                        {Sent: true, Err: context.DeadlineExceeded},
	"a reset":                          {Sent: true, Err: io.ErrUnexpectedEOF},
	"an empty answer":                  answers(200, ""),
	"a truncated answer":               answers(200, `{"errcode":0,"errm`),
	"a 200 of HTML":                    answers(200, "<html>"),
	"a 502 of HTML":                    answers(502, "<html>"),
	"a 502 of nothing":                 answers(502, ""),
	"a redirect":                       answers(301, ""),
	"a redirect that says 0":           answers(302, `{"errcode":0}`),
	"a status that is none":            answers(0, `{"errcode":0}`),
	"a status that is no answer's":     answers(99, `{"errcode":0}`),
	"a status beyond all":              answers(600, `{"errcode":0}`),
	"an answer without errcode":        answers(200, `{"errmsg":"ok"}`),
	"an answer with two errcodes":      answers(200, `{"errcode":90013,"errcode":0}`),
	"an errcode that is a text":        answers(200, `{"errcode":"0"}`),
	"a 500 that says 0":                answers(500, `{"errcode":0}`),
	"a 500 that says 90012":            answers(500, `{"errcode":90012}`),
	"a 503 that says 90013":            answers(503, `{"errcode":90013}`),
	"a 500 that says a token is wrong": answers(500, `{"errcode":40001}`),
}

func TestWhatIsLostIsUnknown(t *testing.T) {
	for name, exchange := range lost {
		for _, api := range []*wechat.API{wechat.Pay, wechat.CancelPay, wechat.Present, wechat.PayV2, wechat.CancelPayV2, wechat.PresentV2} {
			t.Run(fmt.Sprintf("%s, %s %s", name, api.Family.Name, api), func(t *testing.T) {
				answer := through(plays(exchange)).Process(t.Context(), anOrder(t, api), wallet{})
				require.Equal(t, `{"errcode":-1,"errmsg":"it is not known whether the order was carried out; call again with the same bill_no, or cancel it",`+
					`"error":"outcome_unknown","outcome":"unknown","attempts":1,"bill_no":"b1"}`, string(answer.Body))
				require.Equal(t, outcome.Unknown, answer.Outcome)
				require.Equal(t, outcome.OutcomeUnknown, answer.ErrorCode)
				require.Equal(t, 504, answer.Status)
				require.Equal(t, -1, answer.Errcode)
				require.Equal(t, 1, answer.Attempts)
				require.Error(t, answer.Cause)
			})
		}
	}
}

func TestAReadThatIsLostMayJustBeRepeated(t *testing.T) {
	for name, exchange := range lost {
		t.Run(name, func(t *testing.T) {
			answer := through(plays(exchange)).Process(t.Context(), anOrder(t, wechat.GetBalance), wallet{})
			require.Equal(t, `{"errcode":-1,"errmsg":"WeChat gave no answer; call again",`+
				`"error":"outcome_unknown","outcome":"unknown","attempts":1}`, string(answer.Body))
			require.Equal(t, 504, answer.Status)
		})
	}
}

func TestWithoutAConnectionNothingIsSent(t *testing.T) {
	refused := upstream.Exchange{Err: errors.New("connection refused")}
	answer := through(plays(refused, refused)).Process(t.Context(), anOrder(t, wechat.Pay), wallet{})
	require.Equal(t, outcome.Answer{
		Outcome:     outcome.NotSent,
		Errcode:     -1,
		ErrorCode:   outcome.UpstreamUnreachable,
		Cause:       refused.Err,
		Status:      502,
		ContentType: "application/json",
		Body: []byte(`{"errcode":-1,"errmsg":"no connection to WeChat","error":"upstream_unreachable",` +
			`"outcome":"not_sent","attempts":0,"bill_no":"b1"}`),
	}, answer)
}

func TestWithoutWhatItIsSignedWithAnOrderIsNotSent(t *testing.T) {
	sealed := errors.New("sealed")
	absent := fmt.Errorf("reading it: %w", secrets.ErrNotFound)
	for _, c := range []struct {
		name         string
		lacks        wallet
		problem      outcome.ErrorCode
		status, code int
		errmsg       string
		retryAfter   int
	}{
		{"the store is sealed", wallet{midas: sealed}, outcome.SecretsUnavailable, 503, -1, "the Midas key cannot be read", 2},
		{"there is no Midas key", wallet{midas: absent}, outcome.SecretsUnavailable, 503, -1, "the Midas key cannot be read", 2},
		{"the store is sealed by then", wallet{session: sealed}, outcome.SecretsUnavailable, 503, -1, "the session_key cannot be read", 2},
		{"the player has no session", wallet{session: absent}, outcome.SessionMissing, 401, 90010, "openid: has no session_key in the secret store; the player must log in", 0},
		{"there is no token", wallet{token: sealed}, outcome.TokenUnavailable, 503, -1, "the access_token cannot be had", 2},
		{"a token that should be stored is not", wallet{token: absent}, outcome.TokenUnavailable, 503, -1, "the access_token cannot be had", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := plays()
			answer := through(s).Process(t.Context(), anOrder(t, wechat.Pay), c.lacks)
			require.Empty(t, s.sent)
			require.Equal(t, fmt.Sprintf(`{"errcode":%d,"errmsg":%q,"error":%q,"outcome":"not_sent","attempts":0,"bill_no":"b1"}`, c.code, c.errmsg, c.problem), string(answer.Body))
			require.Equal(t, outcome.NotSent, answer.Outcome)
			require.Equal(t, c.problem, answer.ErrorCode)
			require.Equal(t, c.status, answer.Status)
			require.Equal(t, c.code, answer.Errcode)
			require.Zero(t, answer.Attempts)
			require.Equal(t, c.retryAfter, answer.RetryAfter())
			require.Error(t, answer.Cause)
		})
	}
}

// The table of Midas-Error words, as users read it.
func TestEveryProblemHasItsStatusErrcodeAndOutcome(t *testing.T) {
	for _, c := range []struct {
		problem      outcome.ErrorCode
		status, code int
		outcome      outcome.Outcome
		retryAfter   int
	}{
		{"invalid_request", 400, 90018, "not_sent", 0},
		{"unknown_app", 403, 90017, "not_sent", 0},
		{"forbidden", 403, 90017, "not_sent", 0},
		{"session_missing", 401, 90010, "not_sent", 0},
		{"bill_no_conflict", 409, 90018, "not_sent", 0},
		{"secrets_unavailable", 503, -1, "not_sent", 2},
		{"token_unavailable", 503, -1, "not_sent", 2},
		{"upstream_unreachable", 502, -1, "not_sent", 0},
		{"outcome_unknown", 504, -1, "unknown", 0},
		{"taken_back", 409, 90015, "rejected", 0},
	} {
		answer := outcome.NewErrorAnswer(c.problem, outcome.ErrorDetail{})
		require.Equal(t, c.status, answer.Status, c.problem)
		require.Equal(t, c.code, answer.Errcode, c.problem)
		require.Equal(t, c.outcome, answer.Outcome, c.problem)
		require.Equal(t, c.retryAfter, answer.RetryAfter(), c.problem)
		require.Equal(t, "application/json", answer.ContentType)
	}
}

func TestAnAnswerOfOurOwnIsExactlyTheseBytes(t *testing.T) {
	answer := outcome.NewErrorAnswer(outcome.InvalidRequest, outcome.ErrorDetail{Message: "amt: must be a positive integer, got 0", BillNo: "b1"})
	require.Equal(t, `{"errcode":90018,"errmsg":"amt: must be a positive integer, got 0","error":"invalid_request",`+
		`"outcome":"not_sent","attempts":0,"bill_no":"b1"}`, string(answer.Body))

	code := 90013
	answer = outcome.NewErrorAnswer(outcome.OutcomeUnknown, outcome.ErrorDetail{Message: "lost", BillNo: "b1", Attempts: 2, UpstreamErrcode: &code})
	require.Equal(t, `{"errcode":-1,"errmsg":"lost","error":"outcome_unknown","outcome":"unknown","attempts":2,`+
		`"bill_no":"b1","upstream_errcode":90013}`, string(answer.Body))
}

func TestAProblemMayHaveAStatusThatFitsBetter(t *testing.T) {
	answer := outcome.NewErrorAnswer(outcome.InvalidRequest, outcome.ErrorDetail{Message: "method: must be POST", Status: http.StatusMethodNotAllowed})
	require.Equal(t, 405, answer.Status)
	require.Equal(t, 90018, answer.Errcode)
}
