package integration

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// A load balancer gives some requests to a standby that does not forward them. Each of
// the players is new, so that each payment reads from Vault.
func TestAStandbyThatRedirectsCostsNoOthersPayment(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "secret", 2)
	v.putKeys(t)
	const players = 100
	for _, n := range []int64{10, 2} {
		t.Run(fmt.Sprintf("one in %d", n), func(t *testing.T) {
			s := newTeam(t, v, nil)
			for i := range players {
				s.player(t, fmt.Sprintf("new_player_%d_%d", n, i))
			}
			var asked, redirected atomic.Int64
			s.moody.is(func(w http.ResponseWriter, r *http.Request) {
				if asked.Add(1)%n == 0 {
					redirected.Add(1)
					http.Redirect(w, r, "http://192.0.2.1:8200"+r.URL.Path, http.StatusTemporaryRedirect)
					return
				}
				s.moody.handler.ServeHTTP(w, r)
			})
			failed := 0
			for i := range players {
				if a := s.pay(t, fmt.Sprintf("new_player_%d_%d", n, i)); a.outcome != "applied" {
					failed++
					t.Logf("%+v", a)
				}
			}
			require.LessOrEqual(t, failed, 2*players/100)
			require.GreaterOrEqual(t, redirected.Load(), int64(players)/n)
		})
	}
}
