package payment_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/upstream"
	"midas-sidecar/internal/wechat"
)

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
			require.Equal(t, outcome.Applied, through(s).Process(ctx, anOrder(t, api), wallet{}).Outcome)
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
	require.Equal(t, outcome.Applied, through(s).Process(ctx, anOrder(t, wechat.Pay), wallet{}).Outcome)
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
		require.Equal(t, outcome.Unknown, through(s).Process(t.Context(), anOrder(t, wechat.Pay), wallet{}).Outcome)
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
		require.Equal(t, outcome.Unknown, answer.Outcome)
		require.Equal(t, 4, answer.Attempts) // three seconds each, and the one that is left
		require.Equal(t, 10*time.Second, time.Since(began))
	})
}

func TestAStoreThatHangsTakesNoLongerThanTheDeadline(t *testing.T) {
	for problem, lacks := range map[outcome.ErrorCode]wallet{
		outcome.SecretsUnavailable: {session: context.DeadlineExceeded},
		outcome.TokenUnavailable:   {token: context.DeadlineExceeded},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, began := plays(), time.Now()
			answer := through(s).Process(t.Context(), anOrder(t, wechat.Pay), lacks)
			require.Equal(t, problem, answer.ErrorCode)
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
