package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// client asks Vault one thing at a time, within timeout.
type client struct {
	api     *api.Client
	timeout time.Duration
}

// newClient undoes what the library takes from the environment: the token, the
// namespace, further headers and response wrapping. It takes the rest, such as
// VAULT_ADDR, only for settings that are not given here. A VAULT_ variable that
// it cannot parse is an error all the same, which beats a client that ignores
// what somebody meant to set.
func newClient(config Config, transport http.RoundTripper) (*client, error) {
	address := config.Address
	if strings.HasPrefix(address, "unix:") {
		address = "http://localhost" // the transport knows the socket
	}
	library, err := api.NewClient(&api.Config{
		Address:    address,
		HttpClient: &http.Client{Transport: transport, CheckRedirect: refuseRedirect},
		// The library follows redirects where net/http does not.
		DisableRedirects: true,
		MaxRetries:       0,
	})
	if malformed, ok := errors.AsType[*url.Error](err); ok {
		err = malformed.Err // the URL may carry a password
	}
	if err != nil {
		return nil, fmt.Errorf("making a client, which parses VAULT_ variables of the environment: %w", err)
	}
	library.ClearToken()
	library.SetHeaders(http.Header{api.RequestHeaderName: {"true"}})
	library.SetWrappingLookupFunc(func(string, string) string { return "" })
	if config.Namespace != "" {
		library.SetNamespace(config.Namespace)
	}
	return &client{library, config.Timeout}, nil
}

// refuseRedirect keeps the token, which both this library and net/http would
// carry along, at the address that it is meant for.
func refuseRedirect(*http.Request, []*http.Request) error {
	return errors.New("answered with a redirect, which is not followed: address must be one that answers itself")
}

// get reads the answer to one GET request.
func (c *client) get(ctx context.Context, token, path string, query url.Values) (*api.Secret, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()

	response, err := c.with(token).ReadRawWithDataWithContext(ctx, path, query)
	if response != nil {
		defer func() { _ = response.Body.Close() }()
	}
	if isStatus(err, http.StatusNotFound) {
		return nil, explainNotFound(response.Body)
	}
	if err != nil {
		return nil, explain(ctx, err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, explain(ctx, err)
	}
	// The library takes any object for a secret, were it from a proxy.
	var vaults struct{ Data map[string]any }
	if json.Unmarshal(body, &vaults) != nil || vaults.Data == nil || response.StatusCode != http.StatusOK {
		return nil, errUnreadable
	}
	answer, err := api.ParseSecret(bytes.NewReader(body))
	if err != nil || answer == nil {
		return nil, explain(ctx, err)
	}
	return answer, nil
}

// put makes one PUT request that says nothing but its token and path. Where Vault
// has nothing to say either, the answer is nil.
func (c *client) put(ctx context.Context, token, path string) (*api.Secret, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()

	answer, err := c.with(token).WriteWithContext(ctx, path, nil)
	if err != nil {
		return nil, explain(ctx, err)
	}
	return answer, nil
}

// post makes one PUT request that says body, and returns the data of the answer, nil
// where Vault has none to give.
func (c *client) post(ctx context.Context, token, path string, body any) (map[string]any, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()

	text, err := json.Marshal(body)
	if err != nil {
		return nil, errUnreadable // never: it is made of texts and numbers
	}
	// Raw, since else the library takes a 404 without a word for success.
	response, err := c.with(token).WriteRawWithContext(ctx, path, text)
	if response != nil {
		defer func() { _ = response.Body.Close() }()
	}
	if isStatus(err, http.StatusNotFound) {
		return nil, errOtherMount
	}
	if err != nil {
		return nil, explain(ctx, err)
	}
	if response.StatusCode == http.StatusNoContent {
		return nil, nil
	}
	decoder := json.NewDecoder(response.Body)
	decoder.UseNumber()
	var answer struct{ Data map[string]any }
	if decoder.Decode(&answer) != nil || response.StatusCode != http.StatusOK {
		return nil, errUnreadable
	}
	return answer.Data, nil
}

// with returns a client that uses token.
func (c *client) with(token string) *api.Logical {
	return c.api.WithRequestCallbacks(func(r *api.Request) { r.ClientToken = token }).Logical()
}

// forLogin returns a client whose token, should a login set one, is its own.
func (c *client) forLogin() *api.Client { return c.api.WithRequestCallbacks() }

// bounded gives a request its time, and a reason to give where that runs out.
func (c *client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, c.timeout, timeoutError(c.timeout))
}
