package payment_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/credentials"
	"midas-sidecar/internal/ledger"
	"midas-sidecar/internal/payment"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/upstream"
	"midas-sidecar/internal/wechat"
)

const (
	appID  = "wx1234567"
	player = "odkx20ENSNa2w5y3g_qOkOvBNM1g"
	coins  = 250 // for two orders of 100, or one and no second of 200
	replay = 10 * time.Minute
)

// world is a processor in front of a simulated WeChat, joined by net/http over
// connections in memory, so that it can live in fake time.
type world struct {
	t           *testing.T
	weChat      *simulator.Simulator
	store       *store
	network     *network
	refuseDial  func() bool
	well        *atomic.Bool // no dial is refused any more
	hangUp      func()       // closes connections that are idle
	client      *upstream.Client
	credentials *credentials.Credentials
	processor   *payment.Processor
}

func newWorld(t *testing.T, options simulator.Options) *world {
	t.Helper()
	state := simulator.Demo()
	state.Apps[appID].Players[player].Official.Balance = coins
	state.Apps[appID].Players[player].Sandbox.Balance = coins
	weChat, err := simulator.New(state, options)
	require.NoError(t, err)
	w := &world{t: t, weChat: weChat, network: newNetwork(), refuseDial: func() bool { return false }, well: new(atomic.Bool)}
	w.store = &store{secrets: map[string]secrets.Secret{}}
	w.store.put("app", "midas_key", state.Apps[appID].MidasKey)
	w.store.put("app", "midas_key_sandbox", state.Apps[appID].MidasKeySandbox)
	w.store.put("app", "app_secret", state.Apps[appID].Secret)
	w.store.put(player, "session_key", state.Apps[appID].Players[player].SessionKey)

	server := &http.Server{Handler: weChat, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(w.network) }()
	t.Cleanup(func() {
		weChat.Forget()
		require.NoError(t, server.Close())
	})
	w.processor = &payment.Processor{
		Ledger: ledger.New(), Deadline: 10 * time.Second, AttemptTimeout: 3 * time.Second, Replay: replay,
	}
	w.reload()
	return w
}

// reload does what a change of the config does: all is new but the memory.
func (w *world) reload() {
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		if !w.well.Load() && w.refuseDial() {
			return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
		}
		return w.network.dial()
	}}
	w.hangUp = transport.CloseIdleConnections
	w.t.Cleanup(transport.CloseIdleConnections)
	client, err := upstream.New([]string{"http://a.example", "http://b.example"}, transport)
	require.NoError(w.t, err)
	w.credentials = credentials.NewCache(w.store, credentials.Options{
		Ages: secrets.Ages{Fresh: 5 * time.Minute, Stale: 24 * time.Hour}, Sessions: 100, Log: slog.New(slog.DiscardHandler),
	}).Of(credentials.App{AppID: appID, Secret: "app", Session: "{openid}", MPSig: true}, client)
	next := *w.processor
	next.Sender, w.client = client, client
	w.processor = &next
}

// logIn gives the player another session_key, as a login does.
func (w *world) logIn() {
	_, err := w.weChat.Login(appID, player)
	require.NoError(w.t, err)
	w.store.put(player, "session_key", w.weChat.State().Apps[appID].Players[player].SessionKey)
}

// rotateMidasKey replaces the official key, first in the store.
func (w *world) rotateMidasKey() {
	key := "rotated-" + time.Now().Format(time.RFC3339Nano)
	w.store.put("app", "midas_key", key)
	require.NoError(w.t, w.weChat.Edit(func(s *simulator.State) { s.Apps[appID].MidasKey = key }))
}

// request is what the handler makes of a caller's JSON.
func (w *world) request(e wechat.Endpoint, body string) wechat.Request {
	w.t.Helper()
	r, err := wechat.Decode(e, []byte(body))
	require.NoError(w.t, err)
	r, err = r.Complete(appID, "12345678")
	require.NoError(w.t, err)
	return r
}

// store is a secret store in memory.
type store struct {
	mu      sync.Mutex
	secrets map[string]secrets.Secret
}

func (s *store) put(path, field, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.secrets[path] == nil {
		s.secrets[path] = secrets.Secret{}
	}
	s.secrets[path][field] = secrets.NewValue(value)
}

func (s *store) forget(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.secrets, path)
}

func (s *store) Read(_ context.Context, path string) (secrets.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	secret, ok := s.secrets[path]
	if !ok {
		return nil, secrets.ErrNotFound
	}
	read := secrets.Secret{}
	maps.Copy(read, secret)
	return read, nil
}

// network is a net.Listener whose connections are pipes.
type network struct {
	connections chan net.Conn
	closed      chan struct{}
	once        sync.Once
}

func newNetwork() *network {
	return &network{connections: make(chan net.Conn), closed: make(chan struct{})}
}

func (n *network) dial() (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case n.connections <- server:
		return client, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.connections:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *network) Close() error {
	n.once.Do(func() { close(n.closed) })
	return nil
}

func (n *network) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "pipe"} }
