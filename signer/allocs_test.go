//go:build !race

// The race detector makes sync.Pool forget on purpose, so allocations are
// counted without it.

package signer_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/signer"
)

func TestSigningAllocatesNothing(t *testing.T) {
	r := benchmarkRequest
	midas, session := signer.NewKey("midas"), signer.NewKey("session")
	out := make([]byte, 0, signer.Size)
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = r.AppendSig(out, midas) }))
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = r.AppendMPSig(out, session, "token", "sig") }))

	v2 := signer.V2{Path: "/wxa/game/pay", Body: []byte(`{"openid":"odkx20ENSNa2w5y3g_qOkOvBNM1g","amount":1}`)}
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = v2.AppendPaySig(out, midas) }))
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = v2.AppendSignature(out, session) }))
}
