package accesstoken_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/upstream"
	"midas-sidecar/internal/wechat"
	"midas-sidecar/signer"
)

const player = "odkx20ENSNa2w5y3g_qOkOvBNM1g"

// verifying is the WeChat of the simulator, some way off.
type verifying struct {
	sim   *simulator.Simulator
	asked atomic.Int32
}

func newVerifying(t *testing.T) *verifying {
	sim, err := simulator.New(simulator.Demo(), simulator.Options{})
	require.NoError(t, err)
	return &verifying{sim: sim}
}

func (v *verifying) Ask(_ context.Context, message wechat.Outbound) (upstream.Exchange, error) {
	v.asked.Add(1)
	return v.exchange(message), nil
}

func (v *verifying) exchange(message wechat.Outbound) upstream.Exchange {
	time.Sleep(100 * time.Millisecond)
	defer time.Sleep(100 * time.Millisecond)
	request := httptest.NewRequest(http.MethodPost, message.Path()+"?"+message.Query(), bytes.NewReader(message.Body()))
	request.Header.Set("Content-Type", "application/json")
	answer := httptest.NewRecorder()
	v.sim.ServeHTTP(answer, request)
	return upstream.Exchange{Sent: true, Status: answer.Code, Body: answer.Body.Bytes()}
}

// balance asks for the player's balance with an access_token, and returns the
// errcode.
func (v *verifying) balance(t *testing.T, token secrets.Value) int {
	app := simulator.Demo().Apps[appID]
	request, err := wechat.Decode(wechat.At(wechat.GetBalance, wechat.Official), []byte(`{"openid":"`+player+`"}`))
	assert.NoError(t, err)
	request, err = request.Complete(appID, app.OfferID)
	assert.NoError(t, err)
	answer, err := wechat.ReadAnswer(v.exchange(request.Sign(wechat.Keys{
		Midas:       signer.NewKey(app.MidasKey),
		Session:     signer.NewKey(app.Players[player].SessionKey),
		AccessToken: token,
	}, time.Now())).Body, wechat.GetBalance)
	assert.NoError(t, err)
	return answer.Errcode
}

func demoSecret(context.Context, secrets.Value) (secrets.Value, error) {
	return secrets.NewValue(simulator.Demo().Apps[appID].Secret), nil
}

func TestFiftySidecarsTakeNoTokenFromEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const (
			sidecars = 50
			long     = 6 * time.Hour
		)
		w := newVerifying(t)
		chance := rand.New(rand.NewPCG(1, 2))
		random := func(most time.Duration) time.Duration { return time.Duration(chance.Int64N(int64(most))) }
		var logs []func() string
		var all sync.WaitGroup
		var calls atomic.Int32
		start := time.Now()
		for n := range sidecars {
			s, log := newWith(t, demoSecret, w)
			// Half of them start together, the others in the first hour. Some are
			// busy, some hear of a player twice an hour.
			late := time.Duration(n%2) * random(time.Hour)
			every := time.Minute + random(time.Minute)
			if n%10 == 0 {
				every = 25*time.Minute + random(10*time.Minute)
			}
			all.Go(func() {
				for time.Sleep(late); time.Since(start) < long; time.Sleep(every) {
					token, err := s.Token(t.Context())
					assert.NoError(t, err)
					assert.Zero(t, w.balance(t, token), "after %s", time.Since(start))
					calls.Add(1)
				}
			})
			logs = append(logs, log)
		}
		all.Wait()
		for _, log := range logs {
			require.Empty(t, log())
		}
		issued := len(w.sim.State().Tokens[appID].Issued)
		t.Logf("%d payments, %d questions, %d tokens", calls.Load(), w.asked.Load(), issued)
		require.Equal(t, 4, issued)
		// One question in five minutes each, and one or two more towards the end
		// of each token.
		require.LessOrEqual(t, int(w.asked.Load()), sidecars*(72+1+4*2))
	})
}

// What is not as documented ends a token before its time: a force_refresh
// elsewhere, after a leak.
func TestATokenThatWasEndedElsewhereIsReplacedByOneQuestionOfEachSidecar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sidecars = 50
		w := newVerifying(t)
		var all sync.WaitGroup
		for range sidecars {
			s, _ := newWith(t, demoSecret, w)
			all.Go(func() {
				token, err := s.Token(t.Context())
				assert.NoError(t, err)
				assert.Zero(t, w.balance(t, token))
				time.Sleep(time.Minute)
				assert.Equal(t, 40001, w.balance(t, token))
				token, err = s.Renew(t.Context(), token)
				assert.NoError(t, err)
				assert.Zero(t, w.balance(t, token))
			})
		}
		time.Sleep(30 * time.Second)
		force := httptest.NewRequest(http.MethodPost, wechat.StableTokenPath, bytes.NewBufferString(
			`{"grant_type":"client_credential","appid":"`+appID+`","secret":"`+simulator.Demo().Apps[appID].Secret+`","force_refresh":true}`))
		w.sim.ServeHTTP(httptest.NewRecorder(), force)
		all.Wait()
		require.Equal(t, 2*sidecars, int(w.asked.Load()))
	})
}
