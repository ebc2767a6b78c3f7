package http1_test

import (
	"bufio"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"midas-sidecar/internal/http1"
)

// Whatever a server says, in whatever pieces, and whether it then hangs up or keeps
// silent: it is an answer, or none, as it is to net/http.
func FuzzAnswers(f *testing.F) {
	log.SetOutput(io.Discard) // net/http tells of bytes after an answer
	f.Cleanup(func() { log.SetOutput(os.Stderr) })
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, says := range []string{
		"", "\r\n", "x", "HTTP/1.1", "HTTP/1.1 200", "HTTP/1.1 200 OK", ok, ok + "\r\n", "220 ready\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/9.9 200 OK\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nhello",
		ok + "Content-Length: 5\r\n\r\nhello", ok + "Content-Length: 5\r\n\r\nhell", ok + "Content-Length: 5\r\n\r\nhello!", ok + "Content-Length: 0\r\n\r\n", ok + "content-length:5\n\nhello",
		ok + "\r\nhello", ok + "Connection: close\r\n\r\nhello", ok + "Connection: keep-alive\r\n\r\nhello",
		ok + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", ok + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", ok + "Content-Length: -1\r\n\r\n", ok + "Content-Length: +5\r\n\r\nhello", ok + "Content-Length: 5, 5\r\n\r\nhello", ok + "Content-Length:\r\n\r\nhello", ok + "Content-Length: 9223372036854775808\r\n\r\nhello",
		ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhel", ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", ok + "Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0;c\r\nX: y\r\n\r\n", ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX\r\n\r\n", ok + "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n", ok + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello", ok + "Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n",
		ok + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n", ok + "Transfer-Encoding: chunked, chunked\r\n\r\n", ok + "Transfer-Encoding: gzip\r\n\r\nhello", ok + "Transfer-Encoding: identity\r\n\r\nhello", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\n" + ok + "\r\nhello", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 9) + ok + "\r\nhello", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhello" + ok + "\r\n",
		"HTTP/1.1 101 Switching Protocols\r\n\r\nhello", "HTTP/1.1 099 What\r\n\r\nhello", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n", "HTTP/1.1 -20 OK\r\n\r\n", "HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n",
		ok + "X\r\n\r\nhello", ok + " X: y\r\n\r\nhello", ok + "X: y\r\n z\r\n\r\nhello", ok + "X : y\r\n\r\nhello", ok + "X: \x00\r\n\r\nhello", ok + ": y\r\n\r\nhello", ok + "X: " + strings.Repeat("y", 5000) + "\r\nContent-Length: 5\r\n\r\nhello", ok + "Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", ok + "Trailer: Content-Length\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ok + "Content-Length: 5000\r\n\r\n" + strings.Repeat("hello", 1000) + "HTTP/1.1 200 OK\r\n\r\n",
	} {
		for _, piece := range []uint16{1, 7, 0} {
			for _, hangsUp := range []bool{true, false} {
				f.Add([]byte(says), piece, hangsUp, http.MethodPost)
			}
		}
		f.Add([]byte(says), uint16(0), true, http.MethodHead)
	}
	f.Fuzz(func(t *testing.T, says []byte, piece uint16, hangsUp bool, method string) {
		if method != http.MethodHead {
			method = http.MethodPost
		}
		synctest.Test(t, func(t *testing.T) {
			base := func() *http.Transport {
				return &http.Transport{DisableCompression: true, MaxResponseHeaderBytes: 20_000, DialContext: func(context.Context, string, string) (net.Conn, error) {
					here, there := net.Pipe()
					go hostile(there, says, int(piece), hangsUp)
					return here, nil
				}}
			}
			stock := base()
			want, wantErr := outcome(t, stock, method)
			got, gotErr := outcome(t, http1.New(base(), nil), method)
			stock.CloseIdleConnections()
			if (gotErr == nil) != (wantErr == nil) || gotErr == nil && got != want {
				t.Errorf("%q is %q, %v; to net/http %q, %v", says, got, gotErr, want, wantErr)
			}
		})
	})
}

// hostile reads a request and says something.
func hostile(c net.Conn, says []byte, piece int, hangsUp bool) {
	req, err := http.ReadRequest(bufio.NewReader(c))
	if err == nil {
		_, err = io.Copy(io.Discard, req.Body)
	}
	for len(says) > 0 && err == nil {
		n := len(says)
		if piece > 0 {
			n = min(n, piece)
		}
		_, err = c.Write(says[:n])
		says = says[n:]
	}
	if !hangsUp {
		_, _ = io.Copy(io.Discard, c) // until the other side does
	}
	_ = c.Close()
}

// outcome is status and body of the answer.
func outcome(t *testing.T, transport http.RoundTripper, method string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://example.com/", strings.NewReader("{}"))
	if err != nil {
		return "", err
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusSwitchingProtocols {
		return res.Status, nil // what follows is no answer, and upgrades are net/http's
	}
	body, err := io.ReadAll(res.Body)
	return res.Status + " " + string(body), err
}
