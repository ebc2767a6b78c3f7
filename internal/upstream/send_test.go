package upstream_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/upstream"
)

func TestNothingIsSentWhereThereIsNoConnection(t *testing.T) {
	overEach(t, func(t *testing.T, by over) {
		trusting := func(t *testing.T) *http.Transport {
			transport := plain(t)
			transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
			return transport
		}
		for _, c := range []struct {
			name string
			send func(t *testing.T) upstream.Exchange
		}{
			{"the dial is refused", func(t *testing.T) upstream.Exchange {
				return send(t, by, "http://"+refusing(t))
			}},
			{"the dial is refused, HTTP/2 hoped for", func(t *testing.T) upstream.Exchange {
				transport := plain(t)
				transport.ForceAttemptHTTP2 = true
				return client(t, by(transport), "https://"+refusing(t)).Send(t.Context(), 0, message)
			}},
			{"the name is unknown", func(t *testing.T) upstream.Exchange {
				offline := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
					return nil, errors.New("no name server")
				}}
				transport := plain(t)
				transport.DialContext = (&net.Dialer{Resolver: offline}).DialContext
				return client(t, by(transport), "https://nothing.invalid").Send(t.Context(), 0, message)
			}},
			{"nobody takes the call in time", func(t *testing.T) upstream.Exchange {
				transport := plain(t)
				transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return client(t, by(transport), "http://192.0.2.1").Send(soon(t), 0, message)
			}},
			{"the server speaks no TLS", func(t *testing.T) upstream.Exchange {
				return send(t, by, "https://"+listener(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "220 ready\r\n") }))
			}},
			{"the server hangs up in the handshake", func(t *testing.T) upstream.Exchange {
				return send(t, by, "https://"+listener(t, hangUp))
			}},
			{"the handshake takes longer than the attempt", func(t *testing.T) upstream.Exchange {
				return client(t, by(plain(t)), "https://"+listener(t, func(net.Conn) {})).Send(soon(t), 0, message)
			}},
			{"the handshake takes longer than the transport waits", func(t *testing.T) upstream.Exchange {
				transport := plain(t)
				transport.TLSHandshakeTimeout = time.Millisecond
				return client(t, by(transport), "https://"+listener(t, func(net.Conn) {})).Send(t.Context(), 0, message)
			}},
			{"nobody vouches for the certificate", func(t *testing.T) upstream.Exchange {
				server := tlsServer(t)
				return send(t, by, server.URL)
			}},
			{"the certificate is another host's", func(t *testing.T) upstream.Exchange {
				server := tlsServer(t)
				transport := server.Client().Transport.(*http.Transport)
				transport.TLSClientConfig.ServerName = "api.weixin.qq.com"
				return client(t, by(transport), server.URL).Send(t.Context(), 0, message)
			}},
			{"the versions of TLS do not meet", func(t *testing.T) upstream.Exchange {
				server := tlsServer(t)
				transport := trusting(t)
				transport.TLSClientConfig.MaxVersion = tls.VersionTLS10
				return client(t, by(transport), server.URL).Send(t.Context(), 0, message)
			}},
			{"the time had run out before", func(t *testing.T) upstream.Exchange {
				over, cancel := context.WithCancel(t.Context())
				cancel()
				return client(t, by(plain(t)), "http://"+refusing(t)).Send(over, 0, message)
			}},
		} {
			t.Run(c.name, func(t *testing.T) {
				exchange := c.send(t)
				require.False(t, exchange.Sent, exchange.Err)
				brokeOff(t, exchange)
			})
		}
	})
}

// tlsServer is a server that fails the test if it is asked anything.
func tlsServer(t *testing.T) *httptest.Server {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the message was sent")
	}))
	server.Config.ErrorLog = quiet
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// brokeOff checks that there is an error, nothing that could be taken for an
// answer, and no secret.
func brokeOff(t *testing.T, exchange upstream.Exchange) {
	t.Helper()
	require.Error(t, exchange.Err)
	require.Equal(t, upstream.Exchange{Sent: exchange.Sent, Err: exchange.Err}, exchange)
	for err := exchange.Err; err != nil; err = errors.Unwrap(err) {
		for _, secret := range []string{canary, "access_token", `"sig"`, "bill_no", "errcode"} {
			require.NotContains(t, err.Error(), secret)
		}
	}
}

func TestWhatBreaksOffOnAConnectionMayHaveBeenSent(t *testing.T) {
	overEach(t, func(t *testing.T, by over) {
		const ok = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
		silent := func(net.Conn) {}
		for _, c := range []struct {
			name string
			host func(t *testing.T) string
		}{
			{"a hang-up at once", func(t *testing.T) string { return "http://" + listener(t, hangUp) }},
			{"a hang-up instead of an answer", func(t *testing.T) string { return says(t, "", hangUp) }},
			{"a reset instead of an answer", func(t *testing.T) string { return says(t, "", reset) }},
			{"silence", func(t *testing.T) string { return says(t, "", silent) }},
			{"a hang-up within the headers", func(t *testing.T) string { return says(t, ok, hangUp) }},
			{"a reset after the headers", func(t *testing.T) string { return says(t, ok+"Content-Length: 27\r\n\r\n", reset) }},
			{"silence after the headers", func(t *testing.T) string { return says(t, ok+"Content-Length: 27\r\n\r\n", silent) }},
			{"half a body", func(t *testing.T) string { return says(t, ok+"Content-Length: 27\r\n\r\n"+answer[:9], hangUp) }},
			{"half a body and silence", func(t *testing.T) string { return says(t, ok+"Content-Length: 27\r\n\r\n"+answer[:9], silent) }},
			{"a length that is too long", func(t *testing.T) string { return says(t, ok+"Content-Length: 28\r\n\r\n"+answer, hangUp) }},
			{"chunks without the last", func(t *testing.T) string {
				return says(t, ok+"Transfer-Encoding: chunked\r\n\r\n1b\r\n"+answer+"\r\n", hangUp)
			}},
			{"an answer without end", func(t *testing.T) string {
				return says(t, ok+"\r\n"+strings.Repeat(" ", 1<<20)+answer, hangUp)
			}},
			{"headers without end", func(t *testing.T) string {
				return says(t, ok+strings.Repeat("X-Errcode: 0\r\n", 1<<20), hangUp)
			}},
			{"an answer that is no HTTP", func(t *testing.T) string { return says(t, answer+"\r\n\r\n", hangUp) }},
			{"a header that is none", func(t *testing.T) string { return says(t, ok+canary+"\r\n\r\n"+answer, hangUp) }},
			{"a length that is none", func(t *testing.T) string { return says(t, ok+"Content-Length: "+canary+"\r\n\r\n", hangUp) }},
			{"another protocol", func(t *testing.T) string {
				return says(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"+answer, silent)
			}},
			{"an echo", func(t *testing.T) string {
				return "http://" + listener(t, func(conn net.Conn) { _, _ = io.Copy(conn, conn) })
			}},
		} {
			t.Run(c.name, func(t *testing.T) {
				exchange := client(t, by(plain(t)), c.host(t)).Send(soon(t), 0, message)
				require.True(t, exchange.Sent, exchange.Err)
				brokeOff(t, exchange)
			})
		}
	})
}

func gzipped(text string) string {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return packed.String()
}

// Only net/http asks for it, and what it gets is unpacked before it counts.
func TestGzipIsUnpackedForWhoAsksForIt(t *testing.T) {
	zipped := gzipped(answer)
	for _, c := range []struct {
		name, body string
		whole      bool
	}{
		{"whole", zipped, true},
		{"that is none", answer, false},
		{"that ends too early", zipped[:20], false},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := says(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", len(c.body), c.body), hangUp)
			exchange := send(t, byNetHTTP, host)
			if c.whole {
				require.Equal(t, upstream.Exchange{Sent: true, Status: 200, Body: []byte(answer)}, exchange)
			} else {
				require.True(t, exchange.Sent)
				brokeOff(t, exchange)
			}
			require.Equal(t, upstream.Exchange{Sent: true, Status: 200, Body: []byte(c.body)}, send(t, byHTTP1(t), host))
		})
	}
}

func TestAWholeAnswerIsReadAsItStands(t *testing.T) {
	overEach(t, func(t *testing.T, by over) {
		large := strings.Repeat("x", 64<<10)
		for _, c := range []struct {
			name   string
			answer string
			status int
			body   string
		}{
			{"of a known length", "200 OK\r\nContent-Length: 27\r\n\r\n" + answer, 200, answer},
			{"that ends with the connection", "200 OK\r\n\r\n" + answer, 200, answer},
			{"in chunks", "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1b\r\n" + answer + "\r\n0\r\n\r\n", 200, answer},
			{"without a body", "200 OK\r\nContent-Length: 0\r\n\r\n", 200, ""},
			{"that may not have a body", "204 No Content\r\n\r\n", 204, ""},
			{"that is not JSON", "200 OK\r\n\r\n<html>", 200, "<html>"},
			{"after an interim one", "103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" + answer, 200, answer},
			{"of a gateway that fails", "502 Bad Gateway\r\n\r\n<html>", 502, "<html>"},
			{"as large as may be", "200 OK\r\n\r\n" + large, 200, large},
		} {
			t.Run(c.name, func(t *testing.T) {
				exchange := send(t, by, says(t, "HTTP/1.1 "+c.answer, hangUp))
				require.Equal(t, upstream.Exchange{Sent: true, Status: c.status, Body: []byte(c.body)}, exchange)
			})
		}
	})
}

func TestAnAnswerMayComeByteByByte(t *testing.T) {
	overEach(t, func(t *testing.T, by over) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for _, b := range []byte(answer) {
				_, _ = w.Write([]byte{b})
				_ = http.NewResponseController(w).Flush()
			}
		}))
		defer server.Close()
		exchange := send(t, by, server.URL)
		require.NoError(t, exchange.Err)
		require.Equal(t, answer, string(exchange.Body))
	})
}

func TestTheContentTypeIsHandedOn(t *testing.T) {
	overEach(t, func(t *testing.T, by over) {
		exchange := send(t, by, says(t, "HTTP/1.1 200 OK\r\nContent-Type: application/json; encoding=utf-8\r\n\r\n"+answer, hangUp))
		require.Equal(t, "application/json; encoding=utf-8", exchange.ContentType)
	})
}

func TestARedirectIsAnAnswer(t *testing.T) {
	overEach(t, func(t *testing.T, by over) {
		elsewhere := tlsServer(t)
		for _, status := range []int{301, 302, 307, 308} {
			exchange := send(t, by, says(t, fmt.Sprintf("HTTP/1.1 %d Moved\r\nLocation: %s\r\n\r\n", status, elsewhere.URL), hangUp))
			require.Equal(t, upstream.Exchange{Sent: true, Status: status, Body: []byte{}}, exchange)
		}
	})
}

// What leaves is all that leaves: no header of anybody else's, and no
// Idempotency-Key, with which net/http sends a POST twice by itself.
func TestTheseAreTheBytesThatLeave(t *testing.T) {
	for name, c := range map[string]struct {
		by    over
		gzips string
	}{"net-http": {byNetHTTP, "Accept-Encoding: gzip\r\n"}, "http1": {byHTTP1(t), ""}} {
		t.Run(name, func(t *testing.T) {
			var sent bytes.Buffer
			address := listener(t, func(conn net.Conn) {
				if readRequest(bufio.NewReader(io.TeeReader(conn, &sent))) {
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n"+answer)
				}
				_ = conn.Close()
			})
			require.NoError(t, send(t, c.by, "http://"+address).Err)
			require.Equal(t, "POST /cgi-bin/midas/pay?access_token="+canary+" HTTP/1.1\r\n"+
				"Host: "+address+"\r\n"+
				"User-Agent: midas-sidecar\r\n"+
				fmt.Sprintf("Content-Length: %d\r\n", len(message.Body()))+
				"Content-Type: application/json\r\n"+
				c.gzips+"\r\n"+
				string(message.Body()), sent.String())
		})
	}
}

func TestATimeoutIsKnownAsOne(t *testing.T) {
	overEach(t, func(t *testing.T, by over) {
		exchange := client(t, by(plain(t)), says(t, "")).Send(soon(t), 0, message)
		require.ErrorIs(t, exchange.Err, context.DeadlineExceeded)
	})
}
