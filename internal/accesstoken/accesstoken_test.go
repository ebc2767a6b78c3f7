package accesstoken_test

import (
	"context"
	"encoding/hex"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/accesstoken"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/secrets/secretstest"
	"midas-sidecar/internal/wechat"
)

func TestAHundredCallersWaitForOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(weChat)
		s := newStable(t, w)
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				got, err := s.Token(t.Context())
				assert.NoError(t, err)
				assert.Equal(t, "T1", got.Reveal())
			})
		}
		callers.Wait()
		require.Equal(t, 1, w.count())
	})
}

func TestTheQuestionIsOneOfNormalMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(weChat)
		token(t, newStable(t, w))
		require.Equal(t, wechat.StableTokenPath, w.asked[0].Path())
		require.Empty(t, w.asked[0].Query())
		// No force_refresh: it would take the token from every other process.
		require.JSONEq(t, `{"grant_type":"client_credential","appid":"`+appID+`","secret":"`+canary+`"}`, string(w.asked[0].Body()))
	})
}

func TestAKnownTokenIsGivenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(weChat)
		s := newStable(t, w)
		token(t, s)
		start := time.Now()
		for range 100 {
			require.Equal(t, "T1", token(t, s))
		}
		require.Zero(t, time.Since(start))
		require.Equal(t, 1, w.count())
	})
}

func TestAfterFiveMinutesTheTokenIsRenewedBehindTheCallersBacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(weChat)
		s := newStable(t, w)
		token(t, s)
		time.Sleep(5*time.Minute - time.Second) // which the answer took
		require.Equal(t, "T1", token(t, s))
		synctest.Wait()
		require.Equal(t, 1, w.count())

		time.Sleep(time.Nanosecond)
		start := time.Now()
		for range 100 {
			require.Equal(t, "T1", token(t, s))
		}
		require.Zero(t, time.Since(start))
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, 2, w.count())
		require.Equal(t, "T2", token(t, s))
	})
}

// It began when the token was asked for: how long the answer took, nobody knows.
func TestATokenIsNotUsedBeyondItsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(weChat)
		s := newStable(t, w)
		token(t, s)
		time.Sleep(2*time.Hour - time.Second - 1)
		require.Equal(t, "T1", token(t, s)) // the last moment, and a renewal begins
		time.Sleep(time.Second)
		require.Equal(t, "T2", token(t, s))

		time.Sleep(2 * time.Hour)
		start := time.Now()
		require.Equal(t, "T3", token(t, s))
		require.Equal(t, time.Second, time.Since(start))
	})
}

// In normal mode, WeChat gives the token in use until five minutes before its end.
func TestATokenWithFiveMinutesLeftIsUsedForHalfOfThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(weChat)
		w.answers(`{"access_token":"short","expires_in":300}`)
		s := newStable(t, w)
		require.Equal(t, "short", token(t, s))
		time.Sleep(149 * time.Second)
		require.Equal(t, "short", token(t, s))
		require.Equal(t, 1, w.count())

		w.answers("")
		time.Sleep(time.Nanosecond)
		require.Equal(t, "short", token(t, s))
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, "T2", token(t, s))
	})
}

func TestWhatIsWrongIsSaidWithoutTheSecret(t *testing.T) {
	for _, c := range []struct{ name, body, want string }{
		{"an errcode", `{"errcode":40125,"errmsg":"invalid appsecret ` + canary + `"}`, "WeChat refuses an access_token: errcode 40125 (the app secret is wrong)"},
		{"no token", `{"errcode":0,"secret":"` + canary + `"}`, "reading the token: the answer has no access_token or no expires_in"},
		{"HTML", `<html>` + canary, "reading the token: the answer is not a JSON object with an errcode"},
		{"a token that has expired", `{"access_token":"` + canary + `","expires_in":0}`, "the access_token that WeChat gave has expired"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := new(weChat)
				w.answers(c.body)
				require.EqualError(t, fails(t, newStable(t, w)), c.want)
			})
		})
	}
}

func TestAnErrcodeCanBeAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(weChat)
		w.answers(`{"errcode":40164,"errmsg":"invalid ip"}`)
		var refusal wechat.TokenError
		require.ErrorAs(t, fails(t, newStable(t, w)), &refusal)
		require.Equal(t, 40164, refusal.Errcode)
	})
}

func TestWithoutAnAppSecretWeChatIsNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(weChat)
		s, _ := newWith(t, func(context.Context, secrets.Value) (secrets.Value, error) {
			return secrets.Value{}, errors.New("sealed")
		}, w)
		require.EqualError(t, fails(t, s), "reading the app secret: sealed")
		require.Zero(t, w.count())
	})
}

func TestAFailureFailsAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(weChat)
		w.fails(errors.New("no route"))
		s := newStable(t, w)
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				_, err := s.Token(t.Context())
				assert.EqualError(t, err, "asking for the access_token: no route")
			})
		}
		callers.Wait()
		require.Equal(t, 1, w.count())
	})
}

func TestAfterAFailureWeChatIsLeftAloneForASecond(t *testing.T) {
	for _, c := range []struct {
		name, body string
		err        error
	}{
		{"no answer", "", errors.New("no route")},
		{"a busy WeChat", `{"errcode":-1}`, nil},
		{"a page of HTML", `<html>`, nil},
		{"a token that has expired", `{"access_token":"T","expires_in":0}`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := new(weChat)
				w.set(c.body, c.err)
				s := newStable(t, w)
				why := fails(t, s)
				w.set("", nil)
				time.Sleep(999 * time.Millisecond)
				require.Equal(t, why, fails(t, s))
				require.Equal(t, 1, w.count())
				time.Sleep(time.Millisecond)
				require.Equal(t, "T2", token(t, s))
			})
		})
	}
}

func TestAFailureLeavesAGoodTokenInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(weChat)
		s := newStable(t, w)
		token(t, s)
		w.fails(errors.New("no route"))
		time.Sleep(5 * time.Minute)
		for range 600 {
			require.Equal(t, "T1", token(t, s))
			time.Sleep(100 * time.Millisecond)
		}
		require.InDelta(t, 1+6, w.count(), 1, "one try in ten seconds, for a minute")

		time.Sleep(2 * time.Hour)
		require.EqualError(t, fails(t, s), "the last access_token has expired: asking for the access_token: no route")
		w.fails(nil)
		time.Sleep(time.Second)
		token(t, s)
	})
}

func TestACallerThatGivesUpDoesNotStopTheFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(weChat)
		s := newStable(t, w)
		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := s.Token(impatient)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.EqualError(t, err, "waiting for the access_token: context deadline exceeded")
		require.Equal(t, time.Millisecond, time.Since(start))

		require.Equal(t, "T1", token(t, s))
		require.Equal(t, 1, w.count())
	})
}

func TestAFetchTakesFiveSecondsAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s, _ := newWith(t, func(ctx context.Context, _ secrets.Value) (secrets.Value, error) {
			<-ctx.Done()
			return secrets.Value{}, ctx.Err()
		}, new(weChat))
		require.ErrorIs(t, fails(t, s), context.DeadlineExceeded)
		require.Equal(t, 5*time.Second, time.Since(start))
	})
}

// renew returns the token after WeChat refused another.
func renew(t *testing.T, s *accesstoken.Stable, failed string) string {
	t.Helper()
	got, err := s.Renew(t.Context(), secrets.NewValue(failed))
	require.NoError(t, err)
	return got.Reveal()
}

func TestARefusedTokenIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(weChat)
		s := newStable(t, w)
		token(t, s)
		time.Sleep(time.Minute)
		require.Equal(t, "T2", renew(t, s, "T1"))
		require.Equal(t, "T2", token(t, s))
	})
}

func TestAHundredRefusalsOfATokenAreOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(weChat)
		s := newStable(t, w)
		token(t, s)
		time.Sleep(time.Minute)
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				got, err := s.Renew(t.Context(), secrets.NewValue("T1"))
				assert.NoError(t, err)
				assert.Equal(t, "T2", got.Reveal())
			})
		}
		callers.Wait()
		require.Equal(t, 2, w.count())
	})
}

func TestALateRefusalOfTheOldTokenLeavesTheNewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(weChat)
		s := newStable(t, w)
		token(t, s)
		time.Sleep(time.Minute)
		require.Equal(t, "T2", renew(t, s, "T1"))
		time.Sleep(time.Minute)
		require.Equal(t, "T2", renew(t, s, "T1"))
		require.Equal(t, 2, w.count())
	})
}

func TestATokenThatIsRefusedAsSoonAsItIsThereIsAskedForAgainASecondAfterThat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &weChat{takes: 100 * time.Millisecond}
		s := newStable(t, w)
		token(t, s)
		began := time.Now()
		require.Equal(t, "T2", renew(t, s, "T1"))
		require.Equal(t, time.Second, time.Since(began), "what is left of the pause, and a fetch")
		require.Equal(t, 2, w.count())

		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		began = time.Now()
		got, err := s.Renew(impatient, secrets.NewValue("T2"))
		require.NoError(t, err)
		require.Equal(t, "T2", got.Reveal())
		require.Zero(t, time.Since(began), "there is no time to wait for another")
		require.Equal(t, 2, w.count())
	})
}

func TestARefusedTokenStaysInUseUntilThereIsAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(weChat)
		s := newStable(t, w)
		token(t, s)
		time.Sleep(time.Minute)
		w.fails(errors.New("no route"))
		require.Equal(t, "T1", renew(t, s, "T1"))
		require.Equal(t, "T1", token(t, s))
	})
}

func TestACallerThatGivesUpARenewalWaitsNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStable(t, new(weChat))
		token(t, s)
		time.Sleep(time.Minute)
		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := s.Renew(impatient, secrets.NewValue("T1"))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(time.Second)
		require.Equal(t, "T2", token(t, s))
	})
}

func TestATokenInUseNeverShowsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &weChat{body: `{"access_token":"canary-5ecret-token","expires_in":7200}`}
		stable := newStable(t, w)
		token, err := stable.Token(t.Context())
		require.NoError(t, err)
		require.Equal(t, "canary-5ecret-token", token.Reveal())
		synctest.Wait() // for the fetch to let go of what is printed
		for _, value := range []any{stable, token, stable.Status(), struct{ s *accesstoken.Stable }{stable}} {
			shown := secretstest.Printed(value)
			require.NotContains(t, shown, canary)
			require.NotContains(t, shown, hex.EncodeToString([]byte(canary)))
		}
	})
}
