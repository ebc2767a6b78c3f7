package credentials_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/credentials"
)

// fleet is fifty sidecars whose tokens come from a central server through one store,
// and what WeChat takes.
type fleet struct {
	t        *testing.T
	store    *store
	sidecars []*credentials.Credentials

	issued  int
	current string
	before  string    // good too
	until   time.Time // until when before is
	refused int
}

func newFleet(t *testing.T) *fleet {
	f := &fleet{t: t, store: full()}
	f.issue(5 * time.Minute)
	for range 50 {
		f.sidecars = append(f.sidecars, cacheOf(f.store).Of(central("access_token"), nil))
	}
	return f
}

// issue gives the central server another token, which it stores. The one before is
// good for a while.
func (f *fleet) issue(grace time.Duration) {
	f.issued++
	f.before, f.until = f.current, time.Now().Add(grace)
	f.current = fmt.Sprint(canary, "token", f.issued)
	f.store.put("central/token", "access_token", f.current)
}

func (f *fleet) takes(token string) bool {
	return token == f.current || token == f.before && time.Now().Before(f.until)
}

// pay lets each sidecar pay once. A token that is refused may be renewed once.
func (f *fleet) pay() {
	f.t.Helper()
	for _, s := range f.sidecars {
		token, err := s.AccessToken(f.t.Context())
		require.NoError(f.t, err)
		if f.takes(token.Reveal()) {
			continue
		}
		f.refused++
		token, err = s.RenewAccessToken(f.t.Context(), token)
		require.NoError(f.t, err)
		require.True(f.t, f.takes(token.Reveal()))
	}
}

func TestFiftySidecarsFollowACentralTokenServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		for second := range 6 * 3600 {
			if second > 0 && second%6600 == 0 {
				f.issue(5 * time.Minute)
			}
			if second%10 == 0 {
				f.pay()
			}
			time.Sleep(time.Second)
		}
		require.Equal(t, 4, f.issued)
		require.Zero(t, f.refused)
	})
}

func TestATokenThatDiesAtOnceCostsEachSidecarOneRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		f.pay()
		f.issue(0)
		for range 100 {
			f.pay()
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(t, 50, f.refused)
		require.Equal(t, 50+50, f.store.reads["central/token"])
	})
}
