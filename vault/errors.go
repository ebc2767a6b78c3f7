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

	"github.com/hashicorp/vault/api"

	"midas-sidecar/secrets"
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
)

// explain puts what came of a request, if not an answer, into few words. The
// library's own ones print the URL and all that the other end said, whoever that
// was.
func explain(ctx context.Context, err error) error {
	if answer, ok := errors.AsType[*api.ResponseError](err); ok {
		return explainStatus(answer)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if unanswered, ok := errors.AsType[*url.Error](err); ok {
		return unanswered.Err
	}
	return errUnreadable
}

func explainStatus(answer *api.ResponseError) error {
	says := func(text string) bool {
		return slices.ContainsFunc(answer.Errors, func(line string) bool { return strings.Contains(line, text) })
	}
	switch {
	case answer.StatusCode == http.StatusForbidden && says("invalid token"):
		return errInvalidToken
	case answer.StatusCode == http.StatusForbidden:
		return errDenied
	case answer.StatusCode == http.StatusTooManyRequests:
		return errors.New("rate limited")
	case answer.StatusCode == http.StatusServiceUnavailable && says("Vault is sealed"):
		return errors.New("vault is sealed")
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
