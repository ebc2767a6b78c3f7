package caddymodule

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"midas-sidecar/internal/credentials"
	"midas-sidecar/internal/ledger"
	"midas-sidecar/internal/payment"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/upstream"
	"midas-sidecar/internal/wechat"
)

// The whole handler, from the caller's request to its answer, without sockets:
// WeChat answers at once.
func BenchmarkHandler(b *testing.B) {
	creds := credentials.NewCache(benchmarkStore{}, credentials.Options{
		Ages: secrets.Ages{Fresh: defaultFresh, Stale: defaultStale}, Sessions: defaultSessions, Log: slog.New(slog.DiscardHandler),
	}).Of(credentials.App{
		AppID: "wx1234567", Secret: "app", Session: "{openid}", MPSig: true, TokenSecret: "token", TokenField: "access_token",
	}, nil)
	h := &Handler{
		maxBody: defaultMaxBody,
		logger:  zap.NewNop(),
		midas: &Midas{
			games:     map[string]game{"wx1234567": {"wx1234567", offerIDs{"12345678", "12345678"}, creds}},
			shared:    new(shared),
			processor: &payment.Processor{Sender: benchmarkWeChat{}, Ledger: ledger.New(), Deadline: 10 * time.Second, AttemptTimeout: 3 * time.Second},
		},
	}
	const body = `{"openid":"odkx20ENSNa2w5y3g_qOkOvBNM1g","amt":123,"bill_no":"BillNo_123"}`
	r := httptest.NewRequest(http.MethodPost, "/cgi-bin/midas/pay", nil)
	r.Header.Set("Content-Type", "application/json")
	reader := strings.NewReader(body)

	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(body)
		r.Body, r.ContentLength = readCloser{reader}, int64(len(body))
		w := httptest.NewRecorder()
		if err := h.ServeHTTP(w, r, nil); err != nil || w.Header().Get("Midas-Outcome") != "applied" {
			b.Fatal(err, w.Body)
		}
	}
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

type benchmarkStore struct{}

func (benchmarkStore) Read(context.Context, string) (secrets.Secret, error) {
	value := secrets.NewValue("zNLgAGgqsEWJOg1nFVaO5r7fAlIQxr1u")
	return secrets.Secret{"midas_key": value, "session_key": value, "access_token": value}, nil
}

type benchmarkWeChat struct{}

func (benchmarkWeChat) Send(context.Context, int, wechat.Outbound) upstream.Exchange {
	return upstream.Exchange{Sent: true, Status: http.StatusOK, ContentType: "application/json", Body: []byte(`{"errcode":0,"errmsg":"ok","bill_no":"BillNo_123","balance":9877,"used_gen_amt":0}`)}
}
