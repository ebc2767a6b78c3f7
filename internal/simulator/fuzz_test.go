package simulator

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever arrives: no panic, an answer, and no coin moves without a signature.
func FuzzNothingUnsignedMovesCoins(f *testing.F) {
	w := newWorld(f)
	for _, body := range []string{
		"", "{}", "[]", "null", `{"sig":"","mp_sig":""}`, "{\"a\":\"\xff\"}", `{"a":"\ud800"}`, `{"amt":1e400}`,
		newWorld(f).payment(func(d *draft) { d.midasKey = "nobody's" }).body(),
		newWorld(f).payment(func(d *draft) { d.sessionKey = "nobody's" }).body(),
	} {
		for _, path := range []string{payPath, cancelPath, presentPath, balancePath, sandboxPayPath, stableTokenPath, code2SessionPath, "/simulator/login"} {
			f.Add(path, "access_token="+theToken, "application/json", []byte(body))
		}
	}
	for _, wrong := range []func(*draft){
		func(d *draft) { d.signature = "0" },
		func(d *draft) { d.paySig = "0" },
		func(d *draft) { d.signature, d.paySig = d.paySig, d.signature },
		func(d *draft) { d.raw = d.body() + " " },
		func(d *draft) { d.raw = "{}" },
	} {
		for _, path := range []string{payPathV2, cancelPathV2, presentPathV2, balancePathV2, queryPathV2} {
			d := w.paymentV2(nil)
			d.path = path
			wrong(d.sign())
			f.Add(path, d.sentQuery(), "application/json", []byte(d.body()))
		}
	}
	before := w.sim.State()
	f.Fuzz(func(t *testing.T, path, query, contentType string, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		r.URL.Path, r.URL.RawQuery = path, query
		r.Header.Set("Content-Type", contentType)
		w.sim.ServeHTTP(httptest.NewRecorder(), r)
		after := w.sim.State()
		require.Equal(t, before.Orders, after.Orders)
		for openid, player := range after.Apps[appID].Players { // the login may bring new ones
			want := Purse{}
			if known := before.Apps[appID].Players[openid]; known != nil {
				want = known.Official
			}
			require.Equal(t, want, player.Official)
			require.Equal(t, want, player.Sandbox)
		}
	})
}
