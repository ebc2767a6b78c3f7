package vault

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/secrets"
)

// leased is a fake whose logins give tokens that live for so many seconds, and with
// renewals for so many more, 0 for ever.
func leased(lease, maxTTL int) *fake {
	f := newFake()
	f.lease, f.maxTTL, f.renewable = lease, maxTTL, true
	return f
}

func TestATokenIsRenewedAtAboutTwoThirdsOfItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := leased(600, 0)
		store := f.store(t, withAppRole())
		requireKey(t, store)
		for n := range 20 {
			before := time.Now()
			for f.renewals() == n {
				time.Sleep(time.Second)
			}
			require.InDelta(t, 390, time.Since(before).Seconds(), 32)
		}
		require.Equal(t, 1, f.logins())
		requireKey(t, store)
	})
}

func TestTokensOfManyAreNotRenewedAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := leased(600, 0)
		for range 50 {
			requireKey(t, f.store(t, withAppRole()))
		}
		last := 0
		for range 60 {
			time.Sleep(10 * time.Second)
			synctest.Wait()
			require.Less(t, f.renewals()-last, 25)
			last = f.renewals()
		}
		require.GreaterOrEqual(t, last, 50)
	})
}

func TestATokenThatNoRenewalProlongsIsReplacedBeforeItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := leased(3, 6)
		store := f.store(t, withAppRole())
		failed := arrive(t, store, 30*time.Second)
		require.Empty(t, failed)
		require.LessOrEqual(t, f.logins(), 30/5+1)
		require.LessOrEqual(t, f.total()-f.reads(), 30)
		synctest.Wait()
		require.Len(t, f.leftBehind(), 1)
	})
}

func TestAfterALeaseThatGotShorterComesALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := leased(600, 1000)
		requireKey(t, f.store(t, withAppRole()))
		time.Sleep(950 * time.Second)
		require.Equal(t, 2, f.renewals(), "one for all of the lease, one for what was left")
		require.Equal(t, 2, f.logins())
		require.Equal(t, []string{"canary-token-2"}, f.leftBehind())
	})
}

func TestARenewalThatPromisesNoMoreLeadsToALogin(t *testing.T) {
	for answer, leased600 := range map[string]bool{
		``:   false,
		`{}`: false,
		`{"auth": {"client_token": "canary-token-1", "lease_duration": 0, "renewable": true}}`:    false,
		`{"auth": {"client_token": "canary-token-1", "lease_duration": 600, "renewable": false}}`: true,
	} {
		synctest.Test(t, func(t *testing.T) {
			f := leased(600, 0)
			f.faults["/renew-self"] = answering(http.StatusOK, answer)
			requireKey(t, f.store(t, withAppRole()))
			if leased600 {
				time.Sleep(420 * time.Second)
			}
			time.Sleep(422 * time.Second)
			require.Equal(t, 1, f.renewals(), answer)
			require.Equal(t, 2, f.logins(), answer)
		})
	}
}

func TestATokenThatIsNotTheCurrentOneIsNotTended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := leased(600, 0)
		store := f.store(t, withAppRole())
		requireKey(t, store)
		old := store.session.now()
		f.kill()
		requireKey(t, store)
		store.session.tend(old) // a timer that could not be stopped any more
		require.Zero(t, f.renewals())
	})
}

func TestATokenThatCannotBeRenewedIsReplacedAtTheSamePoint(t *testing.T) {
	for prefix, revoked := range map[string]int{"canary-token-": 1, "hvb.canary-": 0, "b.canary-": 0} {
		synctest.Test(t, func(t *testing.T) {
			f := leased(600, 0)
			f.renewable, f.prefix = false, prefix
			store := f.store(t, withAppRole())
			requireKey(t, store)
			time.Sleep(360*time.Second - time.Millisecond)
			require.Equal(t, 1, f.logins())
			time.Sleep(61 * time.Second)
			require.Equal(t, 2, f.logins())
			require.Zero(t, f.renewals())
			require.Equal(t, revoked, f.revocations(), "a batch token cannot be")
			requireKey(t, store)
		})
	}
}

func TestARenewalThatIsRefusedForEverMakesNoStorm(t *testing.T) {
	for _, status := range []int{400, 403, 404} {
		for elapsed, most := range map[time.Duration]int{22 * time.Second: 2, 10 * time.Minute: 1 + 2*15 + 2*15} {
			synctest.Test(t, func(t *testing.T) {
				f := leased(60, 0)
				f.faults["/renew-self"] = answering(status, `{"errors": ["lease expired"]}`)
				store := f.store(t, withAppRole())
				start := time.Now()
				requireKey(t, store)
				reads := f.total() - 1
				time.Sleep(elapsed - time.Since(start))
				synctest.Wait()
				t.Logf("status %d, %v: %d logins, %d renewals, %d revocations", status, elapsed, f.logins(), f.renewals(), f.revocations())
				require.LessOrEqual(t, f.total()-reads, most)
				require.InDelta(t, f.renewals()+1, f.logins(), 1, "one for each refusal, a second later")
				require.Len(t, f.leftBehind(), 1)
			})
		}
	}
}

func TestWhatRefusesRenewalsAndLoginsForEverIsAskedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := leased(60, 0)
		config := withAppRole()
		lines := logged(&config)
		store := f.store(t, config)
		requireKey(t, store)
		f.change(func() {
			f.faults["/renew-self"] = answering(http.StatusBadRequest, `{"errors": ["lease expired"]}`)
			f.faults["/login"] = answering(http.StatusBadRequest, `{"errors": ["invalid role or secret ID canary-secret"]}`)
		})
		before, start := f.total(), time.Now()
		for time.Since(start) < 59*time.Second {
			time.Sleep(time.Second)
			requireKey(t, store)
		}
		require.LessOrEqual(t, f.total()-before-59, 22, "while the token lives")
		require.Equal(t, 1, f.renewals(), "once refused, never again")

		time.Sleep(time.Second)
		before = f.logins()
		for _, err := range arrive(t, store, time.Minute) {
			require.EqualError(t, err, "logging in at auth/approle: credentials refused")
			require.ErrorIs(t, err, secrets.ErrUnavailable)
		}
		require.InDelta(t, 60, f.logins()-before, 1)

		time.Sleep(time.Hour)
		require.InDelta(t, 60, f.logins()-before, 1, "nobody asks")

		f.change(func() { clear(f.faults) })
		requireKey(t, store)
		require.Equal(t, []string{
			`level=WARN msg="vault login fails" error="logging in at auth/approle: credentials refused"`,
			`level=INFO msg="vault login works again"`,
		}, lines())
	})
}

// Vault answers 500 where the role of the token is gone.
func TestATokenThatVaultCannotRenewIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := leased(600, 0)
		store := f.store(t, withAppRole())
		requireKey(t, store)
		f.change(func() { f.faults["/renew-self"] = answering(http.StatusInternalServerError, "") })
		time.Sleep(500 * time.Second)
		require.Equal(t, 1, f.renewals())
		require.Equal(t, 2, f.logins())
		requireKey(t, store)
	})
}

func TestARenewalThatCannotBeAnsweredIsTriedAgainUntilTheEnd(t *testing.T) {
	for reason, begin := range outages() {
		t.Run(reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := leased(600, 0)
				requireKey(t, f.store(t, withAppRole()))
				before := f.total()
				f.change(func() { begin(f) })
				time.Sleep(time.Hour)
				require.GreaterOrEqual(t, f.renewals(), 5)
				require.LessOrEqual(t, f.renewals(), 20)
				require.Equal(t, f.renewals(), f.total()-before, "no login in its place")
			})
		})
	}
}

func TestARenewalThatSucceedsLaterKeepsTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := leased(600, 0)
		store := f.store(t, withAppRole())
		requireKey(t, store)
		f.change(func() { f.answer = answering(http.StatusServiceUnavailable, "") })
		time.Sleep(590 * time.Second)
		f.change(func() { f.answer = nil })
		time.Sleep(time.Hour)
		requireKey(t, store)
		require.Equal(t, 1, f.logins())
	})
}

func TestATokenThatCannotBeReplacedIsUsedWhileItLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := leased(600, 0)
		f.renewable = false
		store := f.store(t, withAppRole())
		requireKey(t, store)
		f.change(func() { f.faults["/login"] = answering(http.StatusBadRequest, "") })
		start := time.Now()
		for time.Since(start) < 599*time.Second {
			requireKey(t, store)
			time.Sleep(time.Second)
		}
		require.GreaterOrEqual(t, f.logins(), 5)
		require.LessOrEqual(t, f.logins(), 20)

		f.change(func() { clear(f.faults) })
		time.Sleep(time.Second)
		requireKey(t, store)
	})
}

func (s *session) now() *grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

func TestAnOldRenewalDoesNotOverwriteANewerToken(t *testing.T) {
	for name, status := range map[string]int{"granted": 200, "refused": 400, "not answered": 503} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := leased(600, 0)
				config := withAppRole()
				config.Timeout = time.Minute
				store := f.store(t, config)
				requireKey(t, store)
				asked, answer := make(chan struct{}), make(chan struct{})
				f.change(func() {
					f.faults["/renew-self"] = func(w http.ResponseWriter, _ *http.Request) {
						close(asked)
						<-answer
						w.WriteHeader(status)
						_, _ = io.WriteString(w, `{"auth": {"client_token": "canary-token-1", "lease_duration": 600, "renewable": true}}`)
					}
				})
				<-asked
				f.change(func() { clear(f.faults) })
				f.kill()
				requireKey(t, store)
				require.Equal(t, 2, f.logins())
				newer := store.session.now()

				close(answer)
				synctest.Wait()
				require.Same(t, newer, store.session.now())
				require.Equal(t, "canary-token-2", newer.token())

				time.Sleep(420*time.Second + time.Millisecond)
				require.Equal(t, 2, f.renewals(), "of the newer one, at its time")
				require.Equal(t, 2, f.logins())
			})
		})
	}
}

func TestAFixedTokenIsRenewedAndNeverRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := leased(600, 0)
		f.ends["canary-fixed"] = time.Now().Add(100 * time.Second)
		store := f.store(t, withToken())
		requireKey(t, store)
		for range 60 {
			time.Sleep(time.Minute)
			requireKey(t, store)
		}
		require.Equal(t, 1, f.count("/lookup-self"))
		require.GreaterOrEqual(t, f.renewals(), 8)
		require.LessOrEqual(t, f.renewals(), 12)
		require.NoError(t, store.Close(t.Context()))
		require.Zero(t, f.revocations())
	})
}

func TestAFixedTokenNearItsLastEndIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := leased(600, 1000)
		f.born["canary-fixed"] = time.Now()
		f.ends["canary-fixed"] = time.Now().Add(600 * time.Second)
		token := "canary-fixed"
		config := withToken()
		config.Auth = Token{func() (string, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return token, nil
		}}
		store := f.store(t, config)
		requireKey(t, store)
		time.Sleep(500 * time.Second)
		f.change(func() { token = "canary-rotated"; f.alive[token] = true })
		time.Sleep(499 * time.Second)
		requireKey(t, store)
		require.Equal(t, "canary-rotated", f.asked[len(f.asked)-1].Header.Get("X-Vault-Token"))
		require.Zero(t, f.revocations())
		require.Less(t, f.total(), 20)
	})
}

func TestAFixedTokenThatIsNotReplacedEndsQuietly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := leased(600, 1000)
		f.born["canary-fixed"] = time.Now()
		f.ends["canary-fixed"] = time.Now().Add(600 * time.Second)
		store := f.store(t, withToken())
		requireKey(t, store)
		time.Sleep(time.Hour)
		require.Less(t, f.total(), 50)
		_, err := store.Read(t.Context(), "midas/wx1")
		require.ErrorIs(t, err, errInvalidToken)
	})
}

func TestAFixedTokenMayDoWithoutTheRightToLookItselfUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := leased(600, 0)
		f.forbidden = "/lookup-self"
		store := f.store(t, withToken())
		requireKey(t, store)
		time.Sleep(time.Hour)
		requireKey(t, store)
		require.Equal(t, 1, f.count("/auth/token/"))
	})
}

func TestATokenFileIsLeftToItsKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := leased(600, 0)
		path := filepath.Join(t.TempDir(), "token")
		require.NoError(t, os.WriteFile(path, []byte("canary-fixed"), 0o600))
		store := f.store(t, Config{Address: "http://vault.test", Auth: TokenFile{path}})
		requireKey(t, store)
		time.Sleep(time.Hour)
		requireKey(t, store)
		require.NoError(t, store.Close(t.Context()))
		require.Zero(t, f.count("/auth/"))
	})
}

func TestATokenThatIsReplacedAfterADenialIsRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		store := f.store(t, withAppRole())
		requireKey(t, store)
		f.forbidden = "/midas/wx2"
		_, err := store.Read(t.Context(), "midas/wx2")
		require.ErrorIs(t, err, errDenied)
		require.NotErrorIs(t, err, secrets.ErrUnavailable)
		synctest.Wait()
		require.Equal(t, []string{"canary-token-2"}, f.leftBehind())
	})
}

// OpenBao says only that of a dead token; it must not be said to live on.
func TestATokenWhoseRevocationIsDeniedMayHaveEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, config := newFake(), withAppRole()
		lines := logged(&config)
		f.mute = true
		store := f.store(t, config)
		requireKey(t, store)
		f.kill()
		requireKey(t, store) // with another token, while the dead one is revoked
		synctest.Wait()
		f.kill()
		require.NoError(t, store.Close(t.Context()))
		require.Equal(t, 2, f.revocations())
		for _, line := range lines() {
			require.Equal(t, `level=INFO msg="vault token was not revoked: it has ended, or its policy does not allow auth/token/revoke-self" error="permission denied"`, line)
		}
	})
}

func TestRevokingATokenKeepsNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.faults["/revoke-self"] = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		store := f.store(t, withAppRole())
		requireKey(t, store)
		f.kill()
		start := time.Now()
		requireKey(t, store)
		require.Zero(t, time.Since(start))
		time.Sleep(time.Minute)
	})
}

func TestADeadTokenAndALoginThatIsRefusedAreTheStoresFault(t *testing.T) {
	f := newFake()
	store := f.store(t, withAppRole())
	requireKey(t, store)
	f.kill()
	f.faults["/login"] = answering(http.StatusBadRequest, "")
	_, err := store.Read(t.Context(), "midas/wx1")
	require.EqualError(t, err,
		"permission denied: invalid token; logging in at auth/approle: credentials refused")
	require.ErrorIs(t, err, secrets.ErrUnavailable)
}

func TestACredentialThatCannotBeReadIsToldToTheLogOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		missing := errors.New("no such file")
		config := withAppRole()
		config.Auth = AppRole{RoleID: fixed("canary-role"), SecretID: func() (string, error) { return "canary-secret", missing }}
		lines := logged(&config)
		store := f.store(t, config)
		arrive(t, store, time.Minute)
		missing = nil
		time.Sleep(time.Second)
		requireKey(t, store)
		require.Equal(t, []string{
			`level=WARN msg="vault login fails" error="reading secret_id: no such file"`,
			`level=INFO msg="vault login works again"`,
		}, lines())
	})
}
