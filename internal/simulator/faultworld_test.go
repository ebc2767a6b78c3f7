package simulator

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// site is a world behind a real socket, and a client of it.
type site struct {
	*world
	url       string
	transport *http.Transport
}

func newSite(t *testing.T, change ...func(*State)) *site {
	t.Helper()
	w := newWorld(t, change...)
	server := httptest.NewServer(w.sim)
	transport := &http.Transport{}
	t.Cleanup(func() {
		w.sim.Forget()
		transport.CloseIdleConnections()
		server.Close()
	})
	return &site{w, server.URL, transport}
}

// seen is what a client sees of one call.
type seen struct {
	err     error // no answer
	status  int
	header  http.Header
	text    string
	bodyErr error // no whole answer
}

// send sends a draft as it is, once, and follows no redirect.
func (s *site) send(ctx context.Context, d *draft) seen {
	s.t.Helper()
	var body io.Reader
	if d.method != http.MethodGet { // of which the server would not see the client leave
		body = strings.NewReader(d.body())
	}
	r, err := http.NewRequestWithContext(ctx, d.method, s.url+d.path+"?"+d.sentQuery(), body)
	require.NoError(s.t, err)
	r.Header.Set("Content-Type", d.contentType)
	res, err := s.transport.RoundTrip(r)
	if err != nil {
		return seen{err: err}
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return seen{status: res.StatusCode, header: res.Header, text: string(text), bodyErr: err}
}

func (s *site) payOnce(billNo string) seen {
	s.t.Helper()
	return s.send(s.t.Context(), s.payFor(billNo))
}

// payFor is a good pay of 5 coins.
func (s *site) payFor(billNo string) *draft {
	return s.draft(payPath, map[string]any{"bill_no": billNo, "amt": int64(5)}).sign()
}

// payForV2 is payFor in v2.
func (s *site) payForV2(billNo string) *draft {
	return s.draft(payPathV2, map[string]any{"bill_no": billNo, "amount": int64(5)}).sign()
}

// answered returns a whole answer, as JSON has it.
func (x seen) answered(t *testing.T) answer {
	t.Helper()
	require.NoError(t, x.err)
	require.NoError(t, x.bodyErr)
	var a answer
	require.NoError(t, json.Unmarshal([]byte(x.text), &a), x.text)
	return a
}

// always strikes every call.
func always(kind string) func(Call) Fault {
	return func(Call) Fault { return Fault{Kind: kind} }
}

// first strikes the first attempt of each order.
func first(kind string) func(Call) Fault {
	return func(c Call) Fault {
		if c.Attempt > 1 {
			return Fault{}
		}
		return Fault{Kind: kind}
	}
}

// paidV2 reports whether the v2 order has taken its coins.
func (w *world) paidV2(billNo string) bool {
	order, known := w.sim.Order(inZone(billNo))
	return known && order.Applied == 1
}

// paid reports whether the order has taken its coins.
func (w *world) paid(billNo string) bool {
	order, known := w.sim.Order(official(billNo))
	return known && order.Applied == 1
}
