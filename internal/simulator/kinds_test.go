package simulator

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/wechat"
)

// What a client sees of a pay that each kind strikes, before or after: the name is
// the kind's, without _before and _after.
var sights = map[string]func(*testing.T, seen){
	"none":          errcode(0),
	"reset_reading": resetAtOnce,
	"reset":         resetAtOnce,
	"reset_headers": noAnswer,
	"reset_body":    halfAnAnswer,
	"lost":          noAnswer,
	"hang":          gaveUp,
	"late":          gaveUp,
	"busy":          errcode(-1),
	"busy_balance":  errcode(-1),
	"busy_currency": errcode(-1),
	"http_500":      html(500),
	"http_502":      html(502),
	"http_503":      html(503),
	"html":          html(200),
	"empty": func(t *testing.T, x seen) {
		require.Equal(t, "0", x.header.Get("Content-Length"))
		whole(200, "")(t, x)
	},
	"truncated":       unreadable,
	"cut":             halfAnAnswer,
	"codeless":        codeless,
	"broken_gzip":     func(t *testing.T, x seen) { require.ErrorIs(t, x.bodyErr, io.ErrUnexpectedEOF) },
	"gzip":            errcode(0),
	"drip":            errcode(0),
	"dead_connection": errcode(0),
	"redirect_301":    redirected(301),
	"redirect_302":    redirected(302),
	"redirect_307":    redirected(307),

	"token_40001":          errcode(40001),
	"token_42001":          errcode(42001),
	"token_40001_replaced": errcode(40001),
	"token_42001_replaced": errcode(42001),
	"session_90009":        errcode(90009),
	"session_90010":        errcode(90010),
	"session_90016":        errcode(90016),
	"key_90011":            errcode(90011),
	"clock_behind":         errcode(90018),
	"clock_ahead":          errcode(90018),
	"balance_first":        errcode(0),
	"processing":           errcode(90016),

	"secret_40125": errcode(40125),
	"ip_40164":     errcode(40164),
	"quota_45009":  errcode(45009),

	"code_40029":   errcode(40029),
	"code_40163":   errcode(40163),
	"player_40226": errcode(40226),
	"quota_45011":  errcode(45011),
}

// stem is a kind's name without its moment.
func stem(kind string) string {
	return strings.TrimSuffix(strings.TrimSuffix(kind, "_before"), "_after")
}

// Every row of the table, in each family that it is for: the client sees what it says,
// and so do the books.
func TestEachKindDoesWhatItsRowSays(t *testing.T) {
	for _, family := range []*wechat.Family{wechat.V1, wechat.V2} {
		for _, kind := range Kinds() {
			t.Run(family.Name+" "+kind.Name, func(t *testing.T) {
				t.Parallel()
				requireAsItsRowSays(t, kind, family)
			})
		}
	}
}

func requireAsItsRowSays(t *testing.T, kind Kind, family *wechat.Family) {
	s := newSite(t)
	call, done := s.payFor("b1"), s.paid
	switch {
	case family == wechat.V2:
		call, done = s.payForV2("b1"), s.paidV2
	case kind.API != "":
		require.Zero(t, s.payOnce("b1").answered(t).Errcode)
		call, done = s.draft(cancelPath, map[string]any{"bill_no": "b1"}).sign(), s.returned
	}
	patience, leave := context.WithCancel(t.Context())
	defer leave()
	s.sim.Misbehave(func(Call) Fault {
		switch fault := (Fault{Kind: kind.Name}); stem(kind.Name) {
		case "hang", "late":
			leave()
			return fault
		case "drip":
			fault.Delay = time.Microsecond
			return fault
		default:
			return fault
		}
	})
	if kind.Family != "" && kind.Family != family.Name {
		require.Zero(t, s.send(patience, call).answered(t).Errcode, "the other family is spared")
		return
	}
	sight := sights[stem(kind.Name)]
	require.NotNil(t, sight)
	sight(t, s.send(patience, call))
	require.NoError(t, s.sim.Settle(t.Context()))
	require.Equal(t, kind.Applied != NotApplied, done("b1"))
	require.NotEmpty(t, kind.About)
	if kind.strike != nil {
		s.requireLogged("fault=" + kind.Name)
	}
	secrets := []string{call.midasKey, call.sessionKey, call.token, call.signature, call.paySig}
	if family == wechat.V1 {
		secrets = []string{call.midasKey, call.sessionKey, call.token, call.fields["sig"].(string), call.fields["mp_sig"].(string)}
	}
	for _, secret := range secrets {
		require.NotContains(t, s.log.String(), secret)
	}
}

func (w *world) returned(billNo string) bool {
	order, _ := w.sim.Order(official(billNo))
	return order.Returned
}

func whole(status int, text string) func(*testing.T, seen) {
	return func(t *testing.T, x seen) {
		t.Helper()
		require.NoError(t, errors.Join(x.err, x.bodyErr))
		require.Equal(t, status, x.status)
		require.Equal(t, text, x.text)
	}
}

func errcode(code int) func(*testing.T, seen) {
	return func(t *testing.T, x seen) {
		t.Helper()
		require.Equal(t, code, x.answered(t).Errcode, x.text)
		require.Equal(t, http.StatusOK, x.status)
	}
}

func html(status int) func(*testing.T, seen) {
	return func(t *testing.T, x seen) {
		t.Helper()
		whole(status, x.text)(t, x)
		require.Contains(t, x.text, "<html>")
		require.Equal(t, "text/html", x.header.Get("Content-Type"))
	}
}

func redirected(status int) func(*testing.T, seen) {
	return func(t *testing.T, x seen) {
		t.Helper()
		whole(status, "")(t, x)
		require.Equal(t, "/simulator/nowhere", x.header.Get("Location"))
	}
}

func resetAtOnce(t *testing.T, x seen) {
	t.Helper()
	require.ErrorIs(t, x.err, syscall.ECONNRESET)
}

func noAnswer(t *testing.T, x seen) {
	t.Helper()
	require.Error(t, x.err)
	require.NotErrorIs(t, x.err, context.Canceled)
}

func gaveUp(t *testing.T, x seen) {
	t.Helper()
	require.ErrorIs(t, x.err, context.Canceled)
}

func halfAnAnswer(t *testing.T, x seen) {
	t.Helper()
	require.NoError(t, x.err)
	require.Error(t, x.bodyErr)
	require.Regexp(t, `^{"(errcode":0|access_token":"|session_key":").*[^}]$`, x.text)
}

func unreadable(t *testing.T, x seen) {
	t.Helper()
	whole(http.StatusOK, x.text)(t, x)
	require.Regexp(t, `^{"(errcode":0|access_token":"|session_key":").*[^}]$`, x.text)
}

func codeless(t *testing.T, x seen) {
	t.Helper()
	x.answered(t)
	require.NotContains(t, x.text, "errcode")
	require.Contains(t, x.text, `"errmsg":"ok"`)
}
