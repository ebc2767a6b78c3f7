package caddymodule_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/wechat"
)

const payPath = "/cgi-bin/midas/pay"

// patience is longer than any refusal takes, and shorter than the deadline that
// ends the wait for a body.
const patience = 8 * time.Second

// raw sends bytes over a connection of their own, which a client of HTTP would not,
// and returns what is answered first.
func (w *world) raw(request string) answer {
	w.t.Helper()
	conn := w.dial()
	go func() { _, _ = io.WriteString(conn, request) }() // a server that refuses reads no more
	return w.answered(conn)
}

func (w *world) dial() net.Conn {
	w.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.sidecar, "http://"))
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (w *world) answered(conn net.Conn) answer {
	w.t.Helper()
	require.NoError(w.t, conn.SetReadDeadline(time.Now().Add(patience)))
	reader := bufio.NewReader(conn)
	res, err := http.ReadResponse(reader, nil)
	if err == nil && res.StatusCode == http.StatusContinue {
		res, err = http.ReadResponse(reader, nil)
	}
	require.NoError(w.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(w.t, err)
	a := answer{status: res.StatusCode, header: res.Header, body: string(text)}
	_ = json.Unmarshal(text, &a)
	return a
}

// with changes the config's global options.
func (w *world) with(options string) {
	w.t.Helper()
	w.reload(strings.Replace(w.config, "admin off", "admin off\n"+options, 1))
}

// requireAlive wants a game server's next call to work as if nothing had been.
func (w *world) requireAlive() {
	w.t.Helper()
	a := w.raw(posted("/cgi-bin/midas/getbalance", "", `{"openid":"`+player+`"}`))
	require.Equal(w.t, "applied", a.header.Get("Midas-Outcome"))
}

// posted is a request as a game server sends it, with more headers.
func posted(path, headers, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s", path, len(body), headers, body)
}

// headed is a request whose headers are all the test's.
func headed(headers, body string) string {
	return "POST " + payPath + " HTTP/1.1\r\nHost: 127.0.0.1\r\n" + headers + "\r\n" + body
}

const (
	asJSON  = "Content-Type: application/json\r\n"
	chunked = "Transfer-Encoding: chunked\r\n"
)

// chunks is a body in one chunk.
func chunks(body string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body) }

// paying is a payment's JSON with one member more or changed.
func paying(member string) string {
	return `{"openid":"` + player + `","bill_no":"b1",` + member + `}`
}

func TestHostileRequestsAreRefusedByTheSidecarAndNothingReachesWeChat(t *testing.T) {
	w := newWorld(t, "", "midas\n respond 404")
	good := pay("b1", 1)
	length := func(body string) string { return fmt.Sprintf("Content-Length: %d\r\n", len(body)) }
	deep := strings.Repeat("[", 100_000)

	for _, c := range []struct {
		name, request string
		status        int
		errmsg        string // how it begins
	}{
		{"GET", "GET " + payPath + " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 405, "method"},
		{"TRACE", "TRACE " + payPath + " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 405, "method"},
		{"CONNECT with a path", "CONNECT " + payPath + " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 405, "method"},
		{"a method in lower case", "post " + payPath + " HTTP/1.1\r\nHost: 127.0.0.1\r\n" + asJSON + length(good) + "\r\n" + good, 405, "method"},
		{"a method that another hides", "GET " + payPath + " HTTP/1.1\r\nHost: 127.0.0.1\r\nX-HTTP-Method-Override: POST\r\n" + asJSON + length(good) + "\r\n" + good, 405, "method"},
		{"PUT", strings.Replace(posted(payPath, "", good), "POST", "PUT", 1), 405, "method"},

		{"no type", headed(length(good), good), 415, "content-type"},
		{"an empty type", headed("Content-Type:\r\n"+length(good), good), 415, "content-type"},
		{"a browser's type", headed("Content-Type: text/plain\r\n"+length(good), good), 415, "content-type"},
		{"a form", headed("Content-Type: multipart/form-data; boundary=x\r\n"+length(good), good), 415, "content-type"},
		{"nearly the type", headed("Content-Type: application/json5\r\n"+length(good), good), 415, "content-type"},
		{"two types in a line", headed("Content-Type: application/json, text/plain\r\n"+length(good), good), 415, "content-type"},
		{"two types", headed(asJSON+"Content-Type: text/plain\r\n"+length(good), good), 415, "content-type"},
		{"the type twice", headed(asJSON+asJSON+length(good), good), 415, "content-type"},
		{"two charsets", headed("Content-Type: application/json; charset=utf-8; charset=utf-16\r\n"+length(good), good), 415, "content-type"},
		{"UTF-16", headed("Content-Type: application/json; charset=utf-16\r\n"+length(good), good), 415, "content-type"},
		{"UTF-7", headed("Content-Type: application/json; charset=\"utf-7\"\r\n"+length(good), good), 415, "content-type"},
		{"gzip", posted(payPath, "Content-Encoding: gzip\r\n", "\x1f\x8b\x08\x00"), 415, "content-encoding"},
		{"gzip in name only", posted(payPath, "Content-Encoding: gzip\r\n", good), 415, "content-encoding"},

		{"a length above the limit", headed(asJSON+"Content-Length: 16385\r\n", ""), 413, "body: must not be larger"},
		{"a length of an exabyte", headed(asJSON+"Content-Length: 1152921504606846976\r\n", good), 413, "body: must not be larger"},
		{"10 MB", posted(payPath, "", strings.Repeat(" ", 10<<20)), 413, "body: must not be larger"},
		{"10 MB of one chunk", headed(asJSON+chunked, chunks(strings.Repeat(" ", 10<<20))), 413, "body: must not be larger"},
		{"10 MB of small chunks", headed(asJSON+chunked, strings.Repeat("1\r\n \r\n", 10<<20/6)+"0\r\n\r\n"), 413, "body: must not be larger"},
		{"a chunk of an exabyte", headed(asJSON+chunked, "1000000000000000\r\n"+strings.Repeat(" ", 17<<10)), 413, "body: must not be larger"},
		{"a deep array", posted(payPath, "", deep), 413, "body: must not be larger"},

		{"a chunk size that is none", headed(asJSON+chunked, "x\r\n"+good), 400, "body: ended"},
		{"a negative chunk size", headed(asJSON+chunked, "-1\r\n"+good), 400, "body: ended"},
		{"a chunk size beyond 64 bits", headed(asJSON+chunked, "10000000000000000\r\n"+good), 400, "body: ended"},
		{"a chunk without its end", headed(asJSON+chunked, fmt.Sprintf("%x\r\n%s0\r\n\r\n", len(good), good)), 400, "body: ended"},
		{"a chunk extension without an end", headed(asJSON+chunked, "1;"+strings.Repeat("x", 10<<10)+"\r\n"), 400, "body: ended"},
		{"no body", headed(asJSON+"Content-Length: 0\r\n", ""), 400, "body: must be a JSON object, got nothing"},
		{"no length", headed(asJSON, good), 400, "body: must be a JSON object, got nothing"},

		{"any query", posted(payPath+"?a=b", "", good), 400, "query"},
		{"an empty query", posted(payPath+"?", "", good), 400, "query"},
		{"a query that cannot be read", posted(payPath+"?%zz", "", good), 400, "query"},
		{"a token in the query", posted(payPath+"?access_token=t", "", good), 400, "access_token"},
		{"a token in the query, spelled otherwise", posted(payPath+"?acc%65ss_token=t", "", good), 400, "access_token"},
		{"a query behind a semicolon", posted(payPath+"?a;b", "", good), 400, "query"},

		{"a byte order mark", posted(payPath, "", "\ufeff"+good), 400, "body: must not begin with a byte order mark"},
		{"UTF-16 of another name", posted(payPath, "", "{\x00}\x00"), 400, "body: is not JSON"},
		{"NUL before", posted(payPath, "", "\x00"+good), 400, "body: must be a JSON object"},
		{"NUL after", posted(payPath, "", good+"\x00"), 400, "body: must be one JSON object"},
		{"NUL in a text", posted(payPath, "", paying("\"amt\":1,\"pay_item\":\"\x00\"")), 400, "body: is not JSON"},
		{"NUL in an escape", posted(payPath, "", paying(`"amt":1,"pay_item":"\u0000"`)), 400, "pay_item: must not contain control"},
		{"bad UTF-8", posted(payPath, "", paying("\"amt\":1,\"pay_item\":\"\xc0\xaf\"")), 400, "body: must be UTF-8"},
		{"bad UTF-8 in a name", posted(payPath, "", paying("\"amt\xff\":1")), 400, "body: must be UTF-8"},
		{"UTF-8 of a surrogate", posted(payPath, "", paying("\"amt\":1,\"pay_item\":\"\xed\xa0\x80\"")), 400, "body: must be UTF-8"},
		{"a lone surrogate", posted(payPath, "", paying(`"amt":1,"pay_item":"\udc00"`)), 400, "body: must be UTF-8"},
		{"a lone surrogate in a name", posted(payPath, "", paying(`"amt":1,"\ud800":1`)), 400, "body: must be UTF-8"},
		{"a line end in a text", posted(payPath, "", paying(`"amt":1,"pay_item":"a\r\nX-Evil: 1"`)), 400, "pay_item: must not contain control"},
		{"two objects", posted(payPath, "", good+good), 400, "body: must be one JSON object"},
		{"a deep array in a field", posted(payPath, "", `{"openid":`+deep[:16_000]), 400, "body: is not JSON"},
		{"a deep object in no field", posted(payPath, "", `{"x":`+strings.Repeat(`{"x":`, 3000)), 400, "body: is not JSON"},
		{"a thousand unknown fields", posted(payPath, "", `{"a":1`+strings.Repeat(",", 1000)+"}"), 400, "body: is not JSON"},
		{"__proto__", posted(payPath, "", paying(`"amt":1,"__proto__":{"amt":0}`)), 400, "__proto__: is not a field"},

		{"amt twice", posted(payPath, "", paying(`"amt":1,"amt":1`)), 400, "amt: appears twice"},
		{"amt twice, once escaped", posted(payPath, "", paying(`"amt":1,"\u0061mt":2`)), 400, "amt: appears twice"},
		{"amt NaN", posted(payPath, "", paying(`"amt":NaN`)), 400, "body: is not JSON"},
		{"amt Infinity", posted(payPath, "", paying(`"amt":Infinity`)), 400, "body: is not JSON"},
		{"amt 1e308", posted(payPath, "", paying(`"amt":1e308`)), 400, "amt: must be a positive integer, got 1e308"},
		{"amt 1e0", posted(payPath, "", paying(`"amt":1e0`)), 400, "amt: must be a positive integer, got 1e0"},
		{"amt 1.0", posted(payPath, "", paying(`"amt":1.0`)), 400, "amt: must be a positive integer, got 1.0"},
		{"amt in quotes", posted(payPath, "", paying(`"amt":"1"`)), 400, "amt: must be a number, got a string"},
		{"amt -0", posted(payPath, "", paying(`"amt":-0`)), 400, "amt: must be a positive integer, got -0"},
		{"amt -1", posted(payPath, "", paying(`"amt":-1`)), 400, "amt: must be a positive integer, got -1"},
		{"amt +1", posted(payPath, "", paying(`"amt":+1`)), 400, "body: is not JSON"},
		{"amt 01", posted(payPath, "", paying(`"amt":01`)), 400, "body: is not JSON"},
		{"amt 0x1", posted(payPath, "", paying(`"amt":0x1`)), 400, "body: is not JSON"},
		{"amt 2^53", posted(payPath, "", paying(`"amt":9007199254740992`)), 400, "amt: must be at most"},
		{"amt 2^64+1", posted(payPath, "", paying(`"amt":18446744073709551617`)), 400, "amt: must be at most"},
		{"amt of 15000 digits", posted(payPath, "", paying(`"amt":`+strings.Repeat("1", 15_000))), 400, "amt: must be at most"},
		{"amt in other digits", posted(payPath, "", paying(`"amt":١`)), 400, "body: is not JSON"},
		{"amt in an array", posted(payPath, "", paying(`"amt":[1]`)), 400, "amt: must not be nested"},
		{"amt true", posted(payPath, "", paying(`"amt":true`)), 400, "amt: must be a number"},
		{"amt null", posted(payPath, "", paying(`"amt":null`)), 400, "amt: is missing"},
		{"amt in capitals", posted(payPath, "", paying(`"AMT":1`)), 400, "AMT: is not a field"},

		{"openid with a blank", posted(payPath, "", `{"openid":"`+player+` ","amt":1,"bill_no":"b1"}`), 400, "openid"},
		{"openid with a tab", posted(payPath, "", `{"openid":"`+player+`\t","amt":1,"bill_no":"b1"}`), 400, "openid"},
		{"openid that climbs", posted(payPath, "", `{"openid":"../../`+appID+`","amt":1,"bill_no":"b1"}`), 400, "openid"},
		{"openid that is a placeholder", posted(payPath, "", `{"openid":"{env.HOME}","amt":1,"bill_no":"b1"}`), 400, "openid"},
		{"bill_no with a slash", posted(payPath, "", `{"openid":"`+player+`","amt":1,"bill_no":"b/1"}`), 400, "bill_no"},
		{"bill_no with a soft hyphen", posted(payPath, "", `{"openid":"`+player+`","amt":1,"bill_no":"b\u00ad1"}`), 400, "bill_no"},
		{"another's appid", posted(payPath, "", paying(`"amt":1,"appid":"wx0"`)), 403, "appid"},
		{"appid in capitals", posted(payPath, "", paying(`"amt":1,"appid":"WX1234567"`)), 403, "appid"},
		{"another's offer", posted(payPath, "", paying(`"amt":1,"offer_id":"12345679"`)), 400, "offer_id"},
		{"a signature", posted(payPath, "", paying(`"amt":1,"sig":""`)), 400, "sig"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			before := w.hits.payments()
			a := w.raw(c.request)
			require.Equal(t, c.status, a.status, a.body)
			require.True(t, strings.HasPrefix(a.Errmsg, c.errmsg), a.Errmsg)
			require.Equal(t, map[bool]int{true: 90017, false: 90018}[c.status == 403], a.Errcode)
			require.Equal(t, "not_sent", a.header.Get("Midas-Outcome"))
			require.Equal(t, "0", a.header.Get("Midas-Attempts"))
			require.Equal(t, a.Error, a.header.Get("Midas-Error"))
			require.Less(t, len(a.body), 1024)
			require.Equal(t, before, w.hits.payments())
			w.requireAlive()
		})
	}
	require.Equal(t, int64(10000), w.balance(wechat.Official))
}

// What is no request of HTTP is refused before there is anything to ask the sidecar.
func TestMalformedRequestsEndAtTheServer(t *testing.T) {
	w := newWorld(t, "", "midas\n respond 404")
	good := pay("b1", 1)
	length := fmt.Sprintf("Content-Length: %d\r\n", len(good))

	for _, c := range []struct {
		name, request string
		status        int
	}{
		{"two lengths", headed(asJSON+length+"Content-Length: 1\r\n", good), 400},
		{"two lengths in a line", headed(asJSON+fmt.Sprintf("Content-Length: %d, %d\r\n", len(good), len(good)), good), 400},
		{"a length with a sign", headed(asJSON+fmt.Sprintf("Content-Length: +%d\r\n", len(good)), good), 400},
		{"a negative length", headed(asJSON+"Content-Length: -1\r\n", good), 400},
		{"a length in hex", headed(asJSON+"Content-Length: 0x10\r\n", good), 400},
		{"a length beyond 64 bits", headed(asJSON+"Content-Length: 18446744073709551617\r\n", good), 400},
		{"an empty length", headed(asJSON+"Content-Length:\r\n", good), 400},
		{"chunks and a length that is none", headed(asJSON+chunked+"Content-Length: x\r\n", chunks(good)), 400},
		{"chunked twice", headed(asJSON+chunked+chunked, chunks(good)), 501},
		{"gzip and chunked", headed(asJSON+"Transfer-Encoding: gzip, chunked\r\n", chunks(good)), 501},
		{"identity", headed(asJSON+length+"Transfer-Encoding: identity\r\n", good), 501},
		{"chunked in disguise", headed(asJSON+length+"Transfer-Encoding: \"chunked\"\r\n", chunks(good)), 501},
		{"chunked with a vertical tab", headed(asJSON+length+"Transfer-Encoding: \vchunked\r\n", chunks(good)), 400},
		{"a blank before the colon", headed(asJSON+length+"Transfer-Encoding : chunked\r\n", chunks(good)), 400},
		{"a tab before the colon", headed(asJSON+length+"Transfer-Encoding\t: chunked\r\n", chunks(good)), 400},
		{"a header without a colon", headed(asJSON+length+"Idempotency-Key\r\n", good), 400},
		{"a header without a name", headed(asJSON+length+": x\r\n", good), 400},
		{"a blank before the first header", "POST " + payPath + " HTTP/1.1\r\n Host: 127.0.0.1\r\n" + asJSON + length + "\r\n" + good, 400},
		{"NUL in a header", headed(asJSON+length+"X: a\x00b\r\n", good), 400},
		{"a bare CR in a header", headed(asJSON+length+"X: a\rTransfer-Encoding: chunked\r\n", good), 400},
		{"a bare CR as the line's end", strings.ReplaceAll(posted(payPath, "", good), "\r\n", "\r") + "\r\n\r\n", 400},
		{"no host", "POST " + payPath + " HTTP/1.1\r\n" + asJSON + length + "\r\n" + good, 400},
		{"two hosts", headed("Host: 127.0.0.1\r\n"+asJSON+length, good), 400},
		{"a host with a path", "POST " + payPath + " HTTP/1.1\r\nHost: 127.0.0.1/cgi-bin\r\n" + asJSON + length + "\r\n" + good, 400},
		{"a blank in the target", posted(payPath+" x", "", good), 400},
		{"a control character in the target", posted(payPath+"\x01", "", good), 400},
		{"a percent sign in the target", posted("/cgi-bin/midas/%zzpay", "", good), 400},
		{"a relative target", posted("cgi-bin/midas/pay", "", good), 400},
		{"no version", "POST " + payPath + "\r\n\r\n", 400},
		{"another version", strings.Replace(posted(payPath, "", good), "HTTP/1.1", "HTTP/1.10", 1), 400},
		{"a version to come", strings.Replace(posted(payPath, "", good), "HTTP/1.1", "HTTP/3.0", 1), 505},
		{"an expectation that nobody has", posted(payPath, "Expect: 200-ok\r\n", good), 417},
		{"2 MB of headers", posted(payPath, "X: "+strings.Repeat("x", 2<<20)+"\r\n", good), 431},
		{"2 MB of small headers", posted(payPath, strings.Repeat("X: x\r\n", 2<<20/6), good), 431},
		{"a target of 2 MB", posted(payPath+strings.Repeat("x", 2<<20), "", good), 431},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			a := w.raw(c.request)
			require.Equal(t, c.status, a.status, a.body)
			require.Empty(t, a.header.Get("Midas-Outcome"))
			require.Zero(t, w.hits.count(payPath))
			w.requireAlive()
		})
	}
}

// A path that is nearly one of WeChat's is a slip: it is refused with the path that was
// meant, and neither served nor given to the next handler.
func TestASlipInThePathIsAnsweredWithThePathThatIsMeant(t *testing.T) {
	w := newWorld(t, "", "midas\n respond 200")
	for _, target := range []string{
		"/cgi-bin/midas/./pay", "/cgi-bin/midas/../midas/pay", "/cgi-bin/midas/%2e/pay", "/cgi-bin/midas/%2e%2e/midas/pay", "/./cgi-bin/midas/pay",
		"//cgi-bin/midas/pay", "/cgi-bin//midas/pay", "/cgi-bin/midas//pay", "/cgi-bin/midas/pay/", "/cgi-bin/midas/pay//", "/cgi-bin/midas/pay/.",
		"/cgi-bin/midas/PAY", "/CGI-BIN/midas/pay", "/cgi-bin/midas/pay;v=1", "/cgi-bin;v=1/midas/pay", "http://127.0.0.1/cgi-bin/midas/pay/",
		"/x/../cgi-bin/midas/pay", "/../cgi-bin/midas/Pay/;",
	} {
		t.Run(target, func(t *testing.T) {
			w.t = t
			a := w.raw(posted(target, "", pay("b1", 1)))
			require.Equal(t, http.StatusNotFound, a.status)
			require.Equal(t, "not_sent", a.header.Get("Midas-Outcome"))
			require.Equal(t, "0", a.header.Get("Midas-Attempts"))
			require.Equal(t, "not_found", a.header.Get("Midas-Error"))
			require.Contains(t, a.body, `{"errcode":90018,"errmsg":"path: is not served; /cgi-bin/midas/pay is meant"`)
			require.Zero(t, w.hits.count(payPath))
			w.requireAlive()
		})
	}
}

func TestAPathThatIsNoneOfWeChatsGoesToTheNextHandler(t *testing.T) {
	w := newWorld(t, "", "midas\n respond 404")
	for _, target := range []string{
		"/cgi-bin/midas/pay%3Fa=b", "/cgi-bin/midas/pay%23", "/cgi-bin/midas/pay#x",
		"/cgi-bin/midas/pay%00", "/cgi-bin/midas/pay%20", "/cgi-bin/midas/pay%0d%0a", "/cgi-bin/midas/%2570ay", "/cgi-bin/midas/pay.json", "/cgi-bin/midas/pa",
		"/cgi-bin/midas/p\xc3\xa0y", "/cgi-bin/midas/%EF%BD%90ay", `/cgi-bin\midas\pay`, "/cgi-bin/midas/sandbox", "/cgi-bin/midas/sandbox/sandbox/pay",
		"/cgi-bin/midas/", "/cgi-bin/midas", "/", "*", "/x/cgi-bin/midas/pay", "http://127.0.0.1", "/cgi-bin/token", "/sns/jscode2session",
	} {
		t.Run(target, func(t *testing.T) {
			w.t = t
			a := w.raw(posted(target, "", pay("b1", 1)))
			require.Equal(t, http.StatusNotFound, a.status)
			require.Empty(t, a.header.Get("Midas-Outcome"))
			require.Zero(t, w.hits.count(payPath))
			w.requireAlive()
		})
	}
}

// HTTP has several ways to say the same. Each of them is one payment, and nothing of
// how it was said goes on to WeChat.
func TestOtherWaysToSayAPaymentAreThatPaymentAndNoMore(t *testing.T) {
	w := newWorld(t, "", "midas\n respond 404")
	plain := func(body string) string { return asJSON + fmt.Sprintf("Content-Length: %d\r\n", len(body)) }

	for i, c := range []struct {
		name    string
		request func(body string) string
	}{
		{"an absolute target", func(b string) string { return posted("http://127.0.0.1"+payPath, "", b) }},
		{"an absolute target with credentials", func(b string) string { return posted("http://canary:canary@127.0.0.1"+payPath, "", b) }},
		{"a path spelled otherwise", func(b string) string { return posted("/cgi-bin/midas/%70ay", "", b) }},
		{"HTTP/1.0", func(b string) string { return strings.Replace(posted(payPath, "", b), "HTTP/1.1", "HTTP/1.0", 1) }},
		{"HTTP/1.0 that says chunked", func(b string) string {
			return strings.Replace(posted(payPath, chunked, b), "HTTP/1.1", "HTTP/1.0", 1)
		}},
		{"bare line feeds", func(b string) string { return strings.ReplaceAll(posted(payPath, "", b), "\r\n", "\n") }},
		{"a folded header", func(b string) string {
			return headed("Content-Type: application/json;\r\n charset=utf-8\r\n"+fmt.Sprintf("Content-Length: %d\r\n", len(b)), b)
		}},
		{"the same length twice", func(b string) string { return headed(plain(b)+fmt.Sprintf("Content-Length: %d\r\n", len(b)), b) }},
		{"chunks", func(b string) string { return headed(asJSON+chunked, chunks(b)) }},
		{"chunks of one byte", func(b string) string {
			var text strings.Builder
			for i := range len(b) {
				fmt.Fprintf(&text, "1;canary\r\n%s\r\n", b[i:i+1])
			}
			return headed(asJSON+chunked, text.String()+"0\r\n\r\n")
		}},
		{"a trailer", func(b string) string {
			return headed(asJSON+chunked+"Trailer: Content-Type, X-Canary\r\n", strings.TrimSuffix(chunks(b), "\r\n")+"Content-Type: text/plain\r\nX-Canary: canary\r\n\r\n")
		}},
		{"chunks and a length", func(b string) string { return headed(plain(b[:5])+chunked, chunks(b)) }},
		{"Idempotency-Key", func(b string) string {
			return posted(payPath, "Idempotency-Key: canary\r\nX-Idempotency-Key: canary\r\n", b)
		}},
		{"X-Forwarded", func(b string) string {
			return posted(payPath, "X-Forwarded-For: canary\r\nX-Forwarded-Host: canary\r\nForwarded: for=canary\r\nX-Original-URL: /canary\r\nX-Rewrite-URL: /canary\r\nVia: canary\r\n", b)
		}},
		{"headers between hops", func(b string) string {
			return posted(payPath, "Connection: X-Canary, Content-Type\r\nX-Canary: canary\r\nProxy-Authorization: canary\r\nTE: trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: canary\r\n", b)
		}},
		{"a websocket", func(b string) string {
			return posted(payPath, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: canary\r\n", b)
		}},
		{"12 KB of headers", func(b string) string {
			return posted(payPath, "X-Canary: "+strings.Repeat("canary", 12<<10/6)+"\r\n", b)
		}},
		{"Expect", func(b string) string { return posted(payPath, "Expect: 100-continue\r\n", b) }},
		{"another request behind", func(b string) string { return posted(payPath, "", b) + posted("/canary", "", b) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			body := pay(fmt.Sprint("b", i), 1)
			a := w.raw(c.request(body))
			require.Equal(t, http.StatusOK, a.status, a.body)
			require.Equal(t, "applied", a.header.Get("Midas-Outcome"))
			require.Equal(t, i+1, w.hits.count(payPath))
			require.Len(t, w.hits.last.Header, 3, "Content-Length, Content-Type, User-Agent")
			require.NotContains(t, fmt.Sprint(w.hits.last.Header, w.hits.last.URL, w.hits.last.Host, w.hits.last.Trailer, w.hits.body), "canary")
			w.requireAlive()
		})
	}
}

// However a path is spelled that is served, the site's matchers and rules see it.
func TestAPathSpelledOtherwiseIsUnderTheSameRules(t *testing.T) {
	w := newWorld(t, "", "@pay path "+payPath+"\n midas @pay {\n max_amount 5\n }\n midas {\n apis getbalance\n }\n respond 404")
	for _, path := range []string{payPath, "/cgi-bin/midas/%70ay", "/cgi-bin%2Fmidas/pay", "/%63gi-bin/midas/p%61y"} {
		require.Equal(t, "amt: must be at most 5 here", w.raw(posted(path, "", pay("b1", 6))).Errmsg, path)
	}
	require.Zero(t, w.hits.count(payPath))
}

func TestHTTP2WithoutTLSIsUnderTheSameRules(t *testing.T) {
	w := newWorld(t, "", "midas\n respond 404")
	w.with("servers {\n protocols h1 h2c\n }")
	client := &http.Transport{Protocols: new(http.Protocols)}
	client.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(client.CloseIdleConnections)
	never := func() io.Reader { r, _ := io.Pipe(); return r }

	for _, c := range []struct {
		name, method, path, contentType string
		body                            io.Reader
		length                          int64
		status                          int
		outcome                         string
	}{
		{"a payment", "POST", payPath, "application/json", strings.NewReader(pay("b1", 1)), 0, 200, "applied"},
		{"GET", "GET", payPath, "", nil, 0, 405, "not_sent"},
		{"TRACE", "TRACE", payPath, "", nil, 0, 405, "not_sent"},
		{"another path", "POST", payPath + "/", "application/json", strings.NewReader(pay("b2", 1)), 0, 404, "not_sent"},
		{"another type", "POST", payPath, "text/plain", strings.NewReader(pay("b2", 1)), 0, 415, "not_sent"},
		{"another type, stalled", "POST", payPath, "text/plain", never(), 200, 415, "not_sent"},
		{"another method, stalled", "PUT", payPath, "application/json", never(), 0, 405, "not_sent"},
		{"too long", "POST", payPath, "application/json", never(), 20000, 413, "not_sent"},
		{"too much", "POST", payPath, "application/json", io.LimitReader(blanks{}, 10<<20), 0, 413, "not_sent"},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), c.method, w.sidecar+c.path, c.body)
			require.NoError(t, err)
			req.ContentLength = max(req.ContentLength, c.length)
			req.Header.Set("Content-Type", c.contentType)
			res, err := client.RoundTrip(req)
			require.NoError(t, err)
			defer res.Body.Close()
			require.Equal(t, 2, res.ProtoMajor)
			require.Equal(t, c.status, res.StatusCode)
			require.Equal(t, c.outcome, res.Header.Get("Midas-Outcome"))
		})
	}
	require.Equal(t, 1, w.hits.count(payPath))
}
