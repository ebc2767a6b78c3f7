package simulator

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/wechat"
	"midas-sidecar/signer"
)

// sidecarCall is what the sidecar sends for a game server's unsigned body.
func sidecarCall(t *testing.T, e wechat.Endpoint, body string, now time.Time) wechat.Outbound {
	t.Helper()
	request, err := wechat.Decode(e, []byte(body))
	require.NoError(t, err)
	request = request.To(e.Environment)
	request, err = request.Complete(appID, offerID)
	require.NoError(t, err)
	app := Demo().Apps[appID]
	return request.Sign(wechat.Keys{
		Midas:       signer.NewKey(app.midasKey(e.Environment)),
		Session:     signer.NewKey(app.Players[openID].SessionKey),
		AccessToken: secrets.NewValue(theToken),
	}, now)
}

// A judge that shares code with the judged finds nothing.
func TestTheSimulatorDoesNotUseTheSigner(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, spec := range parsed.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			require.NotEqual(t, "midas-sidecar/signer", path, file)
			require.NotContains(t, path, "caddyserver", file)
		}
	}
}
