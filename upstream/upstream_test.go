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
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/upstream"
)

func TestNothingIsSentWhereThereIsNoConnection(t *testing.T) {
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
			return send(t, "http://"+refusing(t))
		}},
		{"the dial is refused, HTTP/2 hoped for", func(t *testing.T) upstream.Exchange {
			transport := plain(t)
			transport.ForceAttemptHTTP2 = true
			return client(t, transport, "https://"+refusing(t)).Send(t.Context(), 0, message)
		}},
		{"the name is unknown", func(t *testing.T) upstream.Exchange {
			offline := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
				return nil, errors.New("no name server")
			}}
			transport := plain(t)
			transport.DialContext = (&net.Dialer{Resolver: offline}).DialContext
			return client(t, transport, "https://nothing.invalid").Send(t.Context(), 0, message)
		}},
		{"nobody takes the call in time", func(t *testing.T) upstream.Exchange {
			transport := plain(t)
			transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return client(t, transport, "http://192.0.2.1").Send(soon(t), 0, message)
		}},
		{"the server speaks no TLS", func(t *testing.T) upstream.Exchange {
			return send(t, "https://"+listener(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "220 ready\r\n") }))
		}},
		{"the server hangs up in the handshake", func(t *testing.T) upstream.Exchange {
			return send(t, "https://"+listener(t, hangUp))
		}},
		{"the handshake takes longer than the attempt", func(t *testing.T) upstream.Exchange {
			return client(t, plain(t), "https://"+listener(t, func(net.Conn) {})).Send(soon(t), 0, message)
		}},
		{"the handshake takes longer than the transport waits", func(t *testing.T) upstream.Exchange {
			transport := plain(t)
			transport.TLSHandshakeTimeout = time.Millisecond
			return client(t, transport, "https://"+listener(t, func(net.Conn) {})).Send(t.Context(), 0, message)
		}},
		{"nobody vouches for the certificate", func(t *testing.T) upstream.Exchange {
			server := tlsServer(t)
			return send(t, server.URL)
		}},
		{"the certificate is another host's", func(t *testing.T) upstream.Exchange {
			server := tlsServer(t)
			transport := server.Client().Transport.(*http.Transport)
			transport.TLSClientConfig.ServerName = "api.weixin.qq.com"
			return client(t, transport, server.URL).Send(t.Context(), 0, message)
		}},
		{"the versions of TLS do not meet", func(t *testing.T) upstream.Exchange {
			server := tlsServer(t)
			transport := trusting(t)
			transport.TLSClientConfig.MaxVersion = tls.VersionTLS10
			return client(t, transport, server.URL).Send(t.Context(), 0, message)
		}},
		{"the time had run out before", func(t *testing.T) upstream.Exchange {
			over, cancel := context.WithCancel(t.Context())
			cancel()
			return client(t, plain(t), "http://"+refusing(t)).Send(over, 0, message)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			exchange := c.send(t)
			require.False(t, exchange.Sent, exchange.Err)
			brokeOff(t, exchange)
		})
	}
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
		{"gzip that is none", func(t *testing.T) string {
			return says(t, ok+"Content-Encoding: gzip\r\nContent-Length: 27\r\n\r\n"+answer, hangUp)
		}},
		{"gzip that ends too early", func(t *testing.T) string {
			packed := gzipped(answer)[:20]
			return says(t, fmt.Sprintf("%sContent-Encoding: gzip\r\nContent-Length: 20\r\n\r\n%s", ok, packed), hangUp)
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
			exchange := client(t, plain(t), c.host(t)).Send(soon(t), 0, message)
			require.True(t, exchange.Sent, exchange.Err)
			brokeOff(t, exchange)
		})
	}
}

func gzipped(text string) string {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return packed.String()
}

func TestAWholeAnswerIsReadAsItStands(t *testing.T) {
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
		{"compressed", fmt.Sprintf("200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", len(gzipped(answer)), gzipped(answer)), 200, answer},
		{"without a body", "200 OK\r\nContent-Length: 0\r\n\r\n", 200, ""},
		{"that may not have a body", "204 No Content\r\n\r\n", 204, ""},
		{"that is not JSON", "200 OK\r\n\r\n<html>", 200, "<html>"},
		{"after an interim one", "103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" + answer, 200, answer},
		{"of a gateway that fails", "502 Bad Gateway\r\n\r\n<html>", 502, "<html>"},
		{"as large as may be", "200 OK\r\n\r\n" + large, 200, large},
	} {
		t.Run(c.name, func(t *testing.T) {
			exchange := send(t, says(t, "HTTP/1.1 "+c.answer, hangUp))
			require.Equal(t, upstream.Exchange{Sent: true, Status: c.status, Body: []byte(c.body)}, exchange)
		})
	}
}

func TestAnAnswerMayComeByteByByte(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, b := range []byte(answer) {
			_, _ = w.Write([]byte{b})
			_ = http.NewResponseController(w).Flush()
		}
	}))
	defer server.Close()
	exchange := send(t, server.URL)
	require.NoError(t, exchange.Err)
	require.Equal(t, answer, string(exchange.Body))
}

func TestTheContentTypeIsHandedOn(t *testing.T) {
	exchange := send(t, says(t, "HTTP/1.1 200 OK\r\nContent-Type: application/json; encoding=utf-8\r\n\r\n"+answer, hangUp))
	require.Equal(t, "application/json; encoding=utf-8", exchange.ContentType)
}

func TestARedirectIsAnAnswer(t *testing.T) {
	elsewhere := tlsServer(t)
	for _, status := range []int{301, 302, 307, 308} {
		exchange := send(t, says(t, fmt.Sprintf("HTTP/1.1 %d Moved\r\nLocation: %s\r\n\r\n", status, elsewhere.URL), hangUp))
		require.Equal(t, upstream.Exchange{Sent: true, Status: status, Body: []byte{}}, exchange)
	}
}

// What leaves is all that leaves: no header of anybody else's, and no
// Idempotency-Key, with which net/http sends a POST twice by itself.
func TestTheseAreTheBytesThatLeave(t *testing.T) {
	var sent bytes.Buffer
	address := listener(t, func(conn net.Conn) {
		if readRequest(bufio.NewReader(io.TeeReader(conn, &sent))) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n"+answer)
		}
		_ = conn.Close()
	})
	require.NoError(t, send(t, "http://"+address).Err)
	require.Equal(t, "POST /cgi-bin/midas/pay?access_token="+canary+" HTTP/1.1\r\n"+
		"Host: "+address+"\r\n"+
		"User-Agent: midas-sidecar\r\n"+
		fmt.Sprintf("Content-Length: %d\r\n", len(message.Body()))+
		"Content-Type: application/json\r\n"+
		"Accept-Encoding: gzip\r\n\r\n"+
		string(message.Body()), sent.String())
}

// The connection is good for one request, dies with the next, and would be good
// for more if net/http opened another.
func TestAMessageIsNotSentAgainWhenAKeptConnectionDies(t *testing.T) {
	for name, end := range map[string]func(net.Conn){"hung up": hangUp, "reset": reset} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int32
			c := client(t, plain(t), "http://"+listener(t, func(conn net.Conn) {
				r := bufio.NewReader(conn)
				for readRequest(r) {
					if requests.Add(1) == 2 {
						end(conn)
						return
					}
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n"+answer)
				}
			}))
			require.NoError(t, c.Send(t.Context(), 0, message).Err)
			exchange := c.Send(t.Context(), 0, message)
			require.True(t, exchange.Sent)
			brokeOff(t, exchange)
			require.EqualValues(t, 2, requests.Load())
		})
	}
}

// deaf is a connection on which nothing can be written any more once it is so.
type deaf struct {
	net.Conn
	now *atomic.Bool
}

func (d deaf) Write(b []byte) (int, error) {
	if d.now.CompareAndSwap(true, false) {
		return 0, errors.New("broken pipe")
	}
	return d.Conn.Write(b)
}

func TestAMessageOfWhichNothingWasWrittenTakesANewConnection(t *testing.T) {
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	defer server.Close()
	var broken atomic.Bool
	transport := plain(t)
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return deaf{conn, &broken}, err
	}
	c := client(t, transport, server.URL)
	require.NoError(t, c.Send(t.Context(), 0, message).Err)
	broken.Store(true)
	require.NoError(t, c.Send(t.Context(), 0, message).Err)
	require.EqualValues(t, 2, requests.Load())
}

// Here the server leaves while the client may be about to write. Whatever net/http
// does then, no message is there twice, and none that was there is denied.
func TestAMessageIsSentAtMostOnceOnConnectionsThatCloseWhenIdle(t *testing.T) {
	var requests atomic.Int32
	c := client(t, plain(t), "http://"+listener(t, func(conn net.Conn) {
		if readRequest(bufio.NewReader(conn)) {
			requests.Add(1)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n"+answer)
		}
		_ = conn.Close()
	}))
	for range 200 {
		before := requests.Load()
		exchange := c.Send(t.Context(), 0, message)
		seen := requests.Load() - before
		require.LessOrEqual(t, seen, int32(1))
		require.True(t, exchange.Sent)
		if exchange.Err == nil {
			require.EqualValues(t, 1, seen)
		}
	}
}

func TestHTTP2AnswersAreRead(t *testing.T) {
	host, transport := http2(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Proto)
	})
	c := client(t, transport, host)
	for range 2 { // on a new connection and on a kept one
		exchange := c.Send(t.Context(), 0, message)
		require.NoError(t, exchange.Err)
		require.Equal(t, "HTTP/2.0", string(exchange.Body))
	}
}

func TestWhatBreaksOffOverHTTP2MayHaveBeenSent(t *testing.T) {
	for name, do := range map[string]http.HandlerFunc{
		"silence":       func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"a lost stream": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"half a body": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "27")
			_, _ = io.WriteString(w, answer[:9])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
	} {
		for _, kept := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, kept connection %t", name, kept), func(t *testing.T) {
				var bad atomic.Bool
				var requests atomic.Int32
				host, transport := http2(t, func(w http.ResponseWriter, r *http.Request) {
					if bad.Load() {
						requests.Add(1)
						do(w, r)
					}
				})
				c := client(t, transport, host)
				if kept {
					require.NoError(t, c.Send(t.Context(), 0, message).Err)
				}
				bad.Store(true)
				exchange := c.Send(soon(t), 0, message)
				require.True(t, exchange.Sent, exchange.Err)
				brokeOff(t, exchange)
				require.EqualValues(t, 1, requests.Load())
			})
		}
	}
}

func TestATransportThatTellsNothingIsNotBelieved(t *testing.T) {
	for _, err := range []error{
		errors.New("reading " + canary),
		context.DeadlineExceeded,
		context.Canceled,
		io.EOF,
		&net.OpError{Op: "dial", Err: errors.New("refused")},
		&url.Error{Op: "Post", URL: "https://x/?access_token=" + canary, Err: io.EOF},
		&url.Error{Op: "Post", URL: "https://x/?access_token=" + canary, Err: &url.Error{Op: "Post", URL: canary, Err: io.EOF}},
		fmt.Errorf("POST https://x/?access_token=%s: %w", canary, &net.OpError{Op: "read", Err: errors.New("reset")}),
	} {
		exchange := client(t, roundTripper(func(*http.Request) (*http.Response, error) { return nil, err }), "https://x").
			Send(t.Context(), 0, message)
		require.True(t, exchange.Sent)
		brokeOff(t, exchange)
	}
}

func TestATimeoutIsKnownAsOne(t *testing.T) {
	exchange := client(t, plain(t), says(t, "")).Send(soon(t), 0, message)
	require.ErrorIs(t, exchange.Err, context.DeadlineExceeded)
}

// hostsAsked returns a transport that notes whom it asks and answers as told.
func hostsAsked(asked *[]string, answer func(r *http.Request) (*http.Response, error)) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		*asked = append(*asked, r.URL.Host)
		return answer(r)
	})
}

func TestAttemptsGoRoundTheHosts(t *testing.T) {
	var asked []string
	c := client(t, hostsAsked(&asked, func(*http.Request) (*http.Response, error) { return answering(200, answer) }),
		"https://a", "https://b/", "http://c:8080")
	for attempt := range 5 {
		require.NoError(t, c.Send(t.Context(), attempt, message).Err)
	}
	require.Equal(t, []string{"a", "b", "c:8080", "a", "b"}, asked)
}

func TestAskGoesOnUntilAHostAnswers(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(host string) (*http.Response, error)
		asked  []string
		body   string // "" for an error
	}{
		{"the first answers", func(host string) (*http.Response, error) { return answering(200, host) }, []string{"a"}, "a"},
		{"the first refuses", func(host string) (*http.Response, error) { return answering(401, host) }, []string{"a"}, "a"},
		{"the first fails", func(host string) (*http.Response, error) {
			if host == "a" {
				return nil, io.EOF
			}
			return answering(200, host)
		}, []string{"a", "b"}, "b"},
		{"the first is a gateway without WeChat", func(host string) (*http.Response, error) {
			if host == "a" {
				return answering(502, host)
			}
			return answering(200, host)
		}, []string{"a", "b"}, "b"},
		{"all are gateways without WeChat", func(host string) (*http.Response, error) { return answering(502, host) }, []string{"a", "b", "c"}, "c"},
		{"all fail", func(string) (*http.Response, error) { return nil, io.EOF }, []string{"a", "b", "c"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked []string
			exchange, err := client(t, hostsAsked(&asked, func(r *http.Request) (*http.Response, error) { return c.answer(r.URL.Host) }),
				"https://a", "https://b", "https://c").Ask(t.Context(), message)
			require.Equal(t, c.asked, asked)
			require.Equal(t, c.body, string(exchange.Body))
			require.Equal(t, c.body == "", err != nil)
		})
	}
}

func TestAskGivesUpWithItsCaller(t *testing.T) {
	var asked []string
	ctx, hangUp := context.WithCancel(t.Context())
	_, err := client(t, hostsAsked(&asked, func(*http.Request) (*http.Response, error) {
		hangUp()
		return nil, ctx.Err()
	}), "https://a", "https://b").Ask(ctx, message)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, []string{"a"}, asked)
}

func TestAHostThatHangsLeavesTimeForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		c := client(t, hostsAsked(&asked, func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "c" {
				return answering(200, answer)
			}
			<-r.Context().Done()
			return nil, r.Context().Err()
		}), "https://a", "https://b", "https://c")
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
		defer cancel()
		start := time.Now()
		exchange, err := c.Ask(ctx, message)
		require.NoError(t, err)
		require.Equal(t, answer, string(exchange.Body))
		require.Equal(t, 4*time.Second, time.Since(start))
	})
}

func TestNewRefusesWhatIsNotAHost(t *testing.T) {
	for _, host := range []string{
		"", "api.weixin.qq.com", "//api.weixin.qq.com", "ftp://api.weixin.qq.com", "https:api.weixin.qq.com", "https://", "https://:443",
		"https://api.weixin.qq.com/cgi-bin", "https://api.weixin.qq.com?access_token=" + canary, "https://api.weixin.qq.com#" + canary,
		"https://user:" + canary + "@api.weixin.qq.com", "https://api weixin", "https://api.weixin.qq.com:" + canary, "https://%zz",
	} {
		_, err := upstream.New([]string{"https://api2.weixin.qq.com", host}, nil)
		require.EqualError(t, err, "upstream: must be http:// or https:// and a host, nothing more; number 2 is not", host)
	}
	_, err := upstream.New(nil, nil)
	require.EqualError(t, err, "upstream: at least one is needed")
}
