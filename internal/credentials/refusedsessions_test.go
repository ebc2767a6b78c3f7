package credentials

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/signer"
)

func TestTheSessionsThatAreRememberedAsRefusedAreBounded(t *testing.T) {
	var r refusedSessions
	key := signer.NewKey("AAAA")
	for i := range 3 * maxRefusedSessions {
		r.refuse(fmt.Sprint("o", i), key)
		require.LessOrEqual(t, len(r.byPath), maxRefusedSessions)
	}
}
