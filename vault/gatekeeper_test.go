package vault

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/breaker"
	"midas-sidecar/internal/secrets"
)

type tripFunc func(*http.Request) (*http.Response, error)

func (f tripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// outages are the ways in which Vault may be of no use, by what the log is told.
func outages() map[string]func(*fake) {
	answers := func(status int, body string) func(*fake) {
		return func(f *fake) { f.answer = answering(status, body) }
	}
	return map[string]func(*fake){
		"connection refused": func(f *fake) {
			f.trip = tripFunc(func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") })
		},
		"no answer within 2s": func(f *fake) {
			f.answer = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		},
		"the answer broke off: unexpected EOF": func(f *fake) {
			f.trip = tripFunc(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF))}, nil
			})
		},
		"rate limited":             answers(429, `{"errors": ["canary-x"]}`),
		"vault is sealed":          answers(503, `{"errors": ["Vault is sealed"]}`),
		"answered with status 503": answers(503, `canary-x`),
		"answered with status 502": answers(502, `canary-x`),
		"answered with status 412": answers(412, `canary-x`),
		"answered with status 472": answers(472, `canary-x`),
		"answered with status 473": answers(473, `canary-x`),
	}
}

// arrive reads every 10 ms for the time d, whether or not the reads before have
// ended, and returns what came of them.
func arrive(t *testing.T, store *Store, d time.Duration) (failed []error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for begin := time.Now(); time.Since(begin) < d; time.Sleep(10 * time.Millisecond) {
		all.Go(func() {
			if _, err := store.Read(t.Context(), "midas/wx1"); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, err)
			}
		})
	}
	all.Wait()
	return failed
}

// Vault answers 500 to what it could not do, and all else may go well.
func TestAFaultInOneAnswerClosesVaultToNobody(t *testing.T) {
	f := newFake()
	config := withAppRole()
	lines := logged(&config)
	store := f.store(t, config)
	requireKey(t, store)
	f.faults["/midas/wx2"] = answering(http.StatusInternalServerError, `{"errors": ["canary-x"]}`)
	for range 10 {
		_, err := store.Read(t.Context(), "midas/wx2")
		require.EqualError(t, err, "answered with status 500")
		require.NotErrorIs(t, err, secrets.ErrUnavailable)
		requireKey(t, store)
	}
	require.Empty(t, strings.Join(lines(), ""))
}

func TestAVaultThatCannotBeUsedIsTriedOnceASecond(t *testing.T) {
	for reason, begin := range outages() {
		for name, warm := range map[string]bool{"warm": true, "cold": false} {
			t.Run(reason+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFake()
					config := withAppRole()
					lines := logged(&config)
					store := f.store(t, config)
					if warm {
						requireKey(t, store)
					}
					f.change(func() { begin(f) })
					_, err := store.Read(t.Context(), "midas/wx1")
					require.ErrorIs(t, err, secrets.ErrUnavailable)
					require.ErrorContains(t, err, "the secret store cannot be used: "+reason)

					before := f.total()
					failed := arrive(t, store, time.Minute)
					require.LessOrEqual(t, f.total()-before, 60)
					require.GreaterOrEqual(t, f.total()-before, 30)
					require.Len(t, failed, 6000)
					for _, err := range failed {
						require.ErrorIs(t, err, secrets.ErrUnavailable)
						require.NotContains(t, err.Error(), canary)
						require.NotContains(t, err.Error(), "vault.test")
					}

					f.change(func() { f.answer, f.trip = nil, nil })
					require.Less(t, len(arrive(t, store, 3*time.Second)), 200)
					requireKey(t, store)
					require.Equal(t, []string{
						`level=WARN msg="vault cannot be used" error=` + quoted(reason),
						`level=INFO msg="vault can be used again"`,
					}, lines())
				})
			})
		}
	}
}

func quoted(text string) string {
	if strings.Contains(text, " ") {
		return `"` + text + `"`
	}
	return text
}

func TestAnHourWithoutVaultCostsACallASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.lease, f.renewable = 600, true
		store := f.store(t, withAppRole())
		requireKey(t, store)
		f.change(func() { f.answer = answering(http.StatusServiceUnavailable, `{"errors": ["Vault is sealed"]}`) })
		before := f.total()
		for begin := time.Now(); time.Since(begin) < time.Hour; time.Sleep(100 * time.Millisecond) {
			_, err := store.Read(t.Context(), "midas/wx1")
			require.ErrorIs(t, err, secrets.ErrUnavailable)
		}
		require.LessOrEqual(t, f.total()-before, 3601)
	})
}

func TestWhileVaultCannotBeUsedNothingReachesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		store := f.store(t, withToken())
		requireKey(t, store)
		f.answer = answering(http.StatusServiceUnavailable, `{"errors": ["Vault is sealed"]}`)
		_, err := store.Read(t.Context(), "midas/wx1")
		require.Error(t, err)
		before := f.total()
		for range 100 {
			_, err := store.Read(t.Context(), "midas/wx1")
			require.EqualError(t, err, "the secret store cannot be used: vault is sealed")
		}
		require.Equal(t, before, f.total())
	})
}

func TestVaultIsLeftAloneForAsLongAsItSays(t *testing.T) {
	for _, status := range []int{429, 503} {
		for name, c := range map[string]struct {
			after string
			want  time.Duration
		}{
			"seconds":          {"20", 20 * time.Second},
			"a date":           {"Sat, 01 Jan 2000 00:00:30 GMT", 30 * time.Second}, // the bubble's clock begins then
			"an hour":          {"3600", time.Minute},
			"a date next year": {"Mon, 01 Jan 2001 00:00:00 GMT", time.Minute},
			"68 years":         {"2147483647", time.Minute},
			"the past":         {"-5", time.Second},
			"a date last year": {"Fri, 01 Jan 1999 00:00:00 GMT", time.Second},
			"too many years":   {"99999999999999999999", time.Second},
			"garbage":          {"soon", time.Second},
			"nothing":          {"", time.Second},
		} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFake()
					store := f.store(t, withToken())
					requireKey(t, store)
					f.answer = func(w http.ResponseWriter, _ *http.Request) {
						w.Header().Set("Retry-After", c.after)
						refuse(w, status)
					}
					_, err := store.Read(t.Context(), "midas/wx1")
					require.ErrorIs(t, err, secrets.ErrUnavailable)
					f.answer = nil

					time.Sleep(c.want - time.Millisecond)
					_, err = store.Read(t.Context(), "midas/wx1")
					require.ErrorIs(t, err, secrets.ErrUnavailable)
					time.Sleep(time.Millisecond)
					requireKey(t, store)
				})
			})
		}
	}
}

func TestACallerThatGivesUpSaysNothingAboutVault(t *testing.T) {
	for name, giveUp := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"cancelled": func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		},
		"out of time": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				store := f.store(t, withToken())
				requireKey(t, store)
				f.answer = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
				ctx, cancel := giveUp(t.Context())
				defer cancel()
				_, err := store.Read(ctx, "midas/wx1")
				require.ErrorIs(t, err, ctx.Err())
				require.NotErrorIs(t, err, secrets.ErrUnavailable)

				f.answer = nil
				requireKey(t, store)
			})
		})
	}
}

func TestAStandbyThatIsBehindIsGivenTimeToCatchUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		config := withToken()
		lines := logged(&config)
		store := f.store(t, config)
		requireKey(t, store)
		behind := 2
		f.faults["/midas/wx1"] = func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, http.StatusPreconditionFailed)
			if behind--; behind == 0 {
				f.change(func() { clear(f.faults) })
			}
		}
		start := time.Now()
		requireKey(t, store)
		require.Equal(t, 4, f.reads())
		require.InDelta(t, 200, time.Since(start).Milliseconds(), 100)
		require.Empty(t, lines()[0])

		// While Vault cannot be used, one call a second is one.
		f.faults["/midas/wx1"] = answering(http.StatusPreconditionFailed, "")
		_, err := store.Read(t.Context(), "midas/wx1")
		require.ErrorIs(t, err, secrets.ErrUnavailable)
		require.Equal(t, 7, f.reads())
		time.Sleep(time.Second)
		_, err = store.Read(t.Context(), "midas/wx1")
		require.ErrorIs(t, err, secrets.ErrUnavailable)
		require.Equal(t, 8, f.reads())
	})
}

func TestALoginThatAStandbyRefusesIsNotSentAgain(t *testing.T) {
	f := newFake()
	f.answer = answering(http.StatusPreconditionFailed, "")
	_, err := f.store(t, withAppRole()).Read(t.Context(), "midas/wx1")
	require.ErrorIs(t, err, secrets.ErrUnavailable)
	require.Equal(t, 1, f.total())
}

func TestATimeThatEndsAmidCatchingUpIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		config := withToken()
		config.Timeout = 10 * time.Millisecond
		store := f.store(t, config)
		requireKey(t, store)
		f.answer = answering(http.StatusPreconditionFailed, "")
		start := time.Now()
		_, err := store.Read(t.Context(), "midas/wx1")
		require.ErrorIs(t, err, secrets.ErrUnavailable)
		require.Equal(t, 10*time.Millisecond, time.Since(start))
	})
}

// kept returns a gatekeeper before next, who may try as often as he likes.
func kept(config Config, next http.RoundTripper) *gatekeeper {
	return &gatekeeper{breaker: breaker.New(config.Log, "fails", "works", breaker.NewPace(time.Nanosecond)), next: next, log: config.Log}
}

func ask(t *testing.T, next http.RoundTripper, url string) (string, error) {
	t.Helper()
	response, err := (&http.Client{Transport: next}).Get(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

func TestAnAnswerThatBreaksOffIsNone(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, `{"data": {"canary-x`)
	}))
	defer server.Close()
	config := withToken().withDefaults()
	_, err := ask(t, kept(config, http.DefaultTransport), server.URL)
	require.ErrorIs(t, err, secrets.ErrUnavailable)
	require.NotContains(t, err.Error(), canary)
}

func TestTheLogHearsOnceOfWhatFailsAgainInTheSameWay(t *testing.T) {
	for want, hangUp := range map[string]func(*net.TCPConn){
		"connection reset by peer": func(c *net.TCPConn) { _ = c.SetLinger(0) }, // the error has the port on our side
		"EOF":                      func(c *net.TCPConn) { _ = c.CloseWrite() },
		"unreadable answer":        func(c *net.TCPConn) { _, _ = io.WriteString(c, time.Now().String()+" canary-x\r\n\r\n") },
	} {
		t.Run(want, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				connection, _, err := w.(http.Hijacker).Hijack()
				if err == nil {
					hangUp(connection.(*net.TCPConn))
					_ = connection.Close()
				}
			}))
			defer server.Close()
			config := withToken().withDefaults()
			lines := logged(&config)
			keeper := kept(config, http.DefaultTransport)
			for range 5 {
				_, err := ask(t, keeper, server.URL)
				require.ErrorIs(t, err, secrets.ErrUnavailable)
			}
			require.Len(t, lines(), 1)
			require.Contains(t, lines()[0], want)
			require.NotContains(t, lines()[0], canary)
		})
	}
}
