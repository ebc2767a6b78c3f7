//go:build unix && !aix

package http1_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/http1"
)

func TestTLSIsSetUpAsBaseIs(t *testing.T) {
	for name, c := range map[string]struct {
		url     string
		changes func(*tls.Config)
		fails   string
	}{
		"the host of the URL is meant":       {"https://example.com", func(*tls.Config) {}, ""},
		"its port is not":                    {"https://example.com:8443", func(*tls.Config) {}, ""},
		"an address is meant":                {"https://127.0.0.1", func(*tls.Config) {}, ""},
		"an address of version 6, too":       {"https://[::1]:443", func(*tls.Config) {}, ""},
		"another host":                       {"https://example.org", func(*tls.Config) {}, "example.org"},
		"another address":                    {"https://127.0.0.2", func(*tls.Config) {}, "127.0.0.2"},
		"another host that names its server": {"https://example.org", func(c *tls.Config) { c.ServerName = "example.com" }, ""},
		"nobody vouches for it":              {"https://example.com", func(c *tls.Config) { c.RootCAs = nil }, "unknown authority"},
		"it shall not matter who":            {"https://example.org", func(c *tls.Config) { c.RootCAs, c.InsecureSkipVerify = nil, true }, ""},
		"HTTP/2 is hoped for":                {"https://example.com", func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} }, ""},
		"versions that do not meet":          {"https://example.com", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, "protocol version"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "https", answers, func(base *http.Transport) {
				c.changes(base.TLSClientConfig)
				base.ForceAttemptHTTP2 = true
			})
			w.url = c.url
			res, err := w.RoundTrip(w.order(t.Context(), "/"))
			if c.fails != "" {
				require.ErrorContains(t, err, c.fails)
				require.Zero(t, w.open())
				return
			}
			require.Equal(t, "http/1.1", res.TLS.NegotiatedProtocol)
			body, err := read(res, err)
			require.NoError(t, err)
			require.Equal(t, "1/", body)
		})
	}
}

func TestTheConfigOfBaseIsNotChanged(t *testing.T) {
	base := &http.Transport{TLSClientConfig: &tls.Config{NextProtos: []string{"h2"}}}
	http1.New(base, nil)
	require.Equal(t, []string{"h2"}, base.TLSClientConfig.NextProtos)
	require.Nil(t, base.TLSClientConfig.ClientSessionCache)
	require.NotNil(t, http1.New(new(http.Transport), nil))
}

func TestASessionOfTLSIsResumed(t *testing.T) {
	w := newWorld(t, "https", answers)
	for _, resumed := range []bool{false, true} {
		res, err := w.RoundTrip(w.order(t.Context(), "/"))
		require.NoError(t, err)
		require.Equal(t, resumed, res.TLS.DidResume)
		_, err = read(res, nil)
		require.NoError(t, err)
		w.CloseIdleConnections()
	}
}

func TestWithoutTLSThereIsNone(t *testing.T) {
	w := newWorld(t, "http", answers)
	req := w.order(t.Context(), "/")
	res, err := w.RoundTrip(req)
	require.NoError(t, err)
	require.Nil(t, res.TLS)
	require.Same(t, req, res.Request)
	_, _ = read(res, nil)
}

func TestTheAddressesThatAreDialed(t *testing.T) {
	for to, dialed := range map[string]string{
		"http://example.com":        "example.com:80",
		"https://example.com":       "example.com:443",
		"http://example.com:":       "example.com:80",
		"http://example.com:8080":   "example.com:8080",
		"http://[::1]":              "[::1]:80",
		"https://[2001:db8::1]:444": "[2001:db8::1]:444",
		"http://[fe80::1%25eth0]":   "[fe80::1%eth0]:80",
		"http://微信.example":         "xn--vuqz89a.example:80",
	} {
		got := ""
		transport := http1.New(&http.Transport{DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
			got = network + " " + address
			return nil, errBroken
		}}, nil)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, to, http.NoBody)
		require.NoError(t, err)
		_, err = transport.RoundTrip(req)
		require.ErrorIs(t, err, errBroken)
		require.Equal(t, "tcp "+dialed, got)
	}
}

func TestADialIsMadeWhereBaseHasNone(t *testing.T) {
	for _, network := range []string{"tcp4", "tcp6"} {
		listener, err := net.Listen(network, map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"}[network])
		if err != nil {
			t.Log(err) // a host without
			continue
		}
		server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.NotFoundHandler()}}
		server.Start()
		transport := http1.New(new(http.Transport), nil)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
		require.NoError(t, err)
		res, err := transport.RoundTrip(req)
		require.NoError(t, err)
		require.Equal(t, 404, res.StatusCode)
		_, _ = read(res, nil)
		transport.CloseIdleConnections()
		server.Close()
	}
}

// What goes another way than base's own dial goes as base sends it: the connections of
// base are not of this transport.
func TestWhatIsNotDialedForIsLeftToBase(t *testing.T) {
	var asked atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Host != "example.com" {
			t.Errorf("%s does not go by a proxy", r.URL)
		}
	}))
	defer proxy.Close()
	to, err := url.Parse(proxy.URL)
	require.NoError(t, err)
	transport := http1.New(&http.Transport{Proxy: func(req *http.Request) (*url.URL, error) {
		if req.URL.Path == "/by" {
			return to, nil
		}
		return nil, errors.New("no way")
	}}, nil)
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://example.com/by", http.NoBody)
	require.NoError(t, err)
	_, err = read(transport.RoundTrip(req))
	require.NoError(t, err)
	require.EqualValues(t, 1, asked.Load())

	req.URL.Path = "/"
	_, err = transport.RoundTrip(req)
	require.EqualError(t, err, "no way")
}

func TestNoProxyIsNone(t *testing.T) {
	w := newWorld(t, "http", answers, func(base *http.Transport) {
		base.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	})
	w.said(t, "/")
	w.said(t, "/")
	require.EqualValues(t, 1, w.dialed.Load())
}

func TestADialOfTLSIsLeftToBase(t *testing.T) {
	w := newWorld(t, "https", answers, func(base *http.Transport) {
		dial, config := base.DialContext, base.TLSClientConfig.Clone()
		config.ServerName = "example.com"
		base.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return tls.Client(c, config), nil
		}
	})
	w.url = "https://example.org"
	require.Equal(t, "1/", w.said(t, "/"))
	require.Equal(t, "1/", w.said(t, "/"))
}

func TestWhatIsNoRequestIsNotSent(t *testing.T) {
	for name, change := range map[string]func(*http.Request){
		"no URL":         func(req *http.Request) { req.URL = nil },
		"no host":        func(req *http.Request) { req.URL.Host = "" },
		"another scheme": func(req *http.Request) { req.URL.Scheme = "ftp" },
		"two methods":    func(req *http.Request) { req.Method = "GET / HTTP/1.1\r\n\r\nPOST" },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "http", answers)
			req := w.order(t.Context(), "/")
			change(req)
			_, err := w.RoundTrip(req)
			require.Error(t, err)
			require.Zero(t, w.dialed.Load())
		})
	}
}

func TestHeadersHaveAnEnd(t *testing.T) {
	for name, line := range map[string]string{
		"in one":                 "X: y\r\n",
		"in preliminary answers": "\r\nHTTP/1.1 100 Continue\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			const limit = 10_000
			say := func(bytes int) func(*peer) {
				return func(p *peer) {
					p.heard()
					const end = "\r\nHTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n"
					s := "HTTP/1.1 100 Continue\r\n"
					s += strings.Repeat(line, (bytes-len(s)-len(end))/len(line)-1)
					s += "Y: " + strings.Repeat("y", bytes-len(s)-len(end)-5) + "\r\n" + end
					p.say(s + strings.Repeat("x", 20_000))
				}
			}
			for size, fails := range map[int]bool{limit: false, limit + 1: true} {
				w := newWorld(t, "http", say(size), func(base *http.Transport) { base.MaxResponseHeaderBytes = limit })
				body, err := read(w.RoundTrip(w.order(t.Context(), "/")))
				if fails {
					require.ErrorContains(t, err, "too large")
					continue
				}
				require.NoError(t, err)
				require.Len(t, body, 20_000)
			}
		})
	}
}

func TestAHeaderMayBeAsLargeAsInNetHTTP(t *testing.T) {
	for size, fails := range map[int]bool{10<<20 - 100: false, 10<<20 + 1: true} {
		w := newWorld(t, "http", func(p *peer) {
			p.heard()
			p.say(fmt.Sprintf("HTTP/1.1 200 OK\r\nX: %s\r\n\r\n", strings.Repeat("x", size)))
		})
		_, err := read(w.RoundTrip(w.order(t.Context(), "/")))
		require.Equal(t, fails, err != nil, err)
	}
}
