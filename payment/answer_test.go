package payment_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/payment"
	"midas-sidecar/secrets"
	"midas-sidecar/upstream"
	"midas-sidecar/wechat"
)

func TestWhatWeChatSaysIsPassedOnForWhatItMeans(t *testing.T) {
	for _, c := range []struct {
		api      *wechat.API
		exchange upstream.Exchange
		want     payment.Outcome
	}{
		{wechat.Pay, says(0, "ok"), payment.Applied},
		{wechat.CancelPay, says(0, "ok"), payment.Applied},
		{wechat.Present, says(0, "ok"), payment.Applied},
		{wechat.GetBalance, answers(200, `{"errcode":0,"balance":1e3}`), payment.Applied},
		{wechat.Pay, answers(200, " {\"bill_no\":\"b1\",\"errcode\":0}\n"), payment.Applied},

		{wechat.Pay, says(90012, "exists"), payment.Duplicate},
		{wechat.Present, says(90012, "exists"), payment.Duplicate},
		{wechat.CancelPay, says(90015, "returned"), payment.Duplicate},

		{wechat.Pay, says(90013, "short"), payment.Rejected},
		{wechat.Pay, says(90015, "of a cancel"), payment.Rejected},
		{wechat.Pay, says(90016, "of a cancel"), payment.Rejected},
		{wechat.Pay, says(90017, "no permission"), payment.Rejected},
		{wechat.Pay, says(90018, "parameter"), payment.Rejected},
		{wechat.Pay, says(45009, "quota"), payment.Rejected},
		{wechat.Pay, says(123456, "undocumented"), payment.Rejected},
		{wechat.Pay, says(-2, "undocumented"), payment.Rejected},
		{wechat.Pay, answers(404, `{"errcode":48017}`), payment.Rejected},
		{wechat.CancelPay, says(90000, "no such order"), payment.Rejected},
		{wechat.CancelPay, says(90012, "of a pay"), payment.Rejected},
		{wechat.CancelPay, says(90014, "confirmed"), payment.Rejected},
		{wechat.GetBalance, says(90018, "parameter"), payment.Rejected},
		{wechat.GetBalance, says(90012, "of a pay"), payment.Rejected},

		// Nothing else is there to sign with.
		{wechat.Pay, says(40001, "token"), payment.Rejected},
		{wechat.Pay, says(40014, "token"), payment.Rejected},
		{wechat.Pay, says(42001, "token"), payment.Rejected},
		{wechat.Pay, says(90011, "sig"), payment.Rejected},
		{wechat.PayV2, says(90011, "pay_sig"), payment.Rejected},

		{wechat.PayV2, says(0, "ok"), payment.Applied},
		{wechat.CancelPayV2, says(0, "ok"), payment.Applied},
		{wechat.PresentV2, says(0, "ok"), payment.Applied},
		{wechat.GetBalanceV2, says(0, "ok"), payment.Applied},
		{wechat.QueryOrderInfo, says(0, "ok"), payment.Applied},
		{wechat.PayV2, says(90012, "exists"), payment.Duplicate},
		{wechat.PresentV2, says(90012, "exists"), payment.Duplicate},
		{wechat.CancelPayV2, says(90012, "exists"), payment.Duplicate},
		{wechat.PayV2, says(90013, "short"), payment.Rejected},
		{wechat.PayV2, says(90009, "of v1"), payment.Rejected},
		{wechat.CancelPayV2, says(90000, "no such order"), payment.Rejected},
		{wechat.CancelPayV2, says(90015, "of v1"), payment.Rejected},
		{wechat.QueryOrderInfo, says(90012, "of a pay"), payment.Rejected},
		{wechat.QueryOrderInfo, says(90019, "no such number"), payment.Rejected},
		{wechat.PayV2, says(-1, "system busy"), payment.Unknown},
		{wechat.CancelPayV2, says(-1, "system busy"), payment.Unknown},
		{wechat.PayV2, says(-1, "1034-131-0 balance"), payment.Rejected},

		{wechat.Pay, says(-1, "system busy"), payment.Unknown},
		{wechat.CancelPay, says(-1, "system busy"), payment.Unknown},
		{wechat.CancelPay, says(90016, "in progress"), payment.Unknown},
		{wechat.GetBalance, says(-1, "system busy"), payment.Unknown},
		{wechat.Pay, says(-1, "1034-131-0 balance"), payment.Rejected},
		{wechat.Pay, says(-1, "1021-1021-0 currency"), payment.Rejected},
		{wechat.Pay, says(-1, "not 1034-131-0"), payment.Unknown},

		// A 5xx may come from anybody on the way, but says what -1 says.
		{wechat.Pay, answers(500, `{"errcode":-1,"errmsg":"system busy"}`), payment.Unknown},
		{wechat.Pay, answers(503, `{"errcode":-1,"errmsg":"1034-131-0 balance"}`), payment.Unknown},
	} {
		t.Run(fmt.Sprintf("%s %s %d %s", c.api.Family.Name, c.api, c.exchange.Status, c.exchange.Body), func(t *testing.T) {
			answer := through(plays(c.exchange)).Process(t.Context(), anOrder(t, c.api), wallet{})
			require.Equal(t, payment.Answer{
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
				require.Equal(t, payment.Unknown, answer.Outcome)
				require.Equal(t, payment.OutcomeUnknown, answer.Problem)
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

// WeChat's codes for a player who is not, or no longer, logged in.
var sessionRefusals = []struct {
	api     *wechat.API
	errcode int
}{
	{wechat.Pay, 90009},
	{wechat.Pay, 90010},
	{wechat.CancelPay, 90010},
	{wechat.GetBalance, 90009},
	{wechat.PayV2, 90010},
	{wechat.PayV2, 90016},
	{wechat.CancelPayV2, 90016},
	{wechat.QueryOrderInfo, 90016},
}

func TestAPlayerWhoseSessionIsRefusedAndHasNotChangedHasToLogInAgain(t *testing.T) {
	for _, c := range sessionRefusals {
		for reason, w := range map[string]wallet{
			"unchanged": {},
			"gone":      {renewing: fmt.Errorf("reading it: %w", secrets.ErrNotFound)},
		} {
			t.Run(fmt.Sprintf("%s %s %d, %s", c.api.Family.Name, c.api, c.errcode, reason), func(t *testing.T) {
				order := anOrder(t, c.api)
				s := plays(says(c.errcode, "session"), says(0, "ok"))
				answer := through(s).Process(t.Context(), order, w)
				billNo := ""
				if order.BillNo() != "" {
					billNo = `,"bill_no":"b1"`
				}
				require.Equal(t, fmt.Sprintf(`{"errcode":90010,"errmsg":"openid: WeChat refuses the session_key, and the secret store has no other; `+
					`have the client call wx.login and log the player in again","error":"session_missing","outcome":"rejected","attempts":1%s,"upstream_errcode":%d}`,
					billNo, c.errcode), string(answer.Body))
				require.Equal(t, payment.Rejected, answer.Outcome)
				require.Equal(t, payment.SessionMissing, answer.Problem)
				require.Equal(t, 401, answer.Status)
				require.Equal(t, 90010, answer.Errcode)
				require.Equal(t, 1, answer.Attempts)
				require.Len(t, s.sent, 1)
			})
		}
	}
}

func TestARefusedSessionOfWhichNothingNewIsKnownIsPassedOn(t *testing.T) {
	for _, c := range sessionRefusals {
		for reason, w := range map[string]wallet{
			"the store is sealed":         {renewing: errors.New("sealed")},
			"the next is refused as well": {renewed: "2"},
			"there is none to v1":         {unsigned: true},
		} {
			t.Run(fmt.Sprintf("%s %s %d, %s", c.api.Family.Name, c.api, c.errcode, reason), func(t *testing.T) {
				if w.unsigned && c.api.Family == wechat.V2 {
					t.Skip("v2 has always one")
				}
				answer := through(plays(says(c.errcode, "session"), says(c.errcode, "session"))).Process(t.Context(), anOrder(t, c.api), w)
				require.Equal(t, fmt.Sprintf(`{"errcode":%d,"errmsg":"session"}`, c.errcode), string(answer.Body))
				require.Equal(t, payment.Rejected, answer.Outcome)
				require.Empty(t, answer.Problem)
				require.Equal(t, 1+len(w.renewed), answer.Attempts)
			})
		}
	}
}

func TestARefusedSessionAfterALostAnswerProvesNothing(t *testing.T) {
	for _, c := range sessionRefusals {
		if !c.api.Moves {
			continue
		}
		answer := through(plays(answers(502, ""), says(c.errcode, "session"))).Process(t.Context(), anOrder(t, c.api), wallet{})
		require.Equal(t, payment.Unknown, answer.Outcome)
		require.Equal(t, payment.OutcomeUnknown, answer.Problem)
		require.Contains(t, string(answer.Body), fmt.Sprintf(`"upstream_errcode":%d`, c.errcode))
	}
}

func TestWithoutAConnectionNothingIsSent(t *testing.T) {
	refused := upstream.Exchange{Err: errors.New("connection refused")}
	answer := through(plays(refused, refused)).Process(t.Context(), anOrder(t, wechat.Pay), wallet{})
	require.Equal(t, payment.Answer{
		Outcome:     payment.NotSent,
		Errcode:     -1,
		Problem:     payment.UpstreamUnreachable,
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
		problem      payment.Problem
		status, code int
		errmsg       string
		retryAfter   int
	}{
		{"the store is sealed", wallet{midas: sealed}, payment.SecretsUnavailable, 503, -1, "the Midas key cannot be read", 2},
		{"there is no Midas key", wallet{midas: absent}, payment.SecretsUnavailable, 503, -1, "the Midas key cannot be read", 2},
		{"the store is sealed by then", wallet{session: sealed}, payment.SecretsUnavailable, 503, -1, "the session_key cannot be read", 2},
		{"the player has no session", wallet{session: absent}, payment.SessionMissing, 401, 90010, "openid: has no session_key in the secret store; the player must log in", 0},
		{"there is no token", wallet{token: sealed}, payment.TokenUnavailable, 503, -1, "the access_token cannot be had", 2},
		{"a token that should be stored is not", wallet{token: absent}, payment.TokenUnavailable, 503, -1, "the access_token cannot be had", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := plays()
			answer := through(s).Process(t.Context(), anOrder(t, wechat.Pay), c.lacks)
			require.Empty(t, s.sent)
			require.Equal(t, fmt.Sprintf(`{"errcode":%d,"errmsg":%q,"error":%q,"outcome":"not_sent","attempts":0,"bill_no":"b1"}`, c.code, c.errmsg, c.problem), string(answer.Body))
			require.Equal(t, payment.NotSent, answer.Outcome)
			require.Equal(t, c.problem, answer.Problem)
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
		problem      payment.Problem
		status, code int
		outcome      payment.Outcome
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
		answer := payment.Own(c.problem, payment.Detail{})
		require.Equal(t, c.status, answer.Status, c.problem)
		require.Equal(t, c.code, answer.Errcode, c.problem)
		require.Equal(t, c.outcome, answer.Outcome, c.problem)
		require.Equal(t, c.retryAfter, answer.RetryAfter(), c.problem)
		require.Equal(t, "application/json", answer.ContentType)
	}
}

func TestAnAnswerOfOurOwnIsExactlyTheseBytes(t *testing.T) {
	answer := payment.Own(payment.InvalidRequest, payment.Detail{Message: "amt: must be a positive integer, got 0", BillNo: "b1"})
	require.Equal(t, `{"errcode":90018,"errmsg":"amt: must be a positive integer, got 0","error":"invalid_request",`+
		`"outcome":"not_sent","attempts":0,"bill_no":"b1"}`, string(answer.Body))

	code := 90013
	answer = payment.Own(payment.OutcomeUnknown, payment.Detail{Message: "lost", BillNo: "b1", Attempts: 2, UpstreamErrcode: &code})
	require.Equal(t, `{"errcode":-1,"errmsg":"lost","error":"outcome_unknown","outcome":"unknown","attempts":2,`+
		`"bill_no":"b1","upstream_errcode":90013}`, string(answer.Body))
}

func TestAProblemMayHaveAStatusThatFitsBetter(t *testing.T) {
	answer := payment.Own(payment.InvalidRequest, payment.Detail{Message: "method: must be POST", Status: http.StatusMethodNotAllowed})
	require.Equal(t, 405, answer.Status)
	require.Equal(t, 90018, answer.Errcode)
}

func TestACallerThatHasHungUpStillGetsItsOrder(t *testing.T) {
	for _, api := range wechat.APIs {
		t.Run(api.Family.Name+" "+api.Name, func(t *testing.T) {
			ctx, hangUp := context.WithCancel(t.Context())
			hangUp()
			s := plays(says(0, "ok"))
			s.lines[0] = func(ctx context.Context) upstream.Exchange {
				if ctx.Err() != nil {
					return upstream.Exchange{Err: ctx.Err()}
				}
				return says(0, "ok")
			}
			require.Equal(t, payment.Applied, through(s).Process(ctx, anOrder(t, api), wallet{}).Outcome)
		})
	}
}

func TestACallerThatHangsUpWhileItsOrderIsSentStillGetsIt(t *testing.T) {
	ctx, hangUp := context.WithCancel(t.Context())
	s := plays(says(0, "ok"))
	s.lines[0] = func(sending context.Context) upstream.Exchange {
		hangUp()
		require.NoError(t, sending.Err())
		return says(0, "ok")
	}
	require.Equal(t, payment.Applied, through(s).Process(ctx, anOrder(t, wechat.Pay), wallet{}).Outcome)
}

func hangs(ctx context.Context) upstream.Exchange {
	<-ctx.Done()
	return upstream.Exchange{Sent: true, Err: ctx.Err()}
}

func TestAnAttemptEndsWithItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := plays(says(0, "ok"))
		s.lines[0] = hangs
		began := time.Now()
		require.Equal(t, payment.Unknown, through(s).Process(t.Context(), anOrder(t, wechat.Pay), wallet{}).Outcome)
		require.Equal(t, 3*time.Second, time.Since(began))
	})
}

func TestAnOrderEndsWithItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(script)
		for range 100 {
			s.lines = append(s.lines, hangs)
		}
		began := time.Now()
		answer := through(s).Process(t.Context(), anOrder(t, wechat.Pay), wallet{})
		require.Equal(t, payment.Unknown, answer.Outcome)
		require.Equal(t, 4, answer.Attempts) // three seconds each, and the one that is left
		require.Equal(t, 10*time.Second, time.Since(began))
	})
}

func TestAStoreThatHangsTakesNoLongerThanTheDeadline(t *testing.T) {
	for problem, lacks := range map[payment.Problem]wallet{
		payment.SecretsUnavailable: {session: context.DeadlineExceeded},
		payment.TokenUnavailable:   {token: context.DeadlineExceeded},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, began := plays(), time.Now()
			answer := through(s).Process(t.Context(), anOrder(t, wechat.Pay), lacks)
			require.Equal(t, problem, answer.Problem)
			require.Empty(t, s.sent)
			require.Equal(t, 10*time.Second, time.Since(began))
		})
	}
}

func TestEveryAttemptIsSignedForItsOwnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := plays(says(0, ""), says(0, "ok"))
		s.lines[0] = hangs
		through(s).Process(t.Context(), anOrder(t, wechat.Pay), wallet{})
		now := time.Now().Unix()
		require.Contains(t, string(s.sent[0].Body()), fmt.Sprintf(`"ts":%d`, now-3))
		require.Contains(t, string(s.sent[1].Body()), fmt.Sprintf(`"ts":%d`, now))
	})
}

// Whatever the exchanges of an order were, the answer says no more than they prove.
func TestNoAnswerSaysMoreThanTheExchangesProve(t *testing.T) {
	for seed := range uint64(10_000) {
		random := rand.New(rand.NewPCG(seed, 0))
		order := anOrder(t, wechat.APIs[random.IntN(len(wechat.APIs))])
		var drawn []drawn
		s := new(script)
		for range 1 + random.IntN(4) {
			d := draw(random)
			drawn = append(drawn, d)
			s.lines = append(s.lines, func(context.Context) upstream.Exchange { return d.Exchange })
		}
		answer := through(s).Process(t.Context(), order, wallet{renewed: []string{"", "2"}[random.IntN(2)]})
		if rule := broken(order.Endpoint().API, drawn[:len(s.sent)], answer); rule != "" {
			t.Fatalf("seed %d, %s %+v: %s: %s %s", seed, order.Endpoint().Path, drawn, rule, answer.Outcome, answer.Body)
		}
	}
}

// drawn is a random exchange. It knows what a reader can rely on.
type drawn struct {
	upstream.Exchange
	readable bool // whole, and not by a gateway
	errcode  int
}

func draw(random *rand.Rand) drawn {
	codes := []int{0, 0, -1, 90000, 90009, 90010, 90011, 90012, 90013, 90014, 90015, 90016, 90018, 40001, 7}
	errcode := codes[random.IntN(len(codes))]
	body := fmt.Sprintf(`{"errcode":%d,"errmsg":"m"}`, errcode)
	status := []int{200, 200, 200, 404, 500, 503}[random.IntN(6)]
	switch random.IntN(6) {
	case 0:
		return drawn{Exchange: upstream.Exchange{Err: errors.New("refused")}}
	case 1:
		return drawn{Exchange: upstream.Exchange{Sent: true, Err: io.ErrUnexpectedEOF}}
	case 2:
		return drawn{Exchange: answers(status, body[:random.IntN(len(body))])}
	default:
		return drawn{answers(status, body), status < 500, errcode}
	}
}

// broken names the promise that an answer breaks, "" for none.
func broken(api *wechat.API, exchanges []drawn, answer payment.Answer) string {
	done := map[*wechat.API]int{
		wechat.Pay: 90012, wechat.Present: 90012, wechat.CancelPay: 90015,
		wechat.PayV2: 90012, wechat.PresentV2: 90012, wechat.CancelPayV2: 90012,
	}[api]
	sent, doubt := 0, false // doubt: one before the last may have had an effect
	for i, e := range exchanges {
		if e.Sent {
			sent++
		}
		unsure := e.Sent && !e.readable || e.readable && (e.errcode == -1 || e.errcode == 90016 && api == wechat.CancelPay)
		if i < len(exchanges)-1 {
			doubt = doubt || unsure && api.Moves
		}
	}
	last := exchanges[len(exchanges)-1]
	open := last.errcode == -1 || last.errcode == 90016 && api == wechat.CancelPay
	proof := !doubt || last.errcode == 0 || last.errcode == done ||
		api == wechat.CancelPay && (last.errcode == 90000 || last.errcode == 90014) ||
		api == wechat.CancelPayV2 && last.errcode == 90000
	switch {
	case answer.Attempts != sent:
		return "attempts are miscounted"
	case len(answer.Body) == 0 || answer.Status < 200:
		return "there is no answer"
	}
	switch answer.Outcome {
	case payment.Applied:
		if !last.readable || last.errcode != 0 || answer.Errcode != 0 {
			return "applied without an errcode 0"
		}
	case payment.AlreadyApplied, payment.Duplicate:
		if !last.readable || last.errcode != done || doubt != (answer.Outcome == payment.AlreadyApplied) {
			return "wrong about who was first"
		}
	case payment.Rejected:
		refused := false // the last that was sent, by a whole answer
		for _, e := range exchanges {
			if e.Sent {
				refused = e.readable && e.errcode != 0 && e.errcode != -1 && e.errcode != done
			}
		}
		if !refused || !proof || answer.Errcode == 0 || answer.Errcode == -1 {
			return "rejected without a refusal that proves it"
		}
	case payment.Unknown:
		if answer.Errcode != -1 && !(answer.Errcode == 90016 && api == wechat.CancelPay) {
			return "unknown, and the errcode does not say so"
		}
		if last.readable && !open && proof {
			return "unknown, though the last answer proves it"
		}
	case payment.NotSent:
		if sent > 0 {
			return "not sent, and sent"
		}
	default:
		return "no such outcome"
	}
	return ""
}
