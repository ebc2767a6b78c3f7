package payment_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/payment"
	"midas-sidecar/internal/upstream"
	"midas-sidecar/internal/wechat"
)

// watched sends an order through a script and returns what was observed.
func watched(t *testing.T, s *script, creds payment.Credentials) (seen []payment.Attempt, answer outcome.Answer) {
	t.Helper()
	p := through(s)
	p.Observe = func(a payment.Attempt) { seen = append(seen, a) }
	answer = p.Process(t.Context(), anOrder(t, wechat.Pay), creds)
	return seen, answer
}

func TestAnAttemptIsObservedWithItsEndAndWhatWeChatMeant(t *testing.T) {
	for name, c := range map[string]struct {
		exchange upstream.Exchange
		end      payment.End
		action   wechat.Action
	}{
		"applied":              {says(0, "ok"), payment.Answered, wechat.Applied},
		"refused":              {says(90013, "short"), payment.Answered, wechat.Refused},
		"done before":          {says(90012, "exists"), payment.Answered, wechat.Done},
		"busy":                 {says(-1, "busy"), payment.Answered, wechat.Unsure},
		"busy with a 5xx":      {answers(503, `{"errcode":-1}`), payment.Answered, wechat.Unsure},
		"a refused token":      {says(40001, "token"), payment.Answered, wechat.TokenRefused},
		"a refused session":    {says(90010, "login"), payment.Answered, wechat.SessionRefused},
		"a refused key":        {says(90011, "sig"), payment.Answered, wechat.KeyRefused},
		"no JSON":              {answers(200, "<html>"), payment.Lost, wechat.Refused},
		"a 5xx":                {answers(502, `{"errcode":0}`), payment.Lost, wechat.Refused},
		"no answer":            {upstream.Exchange{Sent: true, Err: errors.New("reset")}, payment.Lost, wechat.Refused},
		"no connection at all": {upstream.Exchange{Err: errors.New("no connection")}, payment.NeverSent, wechat.Refused},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				seen, _ := watched(t, plays(c.exchange), wallet{})
				require.Len(t, seen, 1)
				require.Equal(t, "wx1234567", seen[0].AppID)
				require.Equal(t, wechat.At(wechat.Pay, wechat.Official), seen[0].Endpoint)
				require.Equal(t, c.end, seen[0].End)
				require.Equal(t, c.action, seen[0].Action)
			})
		})
	}
}

func TestEachAttemptOfAnOrderIsObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := plays(
			upstream.Exchange{Err: errors.New("no connection")},
			upstream.Exchange{Sent: true, Err: errors.New("reset")},
			says(-1, "busy"),
			says(0, "ok"),
		)
		seen, answer := watched(t, s, wallet{})
		var ends []payment.End
		for _, a := range seen {
			ends = append(ends, a.End)
		}
		require.Equal(t, []payment.End{payment.NeverSent, payment.Lost, payment.Answered, payment.Answered}, ends)
		require.Equal(t, 3, answer.Attempts, "one of them never left")
	})
}

func TestAnAttemptIsObservedWithTheTimeThatItTook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{lines: []func(context.Context) upstream.Exchange{func(context.Context) upstream.Exchange {
			time.Sleep(1500 * time.Millisecond)
			return says(0, "ok")
		}}}
		seen, _ := watched(t, s, wallet{})
		require.Equal(t, 1500*time.Millisecond, seen[0].Took)
		require.Zero(t, seen[0].Signing, "no time passes while one signs here")
	})
}

func TestWithoutAnAttemptNothingIsObserved(t *testing.T) {
	seen, answer := watched(t, plays(says(0, "ok")), wallet{midas: errors.New("no key")})
	require.Equal(t, outcome.NotSent, answer.Outcome)
	require.Empty(t, seen)
}

func TestAnAnswerFromMemoryIsNoAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := through(plays(says(0, "ok")))
		p.Replay = time.Minute
		attempts := 0
		p.Observe = func(payment.Attempt) { attempts++ }
		p.Process(t.Context(), anOrder(t, wechat.Pay), wallet{})
		require.True(t, p.Process(t.Context(), anOrder(t, wechat.Pay), wallet{}).Replayed)
		require.Equal(t, 1, attempts)
	})
}

func TestTheCancelOfAnUnknownPayIsObservedAsACancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := plays(upstream.Exchange{Sent: true, Err: errors.New("reset")}, says(0, "ok"))
		p := through(s)
		p.CancelUnknown = true
		p.Jitter = func(time.Duration) time.Duration { return time.Hour }
		var seen []*wechat.API
		p.Observe = func(a payment.Attempt) { seen = append(seen, a.Endpoint.API) }
		p.Process(t.Context(), anOrder(t, wechat.Pay), wallet{})
		require.Equal(t, []*wechat.API{wechat.Pay, wechat.CancelPay}, seen)
	})
}
