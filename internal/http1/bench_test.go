package http1_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"midas-sidecar/internal/http1"
)

// BenchmarkRoundTrip is one order by both transports, from as many goroutines as there
// are processors. The server, net/http's too, takes the greater part of it.
func BenchmarkRoundTrip(b *testing.B) {
	const (
		order  = `{"openid":"odkx20ENSNa2w5y3g_qOkOvBNM1g","amt":123,"bill_no":"BillNo_123"}`
		answer = `{"errcode":0,"errmsg":"ok","bill_no":"BillNo_123","balance":9877,"used_gen_amt":0}`
	)
	for _, c := range []struct {
		name  string
		start func(*httptest.Server)
	}{{"plain", (*httptest.Server).Start}, {"TLS", (*httptest.Server).StartTLS}} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, answer)
		}))
		c.start(server)
		base := server.Client().Transport.(*http.Transport)
		base.MaxIdleConnsPerHost, base.DisableCompression = 100, true
		base.ForceAttemptHTTP2 = false

		for _, by := range []struct {
			name      string
			transport http.RoundTripper
		}{{"net-http", base}, {"http1", http1.New(base, nil)}} {
			b.Run(c.name+"/"+by.name, func(b *testing.B) {
				b.ReportAllocs()
				trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {}}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						ctx, cancel := context.WithTimeout(httptrace.WithClientTrace(b.Context(), trace), 10*time.Second)
						req, _ := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/cgi-bin/midas/pay?access_token=t", strings.NewReader(order))
						res, err := by.transport.RoundTrip(req)
						if err != nil {
							b.Error(err)
							cancel()
							return
						}
						if body, err := io.ReadAll(res.Body); err != nil || string(body) != answer {
							b.Error(string(body), err)
						}
						_ = res.Body.Close()
						cancel()
					}
				})
			})
		}
		server.Close()
	}
}
