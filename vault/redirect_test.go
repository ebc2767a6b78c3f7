package vault

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// balanced is a load balancer before f, which gives some requests to a standby: that
// answers with the address of the active node, elsewhere.
func balanced(t *testing.T, f *fake, toStandby func(request int64) bool) (address string) {
	t.Helper()
	active := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the token was carried elsewhere") }))
	t.Cleanup(active.Close)
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if toStandby(requests.Add(1)) {
			http.Redirect(w, r, active.URL+r.URL.Path, http.StatusTemporaryRedirect)
			return
		}
		f.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func oneIn(n int64) func(int64) bool { return func(request int64) bool { return request%n == 0 } }

func TestARequestThatIsRedirectedIsSentOnceMoreToTheSameAddress(t *testing.T) {
	for _, n := range []int64{2, 10} {
		t.Run(fmt.Sprintf("one in %d", n), func(t *testing.T) {
			f, config := newFake(), withAppRole()
			f.written()
			lines := logged(&config)
			config.Address = balanced(t, f, oneIn(n))
			store, err := New(config)
			require.NoError(t, err)
			for range 200 {
				requireKey(t, store)
				require.NoError(t, store.Write(t.Context(), sessionPath, keyOfPlayer))
			}
			require.NoError(t, store.Close(t.Context()))
			require.Empty(t, f.leftBehind())
			require.Len(t, lines(), 1)
			require.Contains(t, lines()[0], "level=WARN msg=\"vault redirects requests")
		})
	}
}

func TestReadersThatComeTogetherDoNotFailEachOther(t *testing.T) {
	f, config := newFake(), withAppRole()
	config.Address = balanced(t, f, oneIn(10))
	store, err := New(config)
	require.NoError(t, err)
	var failed atomic.Int64
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 10 {
				if _, err := store.Read(t.Context(), "midas/wx1"); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	all.Wait()
	require.LessOrEqual(t, failed.Load(), int64(4))
}

func TestAnAddressThatOnlyRedirectsIsNotAskedTwiceForEver(t *testing.T) {
	f, config := newFake(), withToken()
	lines := logged(&config)
	redirecting := true
	var asked int
	config.Address = balanced(t, f, func(int64) bool { asked++; return redirecting })
	store, err := New(config)
	require.NoError(t, err)
	for range 100 {
		_, err := store.Read(t.Context(), "midas/wx1")
		require.ErrorContains(t, err, "answered with a redirect, which is not followed")
	}
	before := asked
	_, err = store.Read(t.Context(), "midas/wx1")
	require.Error(t, err)
	require.Equal(t, before+1, asked)
	require.Equal(t, 1, strings.Count(strings.Join(lines(), "\n"), "vault redirects requests"))

	redirecting = false
	requireKey(t, store)
}
