package login_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/login"
	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/upstream"
	"midas-sidecar/internal/wechat"
)

const (
	good    = `{"session_key":"canary-key","openid":"o1","unionid":"u1"}`
	refused = `{"errcode":40125,"errmsg":"invalid appsecret"}`
)

// world is an app whose store and WeChat do as they are told.
type world struct {
	// How WeChat answers, the last for ever, and what it was asked.
	answers []upstream.Exchange
	asked   []url.Values
	hosts   []int

	app     []string // the app secrets, the first in the cache
	appErr  error
	readErr error // past the cache
	canSave error
	saveErr error
	saved   map[string]string
}

func (w *world) Send(ctx context.Context, host int, message wechat.Outbound) upstream.Exchange {
	query, _ := url.ParseQuery(message.Query())
	w.asked, w.hosts = append(w.asked, query), append(w.hosts, host)
	e := w.answers[0]
	if len(w.answers) > 1 {
		w.answers = w.answers[1:]
	}
	if errors.Is(e.Err, context.DeadlineExceeded) {
		<-ctx.Done()
	}
	return e
}

func (w *world) AppSecret(_ context.Context, refused secrets.Value) (secrets.Value, error) {
	if refused.IsZero() {
		return secrets.NewValue(w.app[0]), w.appErr
	}
	return secrets.NewValue(w.app[len(w.app)-1]), w.readErr
}

func (w *world) CanSave(context.Context) error { return w.canSave }

func (w *world) SaveSession(_ context.Context, openid string, key secrets.Value) error {
	if w.saveErr == nil {
		w.saved[openid] = key.Reveal()
	}
	return w.saveErr
}

func says(status int, body string) upstream.Exchange {
	return upstream.Exchange{Sent: true, Status: status, ContentType: "text/plain", Body: []byte(body)}
}

var (
	lost      = upstream.Exchange{Sent: true, Err: errors.New("reset")}
	hangs     = upstream.Exchange{Sent: true, Err: context.DeadlineExceeded}
	neverSent = upstream.Exchange{Err: errors.New("refused")}
)

// told is what a caller makes of an answer.
type told struct {
	outcome  outcome.Outcome
	problem  outcome.ErrorCode
	status   int
	errcode  int
	attempts int
}

func (w *world) process(t *testing.T) (outcome.Answer, told) {
	t.Helper()
	if w.app == nil {
		w.app = []string{"canary-app"}
	}
	w.saved = map[string]string{}
	p := &login.Processor{Sender: w, Deadline: 10 * time.Second, AttemptTimeout: 3 * time.Second}
	a := p.Process(t.Context(), "wx1", wechat.Login{JSCode: secrets.NewValue("canary-code")}, w)
	require.NotContains(t, string(a.Body), "canary")
	var body struct{ Errcode int }
	require.NoError(t, json.Unmarshal(a.Body, &body))
	require.Equal(t, body.Errcode, a.Errcode)
	return a, told{a.Outcome, a.ErrorCode, a.Status, a.Errcode, a.Attempts}
}

func TestAPlayerIsLoggedInAndTheCallerGetsAllButTheKey(t *testing.T) {
	w := &world{answers: []upstream.Exchange{says(200, good)}}
	answer, seen := w.process(t)
	require.Equal(t, told{outcome.Applied, "", 200, 0, 1}, seen)
	require.Equal(t, `{"openid":"o1","unionid":"u1"}`, string(answer.Body))
	require.Equal(t, "text/plain", answer.ContentType)
	require.Equal(t, map[string]string{"o1": "canary-key"}, w.saved)
	require.Equal(t, []url.Values{{"appid": {"wx1"}, "secret": {"canary-app"}, "js_code": {"canary-code"}, "grant_type": {"authorization_code"}}}, w.asked)
}

func TestWhatWeChatSaysOfACodeIsPassedOnAndTheCodeNotSentAgain(t *testing.T) {
	for body, want := range map[string]told{
		`{"errcode":40029,"errmsg":"invalid code"}`:         {outcome.Rejected, "", 200, 40029, 1},
		`{"errcode":40163,"errmsg":"code been used"}`:       {outcome.Rejected, "", 200, 40163, 1},
		`{"errcode":40226,"errmsg":"code blocked"}`:         {outcome.Rejected, "", 200, 40226, 1},
		`{"errcode":45011,"errmsg":"minute-quota"}`:         {outcome.Rejected, "", 200, 45011, 1},
		` {"errcode":-1, "errmsg":"system error, rid: 1" }`: {outcome.Unknown, "", 200, -1, 1},
		refused: {outcome.Rejected, "", 200, 40125, 1}, // the store has no other
	} {
		w := &world{answers: []upstream.Exchange{says(200, body)}}
		answer, seen := w.process(t)
		require.Equal(t, want, seen)
		require.Equal(t, body, string(answer.Body))
		require.Len(t, w.asked, 1)
		require.Empty(t, w.saved)
	}
}

func TestAnAnswerThatIsLostIsUnknownAndTheCodeNotSentAgain(t *testing.T) {
	for name, e := range map[string]upstream.Exchange{
		"lost": lost, "hangs": hangs, "a page": says(502, "<html>canary"), "nothing": says(200, ""), "half": says(200, good[:30]),
		"a session from a gateway":  says(500, good),
		"a refusal from a gateway":  says(500, `{"errcode":40029}`),
		"a path for an openid":      says(200, `{"session_key":"canary-key","openid":"../o1"}`),
		"the key where it is not":   says(200, `{"session_key":"canary-key","openid":"o1","x":"canary-key"}`),
		"the app secret":            says(200, `{"errcode":40029,"errmsg":"canary-app"}`),
		"a redirect":                says(302, ""),
		"a redirect with a session": says(307, good),
		"a status that is none":     says(99, good),
		"an answer without a code":  says(200, `{"errmsg":"ok"}`),
		"a secret nested and twice": says(200, `{"session_key":"canary-key","session_key":"x","openid":"o1"}`),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{answers: []upstream.Exchange{e}}
				answer, seen := w.process(t)
				require.Equal(t, told{outcome.Unknown, outcome.OutcomeUnknown, 504, -1, 1}, seen)
				require.Contains(t, string(answer.Body), "wx.login again")
				require.NotContains(t, answer.Cause.Error(), "canary")
				require.Len(t, w.asked, 1)
				require.Empty(t, w.saved)
			})
		})
	}
}

func TestABusyGatewaysWordsArePassedOn(t *testing.T) {
	w := &world{answers: []upstream.Exchange{says(503, `{"errcode":-1,"errmsg":"busy"}`)}}
	_, seen := w.process(t)
	require.Equal(t, told{outcome.Unknown, "", 503, -1, 1}, seen)
}

func TestTheNextHostIsAskedWhereNothingLeftThisOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{answers: []upstream.Exchange{neverSent, neverSent, says(200, good)}}
		_, seen := w.process(t)
		require.Equal(t, told{outcome.Applied, "", 200, 0, 1}, seen)
		require.Equal(t, []int{0, 1, 2}, w.hosts)
	})
}

func TestWhereNobodyCanBeReachedTheCodeIsNotUsedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{answers: []upstream.Exchange{neverSent}}
		began := time.Now()
		answer, seen := w.process(t)
		require.Equal(t, told{outcome.NotSent, outcome.UpstreamUnreachable, 502, -1, 0}, seen)
		require.Contains(t, string(answer.Body), "not used up")
		require.LessOrEqual(t, time.Since(began), 10*time.Second)
		require.Greater(t, len(w.hosts), 5)
	})
}

func TestAnAppSecretThatWeChatRefusesIsReadAgainAndTheCodeSentOnceMore(t *testing.T) {
	for _, code := range []string{"40125", "40001", "40243"} {
		w := &world{answers: []upstream.Exchange{says(200, `{"errcode":`+code+`}`), says(200, good)}, app: []string{"canary-old", "canary-new"}}
		_, seen := w.process(t)
		require.Equal(t, told{outcome.Applied, "", 200, 0, 2}, seen)
		require.Equal(t, "canary-old", w.asked[0].Get("secret"))
		require.Equal(t, "canary-new", w.asked[1].Get("secret"))
	}
}

func TestACorrectedAppSecretIsTriedOnce(t *testing.T) {
	w := &world{answers: []upstream.Exchange{says(200, refused)}, app: []string{"canary-old", "canary-new"}}
	_, seen := w.process(t)
	require.Equal(t, told{outcome.Rejected, "", 200, 40125, 2}, seen)

	w = &world{answers: []upstream.Exchange{says(200, refused), lost}, app: []string{"canary-old", "canary-new"}}
	_, seen = w.process(t)
	require.Equal(t, told{outcome.Unknown, outcome.OutcomeUnknown, 504, -1, 2}, seen)
}

func TestWhereTheAppSecretCannotBeReadAgainTheRefusalIsPassedOn(t *testing.T) {
	w := &world{answers: []upstream.Exchange{says(200, refused)}, app: []string{"canary-old", "canary-new"}, readErr: secrets.ErrUnavailable}
	_, seen := w.process(t)
	require.Equal(t, told{outcome.Rejected, "", 200, 40125, 1}, seen)
}

func TestWhatCannotBeKeptIsNotAskedFor(t *testing.T) {
	for _, w := range []*world{{canSave: secrets.ErrReadOnly}, {canSave: secrets.ErrUnavailable}, {appErr: secrets.ErrUnavailable}} {
		answer, seen := w.process(t)
		require.Equal(t, told{outcome.NotSent, outcome.SecretsUnavailable, 503, -1, 0}, seen)
		require.Positive(t, answer.RetryAfter())
		require.Empty(t, w.asked)
	}
}

func TestAKeyThatCannotBeStoredIsDropped(t *testing.T) {
	w := &world{answers: []upstream.Exchange{says(200, good)}, saveErr: errors.New("permission denied")}
	answer, seen := w.process(t)
	require.Equal(t, told{outcome.Rejected, outcome.SecretsUnavailable, 503, -1, 1}, seen)
	require.Positive(t, answer.RetryAfter())
	require.Contains(t, string(answer.Body), "wx.login again")
	require.NotContains(t, string(answer.Body), "o1")
}

func TestALoginIsFollowedThoughItsCallerHangsUp(t *testing.T) {
	ctx, hangUp := context.WithCancel(t.Context())
	hangUp()
	w := &world{answers: []upstream.Exchange{says(200, good)}, app: []string{"a"}, saved: map[string]string{}}
	p := &login.Processor{Sender: w, Deadline: time.Second, AttemptTimeout: time.Second}
	a := p.Process(ctx, "wx1", wechat.Login{JSCode: secrets.NewValue("c")}, w)
	require.Equal(t, outcome.Applied, a.Outcome)
	require.Equal(t, map[string]string{"o1": "canary-key"}, w.saved)
}
