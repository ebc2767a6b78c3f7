package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"midas-sidecar/internal/breaker"
	"midas-sidecar/internal/handshake"
)

const (
	// pace is how often, at most, Vault is tried while it cannot be used.
	pace = time.Second

	// maxRest is for how long, at most, Vault is left alone because it says so.
	maxRest = time.Minute

	// maxAnswer is the size in bytes at which an answer is no longer a secret of
	// ours. What is longer is cut there.
	maxAnswer = 1 << 20

	// catchUp is about how long a standby is given to learn what the active node
	// knows already, and catchUps how often.
	catchUp  = 100 * time.Millisecond
	catchUps = 2

	// redirectsRetried is after how many redirects running a request that is redirected
	// is no longer sent again: the address is that of a node that answers nothing itself.
	redirectsRetried = 16
)

// lastChance in a context marks a request that cannot be made later.
type lastChance struct{}

// gatekeeper passes requests on to Vault: all of them while it answers, one now and
// then while it does not. An error of his is secrets.ErrUnavailable, unless whoever
// asked gave up.
type gatekeeper struct {
	breaker *breaker.Breaker
	next    http.RoundTripper
	log     *slog.Logger

	redirects     atomic.Int64 // how many answers running were redirects
	redirectsTold sync.Once
}

// RoundTrip implements http.RoundTripper. The answer is here as a whole once it
// returns, since one that breaks off is none.
func (k *gatekeeper) RoundTrip(r *http.Request) (*http.Response, error) {
	try, err := k.breaker.Allow()
	if err != nil && r.Context().Value(lastChance{}) != nil {
		try, err = k.breaker.Probe(), nil
	}
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, unavailable(err)
	}
	response, body, err := k.ask(r)
	if err == nil && isRedirect(response.StatusCode) {
		if again := k.repeat(r); again != nil {
			response, body, err = k.ask(again)
		}
	}
	for n := 0; n < catchUps && err == nil && k.isBehind(r, response) && pause(r.Context()); n++ {
		response, body, err = k.ask(r)
	}
	if err != nil && gaveUp(r.Context()) {
		return nil, err // which tells nothing about Vault
	}
	if failure := outage(r.Context(), response, body, err); failure != nil {
		try.Failure(failure, rest(response))
		// The next try asks again who Vault is: it may have moved.
		k.closeIdleConnections()
		return nil, unavailable(failure)
	}
	try.Success()
	return response, nil
}

// repeat returns a request that was redirected, and so not carried out, to be sent once
// more on another connection. Behind a load balancer, a standby that does not forward
// requests answers some with the address of the active node; the token is not carried
// there. The request is nil where it should not be sent again.
func (k *gatekeeper) repeat(r *http.Request) *http.Request {
	k.redirectsTold.Do(func() {
		k.log.Warn("vault redirects requests, which is not followed: each is sent once more to the same address; a load balancer should choose the active node")
	})
	if k.redirects.Load() > redirectsRetried {
		return nil
	}
	again := r.Clone(r.Context())
	if r.Body != nil && r.Body != http.NoBody {
		if r.GetBody == nil {
			return nil
		}
		body, err := r.GetBody()
		if err != nil {
			return nil
		}
		again.Body = body
	}
	k.closeIdleConnections()
	return again
}

func (k *gatekeeper) ask(r *http.Request) (*http.Response, []byte, error) {
	response, err := k.next.RoundTrip(r)
	if err != nil {
		return nil, nil, err
	}
	arriving := response.Body
	defer func() { _ = arriving.Close() }()
	body, err := io.ReadAll(io.LimitReader(arriving, maxAnswer))
	if err != nil {
		return nil, nil, fmt.Errorf("the answer broke off: %w", err)
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	if isRedirect(response.StatusCode) {
		k.redirects.Add(1)
	} else {
		k.redirects.Store(0)
	}
	return response, body, nil
}

// isBehind reports whether asking again soon is of use. While Vault cannot be used
// it is not asked more often than the breaker allows.
func (k *gatekeeper) isBehind(r *http.Request, response *http.Response) bool {
	_, failure := k.breaker.State()
	return response.StatusCode == http.StatusPreconditionFailed && r.Method == http.MethodGet && failure == nil
}

func (k *gatekeeper) closeIdleConnections() {
	if t, ok := k.next.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// pause waits for a standby, or returns false where the time has run out.
func pause(ctx context.Context) bool {
	select {
	case <-time.After(catchUp/2 + jitter(catchUp)):
		return true
	case <-ctx.Done():
		return false
	}
}

// gaveUp reports whether the caller's own time or patience ran out, not ours.
func gaveUp(ctx context.Context) bool {
	_, ours := errors.AsType[timeoutError](context.Cause(ctx))
	return ctx.Err() != nil && !ours
}

// outage returns why an answer is none, nil where it is one. Status 500 is one: Vault
// says it of what it could not do, such as renew the token of a role that is gone.
func outage(ctx context.Context, response *http.Response, body []byte, err error) error {
	switch {
	case errors.Is(err, handshake.ErrTimeout):
		return handshake.ErrTimeout
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && strings.Contains(err.Error(), "malformed"):
		return errUnreadable // the error quotes what the other end said, whoever that was
	case err != nil:
		return breaker.Steady(err)
	case response.StatusCode == http.StatusTooManyRequests:
		return errors.New("rate limited")
	case response.StatusCode == http.StatusServiceUnavailable && bytes.Contains(body, []byte("Vault is sealed")):
		return errors.New("vault is sealed")
	case response.StatusCode > http.StatusInternalServerError, isStandby(response.StatusCode):
		return fmt.Errorf("answered with status %d", response.StatusCode)
	}
	return nil
}

func isRedirect(status int) bool { return status/100 == 3 }

// isStandby tells the statuses of nodes that another one should be asked for: one
// that has not caught up, a secondary for disaster recovery, a performance standby.
func isStandby(status int) bool {
	return status == http.StatusPreconditionFailed || status == 472 || status == 473
}

// rest returns for how long Vault, or what stands before it, wants to be left alone.
func rest(response *http.Response) time.Duration {
	if response == nil {
		return 0
	}
	text := response.Header.Get("Retry-After")
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRest)
	}
	if date, err := http.ParseTime(text); err == nil {
		return min(time.Until(date), maxRest)
	}
	return 0
}
