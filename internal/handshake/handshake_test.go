package handshake_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/handshake"
)

const host = "api.weixin.qq.com"

// newHosts returns a memory, and its lines in the log so far.
func newHosts() (hosts *handshake.Hosts, lines func() []string) {
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	return handshake.NewHosts(log), func() []string { return strings.Split(strings.TrimSpace(text.String()), "\n") }
}

// shake is a handshake that ends as it is told.
func shake(hosts *handshake.Hosts, end error) (offered bool, err error) {
	offered = hosts.OffersMLKEM(host)
	return offered, hosts.Ended(host, offered, end)
}

func TestHostsLeaveOutMLKEMForTenMinutesAfterATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hosts, lines := newHosts()
		offered, err := shake(hosts, context.DeadlineExceeded)
		require.True(t, offered)
		require.ErrorIs(t, err, handshake.ErrTimeout)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.EqualError(t, err, "TLS handshake timed out")
		require.True(t, hosts.OffersMLKEM("api2.weixin.qq.com"))
		for range 10 {
			offered, err = shake(hosts, nil)
			require.False(t, offered)
			require.NoError(t, err)
			time.Sleep(time.Minute - time.Nanosecond)
		}
		require.Len(t, lines(), 1)
		require.Contains(t, lines()[0], "level=WARN")
		require.Contains(t, lines()[0], "host="+host+" for=10m0s")
	})
}

// Of a busy sidecar's handshakes only one finds out that nothing has changed.
func TestOneHandshakeTriesMLKEMAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hosts, lines := newHosts()
		_, _ = shake(hosts, context.DeadlineExceeded)
		time.Sleep(10 * time.Minute)
		require.True(t, hosts.OffersMLKEM(host))
		require.False(t, hosts.OffersMLKEM(host), "a second one, meanwhile")
		require.Error(t, hosts.Ended(host, true, context.DeadlineExceeded))
		require.False(t, hosts.OffersMLKEM(host))
		require.Len(t, lines(), 1, "nothing has changed")

		time.Sleep(10 * time.Minute)
		offered, _ := shake(hosts, nil)
		require.True(t, offered)
		require.True(t, hosts.OffersMLKEM(host))
		require.Len(t, lines(), 2)
		require.Contains(t, lines()[1], "level=INFO")

		_, _ = shake(hosts, context.DeadlineExceeded)
		require.Len(t, lines(), 3, "the network is as it was before")
	})
}

func TestOnlyATimeoutTellsSomethingOfTheNetwork(t *testing.T) {
	hosts, lines := newHosts()
	for _, end := range []error{context.Canceled, errors.New("connection reset by peer"), tls.AlertError(40)} {
		_, err := shake(hosts, end)
		require.Equal(t, end, err)
	}
	require.True(t, hosts.OffersMLKEM(host))
	require.Error(t, hosts.Ended(host, false, context.DeadlineExceeded))
	require.True(t, hosts.OffersMLKEM(host), "a handshake without ML-KEM, which timed out, too")
	require.Empty(t, lines()[0])
}

func TestManyTimeoutsAtOnceAreOneWarning(t *testing.T) {
	hosts, lines := newHosts()
	for range 10 {
		_ = hosts.Ended(host, true, context.DeadlineExceeded)
	}
	require.Len(t, lines(), 1)
}

func TestNilHostsAlwaysOfferMLKEM(t *testing.T) {
	var hosts *handshake.Hosts
	offered, err := shake(hosts, context.DeadlineExceeded)
	require.True(t, offered)
	require.ErrorIs(t, err, handshake.ErrTimeout)
	require.True(t, hosts.OffersMLKEM(host))
}

func TestWithoutMLKEM(t *testing.T) {
	for name, c := range map[string]struct{ chosen, left []tls.CurveID }{
		"Go's own":        {nil, []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}},
		"the user's":      {[]tls.CurveID{tls.X25519MLKEM768, tls.CurveP384}, []tls.CurveID{tls.CurveP384}},
		"each hybrid":     {[]tls.CurveID{tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024, tls.CurveP521}, []tls.CurveID{tls.CurveP521}},
		"nothing but":     {[]tls.CurveID{tls.X25519MLKEM768}, nil},
		"never was there": {[]tls.CurveID{tls.CurveP256}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			config := &tls.Config{ServerName: host, CurvePreferences: c.chosen, ClientSessionCache: tls.NewLRUClientSessionCache(0)}
			without := handshake.WithoutMLKEM(config)
			require.Equal(t, c.chosen, config.CurvePreferences, "the config itself is changed")
			if c.left == nil {
				require.Nil(t, without)
				return
			}
			require.Equal(t, c.left, without.CurvePreferences)
			require.Equal(t, host, without.ServerName)
			require.Same(t, config.ClientSessionCache, without.ClientSessionCache)
		})
	}
	require.NotEmpty(t, handshake.WithoutMLKEM(nil).CurvePreferences)
}
