package integration

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// countingProxy stands in front of a Vault and counts what passes.
type countingProxy struct {
	*httptest.Server
	calls, logins, refused atomic.Int32
}

func (v *testVault) proxy(t *testing.T) http.Handler {
	t.Helper()
	target, err := url.Parse(v.Address)
	require.NoError(t, err)
	return httputil.NewSingleHostReverseProxy(target)
}

func (v *testVault) counted(t *testing.T) *countingProxy {
	t.Helper()
	p := &countingProxy{}
	proxy := v.proxy(t).(*httputil.ReverseProxy)
	proxy.ModifyResponse = func(answer *http.Response) error {
		p.calls.Add(1)
		if strings.HasSuffix(answer.Request.URL.Path, "/login") {
			p.logins.Add(1)
		}
		if answer.StatusCode == http.StatusForbidden {
			p.refused.Add(1)
		}
		return nil
	}
	p.Server = httptest.NewServer(proxy)
	t.Cleanup(p.Close)
	return p
}
