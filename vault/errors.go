package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"midas-sidecar/internal/secrets"
)

// Vault answers 403 to a token that is dead and to one that may not read the
// path. Not every version says which: what it does not call invalid is errDenied.
var (
	errDenied       = errors.New("permission denied")
	errInvalidToken = errors.New("permission denied: invalid token")
)

var (
	// errOtherMount tells that what is known of the mount is no longer true.
	errOtherMount = errors.New("no KV secrets engine of the expected version answers there")

	errUnreadable = errors.New("unreadable answer")

	errClosed = unavailable(errors.New("it is closed"))
)

// unavailable makes a failure one of the store and not of what was asked for.
func unavailable(failure error) error { return fmt.Errorf("%w: %w", secrets.ErrUnavailable, failure) }

// loginError is a login that was refused. It is secrets.ErrUnavailable, since
// without a token nothing can be asked, and says enough by itself.
type loginError struct{ error }

func (e loginError) Unwrap() error        { return e.error }
func (e loginError) Is(target error) bool { return target == secrets.ErrUnavailable }

// timeoutError is the end of the time that we give a request, not its caller.
type timeoutError time.Duration

func (e timeoutError) Error() string { return fmt.Sprintf("no answer within %v", time.Duration(e)) }

// explain puts what came of a request, if not an answer, into few words. The
// library's own ones print the URL and all that the other end said, whoever that
// was.
func explain(ctx context.Context, err error) error {
	if answer, ok := errors.AsType[*api.ResponseError](err); ok {
		return explainStatus(answer)
	}
	unanswered, ok := errors.AsType[*url.Error](err)
	switch {
	case ok && errors.Is(unanswered, secrets.ErrUnavailable):
		return unanswered.Err
	case ctx.Err() != nil && gaveUp(ctx):
		return context.Cause(ctx)
	case ctx.Err() != nil:
		return unavailable(context.Cause(ctx))
	case ok:
		return unanswered.Err
	}
	return errUnreadable
}

// explainStatus need not know the statuses of a Vault that cannot be used: the
// gatekeeper makes errors of them.
func explainStatus(answer *api.ResponseError) error {
	says := func(text string) bool {
		return slices.ContainsFunc(answer.Errors, func(line string) bool { return strings.Contains(line, text) })
	}
	switch {
	case answer.StatusCode == http.StatusForbidden && says("invalid token"):
		return errInvalidToken
	case answer.StatusCode == http.StatusForbidden:
		return errDenied
	default:
		return fmt.Errorf("answered with status %d", answer.StatusCode)
	}
}

// explainNotFound tells Vault's ways to say that there is no secret, or that its
// latest version is deleted or destroyed, from all else that is a 404: a mount
// that is gone, one that was upgraded to version 2, a server that is not Vault.
// Those must not look as if the store had answered.
func explainNotFound(body io.Reader) error {
	var answer struct {
		Errors []string
		Data   struct{ Metadata map[string]any }
	}
	if err := json.NewDecoder(body).Decode(&answer); err != nil {
		return errOtherMount
	}
	missing := answer.Errors != nil && len(answer.Errors) == 0
	deleted := answer.Data.Metadata != nil
	if !missing && !deleted {
		return errOtherMount
	}
	return secrets.ErrNotFound
}

func isStatus(err error, code int) bool {
	answer, ok := errors.AsType[*api.ResponseError](err)
	return ok && answer.StatusCode == code
}
