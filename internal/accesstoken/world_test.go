package accesstoken_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/accesstoken"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/upstream"
	"midas-sidecar/internal/wechat"
)

const (
	appID = "wx1234567"
	// canary is the app secret, which must turn up nowhere but in the question.
	canary = "canary-5ecret"
)

// weChat gives out tokens T1, T2, …, good for two hours, one second after it was
// asked.
type weChat struct {
	mu     sync.Mutex
	asked  []wechat.Outbound
	times  []time.Time   // when it was asked
	takes  time.Duration // to answer in, if not 0; no time if negative
	secret string        // that it takes alone, if not ""
	body   string        // to answer instead, if not ""
	status int           // to answer with, if not 0
	err    error         // to fail with, if not nil
	hangs  bool
}

func (w *weChat) Ask(ctx context.Context, message wechat.Outbound) (upstream.Exchange, error) {
	w.mu.Lock()
	w.asked = append(w.asked, message)
	w.times = append(w.times, time.Now())
	body, err, takes, status := w.body, w.err, w.takes, w.status
	switch {
	case body != "":
	case w.secret != "" && !strings.Contains(string(message.Body()), `"`+w.secret+`"`):
		body = `{"errcode":40125,"errmsg":"invalid appsecret"}`
	default:
		body = fmt.Sprintf(`{"access_token":"T%d","expires_in":7200}`, len(w.asked))
	}
	if takes == 0 {
		takes = time.Second
	}
	if status == 0 {
		status = 200
	}
	if w.hangs {
		takes = time.Hour
	}
	w.mu.Unlock()
	if takes < 0 {
		return upstream.Exchange{Sent: true, Status: status, Body: []byte(body)}, nil
	}
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return upstream.Exchange{Err: err}, err
	}
	return upstream.Exchange{Sent: true, Status: status, Body: []byte(body)}, nil
}

func (w *weChat) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.asked)
}

// gaps returns the times between one question and the next.
func (w *weChat) gaps() []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	var gaps []time.Duration
	for i := 1; i < len(w.times); i++ {
		gaps = append(gaps, w.times[i].Sub(w.times[i-1]))
	}
	return gaps
}

// answers makes WeChat say body from now on.
func (w *weChat) answers(body string) { w.set(body, nil) }

// fails makes WeChat unreachable from now on.
func (w *weChat) fails(err error) { w.set("", err) }

func (w *weChat) set(body string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.body, w.err = body, err
}

// edit changes what WeChat does from now on.
func (w *weChat) edit(change func(*weChat)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w)
}

// newStable returns the token of an app that knows its secret.
func newStable(t *testing.T, w *weChat) *accesstoken.Stable {
	s, _ := newLogged(t, w)
	return s
}

// newLogged is newStable and what it has logged since the last look, with the
// times from now.
func newLogged(t *testing.T, asker accesstoken.Asker) (*accesstoken.Stable, func() string) {
	secret := func(context.Context, secrets.Value) (secrets.Value, error) { return secrets.NewValue(canary), nil }
	return newWith(t, secret, asker)
}

// newWith returns the token of an app. A fetch in the background outlives no test.
func newWith(t *testing.T, secret accesstoken.AppSecret, asker accesstoken.Asker) (*accesstoken.Stable, func() string) {
	t.Cleanup(func() { time.Sleep(time.Minute) })
	var text strings.Builder
	log := slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			switch {
			case a.Key == slog.TimeKey:
				return slog.Attr{}
			case a.Value.Kind() == slog.KindTime:
				return slog.String(a.Key, time.Until(a.Value.Time()).String())
			}
			return a
		},
	}))
	return accesstoken.New(appID, secret, asker, log), func() string {
		synctest.Wait()
		defer text.Reset()
		require.NotContains(t, text.String(), canary)
		return text.String()
	}
}

// token returns the token, which there must be.
func token(t *testing.T, s *accesstoken.Stable) string {
	t.Helper()
	got, err := s.Token(t.Context())
	require.NoError(t, err)
	require.False(t, got.IsZero())
	return got.Reveal()
}

// fails checks that there is no token, and returns why.
func fails(t *testing.T, s *accesstoken.Stable) error {
	t.Helper()
	got, err := s.Token(t.Context())
	require.Error(t, err)
	require.True(t, got.IsZero())
	require.NotContains(t, err.Error(), canary)
	return err
}
