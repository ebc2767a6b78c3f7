package payment_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/ledger"
	"midas-sidecar/internal/payment"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/upstream"
	"midas-sidecar/internal/wechat"
	"midas-sidecar/signer"
)

// script is a Sender that plays one exchange after the other. At its end there is no
// connection any more.
type script struct {
	lines []func(context.Context) upstream.Exchange
	sent  []wechat.Outbound
}

func plays(lines ...upstream.Exchange) *script {
	s := new(script)
	for _, line := range lines {
		s.lines = append(s.lines, func(context.Context) upstream.Exchange { return line })
	}
	return s
}

func (s *script) Send(ctx context.Context, _ int, message wechat.Outbound) upstream.Exchange {
	if len(s.sent) == len(s.lines) {
		return upstream.Exchange{Err: errors.New("the script has ended")}
	}
	s.sent = append(s.sent, message)
	return s.lines[len(s.sent)-1](ctx)
}

// says is an answer of WeChat's with HTTP status 200.
func says(errcode int, errmsg string) upstream.Exchange {
	return answers(200, fmt.Sprintf(`{"errcode":%d,"errmsg":%q}`, errcode, errmsg))
}

func answers(status int, body string) upstream.Exchange {
	return upstream.Exchange{Sent: true, Status: status, ContentType: "application/json; encoding=utf-8", Body: []byte(body)}
}

// wallet is Credentials that hold everything, but for what it is told to lack.
type wallet struct {
	midas, session, token error
	renewed               string // what Renew adds to each, "" if nothing has changed
	renewing              error  // why a session_key cannot be renewed
	unsigned              bool   // calls of v1 have no mp_sig
}

func (w wallet) MidasKey(ctx context.Context, _ wechat.Endpoint) (*signer.Key, error) {
	return signer.NewKey("M"), w.wait(ctx, w.midas)
}

func (w wallet) SessionKey(ctx context.Context, family *wechat.Family, _ string) (*signer.Key, error) {
	if w.unsigned && family == wechat.V1 {
		return nil, nil
	}
	return signer.NewKey("S"), w.wait(ctx, w.session)
}

func (w wallet) AccessToken(ctx context.Context) (secrets.Value, error) {
	return secrets.NewValue("T"), w.wait(ctx, w.token)
}

// wait lets whoever lacks it for its deadline wait that long.
func (wallet) wait(ctx context.Context, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		<-ctx.Done()
	}
	return err
}

func (w wallet) FallbackMidasKey(_ context.Context, _ wechat.Endpoint, refused []*signer.Key) (*signer.Key, error) {
	key := signer.NewKey("M" + w.renewed)
	if slices.ContainsFunc(refused, key.Equal) {
		key = nil
	}
	return key, w.midas
}

func (wallet) ConfirmMidasKey(context.Context, wechat.Endpoint, *signer.Key) {}

func (w wallet) SessionStoredAgain(string, *signer.Key) bool { return false }

func (w wallet) RenewSessionKey(context.Context, string, *signer.Key) (*signer.Key, error) {
	return signer.NewKey("S" + w.renewed), w.renewing
}

func (w wallet) RenewAccessToken(context.Context, secrets.Value) (secrets.Value, error) {
	return secrets.NewValue("T" + w.renewed), w.token
}

// through returns a processor that makes as many attempts as s has lines.
func through(s *script) *payment.Processor {
	return &payment.Processor{
		Sender: s, Ledger: ledger.New(), Deadline: 10 * time.Second, AttemptTimeout: 3 * time.Second,
		Jitter: func(time.Duration) time.Duration {
			if len(s.sent) < len(s.lines) {
				return 0
			}
			return time.Hour // beyond the deadline: no more attempts
		},
	}
}

// anOrder is an order of that API, the same for every test.
func anOrder(t *testing.T, api *wechat.API) wechat.Request {
	t.Helper()
	body := map[*wechat.API]string{
		wechat.Pay:        `{"openid":"o1","amt":100,"bill_no":"b1"}`,
		wechat.CancelPay:  `{"openid":"o1","bill_no":"b1"}`,
		wechat.Present:    `{"openid":"o1","present_counts":100,"bill_no":"b1"}`,
		wechat.GetBalance: `{"openid":"o1"}`,

		wechat.PayV2:          `{"openid":"o1","amount":100,"bill_no":"b1"}`,
		wechat.CancelPayV2:    `{"openid":"o1","amount":40,"bill_no":"b1","pay_bill_no":"b0"}`,
		wechat.PresentV2:      `{"openid":"o1","amount":100,"bill_no":"b1"}`,
		wechat.GetBalanceV2:   `{"openid":"o1"}`,
		wechat.QueryOrderInfo: `{"openid":"o1","out_trade_no":"b1","biz_id":1}`,
	}[api]
	order, err := wechat.Decode(wechat.At(api, wechat.Official), []byte(body))
	require.NoError(t, err)
	order, err = order.Complete("wx1234567", "12345678")
	require.NoError(t, err)
	return order
}
