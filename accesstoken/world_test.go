package accesstoken_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/accesstoken"
	"midas-sidecar/secrets"
	"midas-sidecar/upstream"
	"midas-sidecar/wechat"
)

const (
	appID = "wx1234567"
	// canary is the app secret, which must turn up nowhere but in the question.
	canary = "canary-5ecret"
)

// weChat gives out tokens T1, T2, …, good for two hours, one second after it was
// asked.
type weChat struct {
	mu    sync.Mutex
	asked []wechat.Outbound
	body  string // to answer instead, if not ""
	err   error  // to fail with, if not nil
}

func (w *weChat) Ask(ctx context.Context, message wechat.Outbound) (upstream.Exchange, error) {
	w.mu.Lock()
	w.asked = append(w.asked, message)
	body, err := w.body, w.err
	if body == "" {
		body = fmt.Sprintf(`{"access_token":"T%d","expires_in":7200}`, len(w.asked))
	}
	w.mu.Unlock()
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return upstream.Exchange{Err: err}, err
	}
	return upstream.Exchange{Sent: true, Status: 200, Body: []byte(body)}, nil
}

func (w *weChat) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.asked)
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

// newStable returns the token of an app that knows its secret. A fetch in the
// background outlives no test.
func newStable(t *testing.T, w *weChat) *accesstoken.Stable {
	t.Cleanup(func() { time.Sleep(time.Minute) })
	return accesstoken.NewStable(appID, func(context.Context) (secrets.Value, error) { return secrets.NewValue(canary), nil }, w)
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
