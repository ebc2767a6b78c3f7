package accesstoken_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/secrets"
)

func TestAnHourOfPaymentsAsksOnceInFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(weChat)
		s, log := newLogged(t, w)
		for range 3600 {
			token(t, s)
			time.Sleep(time.Second)
		}
		require.Equal(t, 12, w.count())
		require.Empty(t, log())
	})
}

func TestAWeChatThatIsAwayWhileTheTokenLivesFailsNobody(t *testing.T) {
	for _, c := range []struct {
		name, why string
		away      func(*weChat)
		tries     int // in half an hour
	}{
		{"unreachable", "asking for the access_token: no route", func(w *weChat) { w.err = errors.New("no route") }, 180},
		{"hanging", "asking for the access_token: context deadline exceeded", func(w *weChat) { w.hangs = true }, 120},
		{"503", "reading the token: the answer is not a JSON object with an errcode (HTTP status 503)", func(w *weChat) { w.body, w.status = "<html>", 503 }, 180},
		{"busy", "WeChat refuses an access_token: errcode -1 (system busy)", func(w *weChat) { w.body = `{"errcode":-1,"errmsg":"system error"}` }, 180},
		{"not on the list", "WeChat refuses an access_token: errcode 40164 (this IP address is not on the app's list)", func(w *weChat) { w.body = `{"errcode":40164}` }, 180},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &weChat{takes: 50 * time.Millisecond}
				s, log := newLogged(t, w)
				pay := func(seconds int) {
					for range 10 * seconds {
						token(t, s)
						time.Sleep(100 * time.Millisecond)
					}
				}
				pay(3590)
				before := w.count()
				w.edit(c.away)
				pay(1800)
				require.InEpsilon(t, c.tries, w.count()-before, 0.12)
				require.Contains(t, log(), `level=WARN msg="access_token cannot be had" appid=wx1234567 error="`+c.why+`"`)

				w.edit(func(w *weChat) { w.err, w.hangs, w.body, w.status = nil, false, "", 0 })
				back := w.count()
				pay(11)
				require.Equal(t, fmt.Sprintf("T%d", w.count()), token(t, s))
				require.LessOrEqual(t, w.count()-back, 2)
				pay(300)
			})
		})
	}
}

func TestHowLongAFailureIsBelievedIsAMatterOfItsCure(t *testing.T) {
	for code, rest := range map[int]time.Duration{
		-1:    time.Second,
		40001: 10 * time.Second, 40125: 10 * time.Second, 40243: 10 * time.Second,
		40013: 10 * time.Second, 40164: 10 * time.Second, 89503: 10 * time.Second, 48001: 10 * time.Second,
		50004: 10 * time.Second, 50007: 10 * time.Second, 12345: 10 * time.Second,
		45009: time.Minute, 45011: time.Minute,
	} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := new(weChat)
				w.answers(fmt.Sprintf(`{"errcode":%d}`, code))
				s := newStable(t, w)
				why := fails(t, s)
				failed := time.Now()
				for time.Since(failed) < rest {
					began := time.Now()
					require.Equal(t, why, fails(t, s))
					require.Zero(t, time.Since(began))
					require.Equal(t, 1, w.count())
					time.Sleep(time.Second / 2)
				}
				w.answers("")
				require.Equal(t, "T2", token(t, s))
			})
		})
	}
}

// rotating is a store in which the app secret is another now than the one that is
// kept of it.
type rotating struct {
	mu           sync.Mutex
	kept, stored string
	err          error // of the store
	reads        []string
}

func (r *rotating) read(_ context.Context, refused secrets.Value) (secrets.Value, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads = append(r.reads, refused.Reveal())
	if refused.Reveal() == r.kept {
		if r.err != nil {
			return secrets.Value{}, r.err
		}
		r.kept = r.stored
	}
	return secrets.NewValue(r.kept), nil
}

func (r *rotating) edit(change func(*rotating)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

func TestAnAppSecretThatIsStaleIsReadAgainInTheSameFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &weChat{secret: "new"}
		store := &rotating{kept: "old", stored: "new"}
		s, log := newWith(t, store.read, w)
		require.Equal(t, "T2", token(t, s))
		require.Equal(t, []string{"", "old"}, store.reads)
		require.Empty(t, log())

		time.Sleep(3 * time.Hour)
		require.Equal(t, "T3", token(t, s))
		require.Equal(t, []string{"", "old", ""}, store.reads, "what WeChat takes may be kept again")
	})
}

func TestAnAppSecretThatIsWrongIsNotAskedWithTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &weChat{secret: "right"}
		s, _ := newWith(t, (&rotating{kept: "wrong", stored: "wrong"}).read, w)
		require.ErrorContains(t, fails(t, s), "40125")
		require.Equal(t, 1, w.count())
	})
}

func TestAnAppSecretThatStaysWrongAfterACorrectionIsAskedWithOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &weChat{secret: "right"}
		store := &rotating{kept: "wrong", stored: "wrong, too"}
		s, _ := newWith(t, store.read, w)
		require.ErrorContains(t, fails(t, s), "40125")
		require.Equal(t, 2, w.count())
		time.Sleep(10 * time.Second)
		require.ErrorContains(t, fails(t, s), "40125")
		require.Equal(t, []string{"", "wrong", "wrong, too", "wrong, too"}, store.reads)
		require.Equal(t, 3, w.count())
	})
}

func TestACorrectedAppSecretIsSeenAtTheNextTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &weChat{secret: "right"}
		store := &rotating{kept: "wrong", stored: "wrong"}
		s, _ := newWith(t, store.read, w)
		require.EqualError(t, fails(t, s), "WeChat refuses an access_token: errcode 40125 (the app secret is wrong)")
		store.edit(func(r *rotating) { r.stored = "right" })
		time.Sleep(10 * time.Second)
		require.Equal(t, "T2", token(t, s), "the wrong one is not asked with again")
		require.Equal(t, []string{"", "wrong", "wrong"}, store.reads)
	})
}

// A secret that WeChat refused may be good by now, and its store away.
func TestARefusedAppSecretIsTriedAgainWhileTheStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &weChat{secret: "other"}
		store := &rotating{kept: "mine", err: errors.New("sealed")}
		s, _ := newWith(t, store.read, w)
		require.EqualError(t, fails(t, s), "WeChat refuses an access_token: errcode 40125 (the app secret is wrong)")
		w.edit(func(w *weChat) { w.secret = "mine" })
		time.Sleep(10 * time.Second)
		require.Equal(t, "T2", token(t, s))
	})
}

func TestAShortLifeMeansMoreQuestionsButNoMoreThanOneASecond(t *testing.T) {
	for _, life := range []int{1, 2, 3, 10, 60, 300} {
		t.Run(strconv.Itoa(life), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &weChat{takes: 50 * time.Millisecond}
				w.answers(fmt.Sprintf(`{"access_token":"short","expires_in":%d}`, life))
				s, log := newLogged(t, w)
				token(t, s)
				for range 6000 {
					token(t, s)
					time.Sleep(100 * time.Millisecond)
				}
				least := max(time.Second, time.Duration(life)*time.Second/2)
				for _, gap := range w.gaps() {
					require.GreaterOrEqual(t, gap, least)
					require.LessOrEqual(t, gap, least+200*time.Millisecond)
				}
				require.Empty(t, log())
			})
		})
	}
}

func TestATokenThatEndedOnItsWayIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &weChat{takes: 3 * time.Second}
		w.answers(`{"access_token":"T","expires_in":3}`)
		require.EqualError(t, fails(t, newStable(t, w)), "the access_token that WeChat gave has expired")
	})
}

func TestTheTokenThatWasRefusedIsAskedForLessAndLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &weChat{takes: 50 * time.Millisecond}
		w.answers(`{"access_token":"T1","expires_in":7200}`)
		s := newStable(t, w)
		token(t, s)
		storm := func(long, every time.Duration) {
			for began := time.Now(); time.Since(began) < long; time.Sleep(every) {
				asked := time.Now()
				require.Equal(t, "T1", renew(t, s, "T1"))
				require.LessOrEqual(t, time.Since(asked), 2*time.Second)
			}
		}
		storm(10*time.Minute, 100*time.Millisecond)
		for i, gap := range w.gaps() {
			want := min(time.Second<<i, time.Minute)
			require.InDelta(t, want, gap, float64(300*time.Millisecond), "question %d", i)
			require.GreaterOrEqual(t, gap, time.Second)
		}
		require.InDelta(t, 16, w.count(), 1)
		storm(100*time.Minute, time.Second)
		require.InDelta(t, 115, w.count(), 2)

		// When it is another at last, callers have it within the minute.
		w.answers("")
		token(t, s)
		time.Sleep(time.Minute)
		token(t, s)
		time.Sleep(time.Second)
		require.NotEqual(t, "T1", token(t, s))
	})
}

func TestANewTokenIsAskedForAgainAtOnceHoweverOftenTheOldOneCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &weChat{takes: 50 * time.Millisecond}
		w.answers(`{"access_token":"T","expires_in":7200}`)
		s := newStable(t, w)
		token(t, s)
		for range 1000 {
			renew(t, s, "T")
			time.Sleep(time.Second)
		}
		w.answers(`{"access_token":"U","expires_in":7200}`)
		time.Sleep(time.Minute)
		require.Equal(t, "U", renew(t, s, "T"))
		w.answers("")
		before := w.count()
		began := time.Now()
		renew(t, s, "U")
		require.Equal(t, before+1, w.count())
		require.LessOrEqual(t, time.Since(began), time.Second+50*time.Millisecond)
	})
}

// One order is refused for ever, whatever its token, and stretches the pause between
// questions. A token that is replaced meanwhile is had as soon as WeChat may be asked.
func TestARotationIsWaitedForAsLongAsTheDeadlineAllows(t *testing.T) {
	for name, c := range map[string]struct {
		deadline time.Duration
		want     string
		takes    time.Duration
	}{
		"time enough": {10 * time.Second, "U", 8*time.Second - time.Millisecond},
		"too little":  {5 * time.Second, "T", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &weChat{takes: -1}
				w.answers(`{"access_token":"T","expires_in":7200}`)
				s := newStable(t, w)
				token(t, s)
				for range 3 { // after 1, 2 and 4 seconds; the next pause is one of 8
					time.Sleep(time.Millisecond)
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					_, err := s.Renew(ctx, secrets.NewValue("T"))
					cancel()
					require.NoError(t, err)
				}
				require.Equal(t, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}, w.gaps())

				w.answers(`{"access_token":"U","expires_in":7200}`)
				time.Sleep(time.Millisecond)
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), c.deadline)
				defer cancel()
				got, err := s.Renew(ctx, secrets.NewValue("T"))
				require.NoError(t, err)
				require.Equal(t, c.want, got.Reveal())
				require.Equal(t, c.takes, time.Since(began))
			})
		})
	}
}

func TestATokenThatIsRefusedNoMoreIsNotHeldAgainstWeChat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &weChat{takes: 50 * time.Millisecond}
		w.answers(`{"access_token":"T","expires_in":7200}`)
		s := newStable(t, w)
		token(t, s)
		for range 600 {
			renew(t, s, "T")
			time.Sleep(time.Second)
		}
		for range 600 {
			token(t, s)
			time.Sleep(time.Second)
		}
		time.Sleep(5 * time.Minute)
		token(t, s) // asks
		time.Sleep(2 * time.Second)
		before := w.count()
		renew(t, s, "T")
		require.Equal(t, before+1, w.count())
	})
}

func TestARefusalIsNotAnsweredByAQuestionThatWasUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &weChat{takes: 2 * time.Second}
		w.answers(`{"access_token":"T1","expires_in":7200}`)
		s := newStable(t, w)
		token(t, s)
		time.Sleep(6 * time.Minute)
		token(t, s) // asks, and will be told T1
		time.Sleep(time.Second)
		w.answers(`{"access_token":"T2","expires_in":7200}`)
		require.Equal(t, "T2", renew(t, s, "T1"))
		require.Equal(t, "T2", token(t, s))
		require.Equal(t, 3, w.count())
	})
}

func TestAHundredRefusalsThatEndWithTheSameTokenAreOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(weChat)
		w.answers(`{"access_token":"T1","expires_in":7200}`)
		s := newStable(t, w)
		token(t, s)
		time.Sleep(time.Minute)
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				got, err := s.Renew(t.Context(), secrets.NewValue("T1"))
				assert.NoError(t, err)
				assert.Equal(t, "T1", got.Reveal())
			})
		}
		callers.Wait()
		require.Equal(t, 2, w.count())
	})
}

func TestOfAHundredRefusalsThatWaitOutAPauseOneAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &weChat{takes: -1} // at once: the first may have asked before the others try to
		s := newStable(t, w)
		token(t, s)
		time.Sleep(time.Millisecond)
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

func TestARefusalWaitsForAWeChatThatHangsNoLongerThanOneFetchTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(weChat)
		s := newStable(t, w)
		token(t, s)
		time.Sleep(time.Minute)
		w.edit(func(w *weChat) { w.hangs = true })
		for range 3 {
			began := time.Now()
			require.Equal(t, "T1", renew(t, s, "T1"))
			require.LessOrEqual(t, time.Since(began), 5*time.Second)
			time.Sleep(time.Second)
		}
	})
}

func TestARefusalWhileWeChatIsAwayEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(weChat)
		s := newStable(t, w)
		token(t, s)
		time.Sleep(time.Minute)
		w.answers(`{"errcode":45009}`)
		require.Equal(t, "T1", renew(t, s, "T1"))
		began := time.Now()
		for range 50 {
			time.Sleep(time.Second)
			require.Equal(t, "T1", renew(t, s, "T1"))
		}
		require.Equal(t, 50*time.Second, time.Since(began))
		require.Equal(t, 2, w.count())
	})
}

func TestAfterAChangeOfAskersTheNewOneAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before, after := new(weChat), new(weChat)
		s := newStable(t, before)
		require.Equal(t, "T1", token(t, s))
		after.answers(`{"access_token":"new","expires_in":7200}`)
		s.SetAsker(after)
		require.Equal(t, "T1", token(t, s), "is good still")
		time.Sleep(5 * time.Minute)
		token(t, s)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, "new", token(t, s))
		require.Equal(t, 1, before.count())
		require.Equal(t, 1, after.count())
	})
}
