package credentials_test

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/credentials"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/upstream"
	"midas-sidecar/internal/wechat"
	"midas-sidecar/signer"
)

const (
	player = "odkx20ENSNa2w5y3g_qOkOvBNM1g"
	// canary is part of every secret, and must turn up in no error.
	canary = "canary-5ecret"
)

// Endpoints of v1, one for each environment.
var (
	v1Official = wechat.At(wechat.Pay, wechat.Official)
	v1Sandbox  = wechat.At(wechat.Pay, wechat.Sandbox)
)

// sessionOf is a session_key as WeChat gives them, which tells which it is.
func sessionOf(name string) string {
	return base64.StdEncoding.EncodeToString([]byte(canary + name))
}

// app has its secrets where they are by default.
var app = credentials.App{
	AppID:   "wx1234567",
	Secret:  "midas/wx1234567",
	Session: "midas/wx1234567/sessions/{openid}",
	MPSig:   true,
}

// store is a secret store in memory that counts reads.
type store struct {
	mu      sync.Mutex
	secrets map[string]map[string]string
	reads   map[string]int
	away    bool
}

// full is a store in which nothing is missing.
func full() *store {
	return &store{reads: map[string]int{}, secrets: map[string]map[string]string{
		app.Secret: {
			"midas_key":         canary + "official",
			"midas_key_sandbox": canary + "sandbox",
			"app_secret":        canary + "app",
		},
		"midas/wx1234567/sessions/" + player: {"session_key": sessionOf("")},
		"central/token":                      {"access_token": canary + "token", "other": canary + "other"},
	}}
}

func (s *store) Read(_ context.Context, path string) (secrets.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads[path]++
	if s.away {
		return nil, secrets.ErrUnavailable
	}
	fields, ok := s.secrets[path]
	if !ok {
		return nil, secrets.ErrNotFound
	}
	secret := secrets.Secret{}
	for name, value := range fields {
		secret[name] = secrets.NewValue(value)
	}
	return secret, nil
}

// leaves makes the store unavailable, or ends that.
func (s *store) leaves(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

// put stores a field, or takes it away if value is "".
func (s *store) put(path, field, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if value == "" {
		delete(s.secrets[path], field)
		return
	}
	s.secrets[path][field] = value
}

// The ages that are the default, and a log for nobody.
var (
	cacheAges = secrets.Ages{Fresh: 5 * time.Minute, Stale: 24 * time.Hour}
	discard   = slog.New(slog.DiscardHandler)
)

// cacheOf returns a cache in front of a store.
func cacheOf(s secrets.Store) *credentials.Cache {
	return credentials.NewCache(s, credentials.Options{Ages: cacheAges, Sessions: 1000, Log: discard})
}

// weChat answers with a token, and knows what it was asked.
type weChat struct {
	asked   []wechat.Outbound
	refuses string // an app secret
}

func (w *weChat) Ask(_ context.Context, message wechat.Outbound) (upstream.Exchange, error) {
	w.asked = append(w.asked, message)
	if w.refuses != "" && strings.Contains(string(message.Body()), w.refuses) {
		return upstream.Exchange{Sent: true, Status: 200, Body: []byte(`{"errcode":40125,"errmsg":"invalid appsecret"}`)}, nil
	}
	return upstream.Exchange{Sent: true, Status: 200, Body: []byte(`{"access_token":"` + canary + `stable","expires_in":7200}`)}, nil
}

// isKey checks that a key is the one with this text.
func isKey(t *testing.T, want string, got *signer.Key) {
	t.Helper()
	require.True(t, signer.NewKey(want).Equal(got))
}

// hides checks that no error in the chain shows a secret.
func hides(t *testing.T, err error) {
	t.Helper()
	for ; err != nil; err = errors.Unwrap(err) {
		require.NotContains(t, err.Error(), canary)
		require.NotContains(t, err.Error(), sessionOf("")[:16])
	}
}
