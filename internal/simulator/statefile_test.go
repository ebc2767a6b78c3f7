package simulator

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// openWorld is a world whose state is kept in file.
func openWorld(t *testing.T, file string) *world {
	t.Helper()
	w := newWorld(t)
	sim, err := Open(file, w.options)
	require.NoError(t, err)
	w.sim = sim
	return w
}

// tokened makes signed calls with a token that is asked for.
func (w *world) tokened(billNo string, amt int64) answer {
	w.t.Helper()
	d := w.payment(func(d *draft) {
		d.token = w.stableToken(false).AccessToken
		d.fields["bill_no"], d.fields["amt"] = billNo, amt
	})
	return w.send(d)
}

func TestARestartKeepsBalancesOrdersAndTokens(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state.json")
	w := openWorld(t, file)
	token := w.stableToken(false).AccessToken
	require.Zero(t, w.tokened("b1", 30).Errcode)
	_, err := w.sim.Login(appID, "newcomer")
	require.NoError(t, err)
	before := w.sim.State()

	w = openWorld(t, file)
	require.Equal(t, before, w.sim.State())
	require.Equal(t, int64(9970), w.purse().Balance)
	require.Equal(t, token, w.stableToken(false).AccessToken)
	require.Equal(t, 90012, w.tokened("b1", 30).Errcode)
}

func TestARestartKeepsV2Orders(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state.json")
	w := openWorld(t, file)
	require.NoError(t, w.sim.Edit(func(s *State) { s.Tokens = demoWithToken(time.Now()).Tokens }))
	require.Zero(t, w.payV2("b1", 30).Errcode)
	require.Zero(t, w.refund("r1", "b1", 10).Errcode)
	before := w.sim.State()

	w = openWorld(t, file)
	require.Equal(t, before, w.sim.State())
	require.Equal(t, 90012, w.payV2("b1", 30).Errcode)
	require.Equal(t, 90012, w.refund("r1", "b1", 10).Errcode)
	require.Equal(t, 90018, w.refund("r2", "b1", 21).Errcode)
	require.Zero(t, w.refund("r2", "b1", 20).Errcode)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(text), `"wx1234567/official/odkx20ENSNa2w5y3g_qOkOvBNM1g/1/b1"`)
}

// A file from before v2 says that an order was returned, and not how much of it.
func TestAnOldStateFileOpens(t *testing.T) {
	state, err := parseState([]byte(`{"apps":{"wx1":{"offer_id":"1","secret":"s","midas_key":"m","midas_key_sandbox":"n","players":{"o":{"official":{"balance":5}}}}},
		"orders":{"wx1/official/b":{"api":"pay","openid":"o","amount":7,"gen":2,"time":"2026-01-02T03:04:05Z","applied":1,"returned":true}}}`))
	require.NoError(t, err)
	order := state.Orders[OrderID{AppID: "wx1", Environment: "official", BillNo: "b"}]
	require.Equal(t, int64(7), order.Refunded)
	require.True(t, order.Returned)
}

func TestTheStateFileIsCreatedFromTheDemoForItsOwnerOnly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state.json")
	w := openWorld(t, file)
	require.Equal(t, Demo(), w.sim.State())
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	require.NoError(t, w.sim.Edit(func(s *State) { s.Apps[appID].OfferID = "77" }))
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(text), "\t\t\t\"offer_id\": \"77\",\n")
	files, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	require.Len(t, files, 1, "nothing temporary stays")
}

// Coins that moved and cannot be remembered are neither "ok" nor "refused".
func TestAStateFileThatCannotBeWrittenAnswersSystemError(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	require.NoError(t, os.Mkdir(dir, 0o700))
	w := openWorld(t, filepath.Join(dir, "state.json"))
	require.NoError(t, w.sim.Edit(func(s *State) { s.Tokens = demoWithToken(time.Now()).Tokens }))
	require.NoError(t, os.RemoveAll(dir))

	require.Equal(t, -1, w.pay("b1", 30).Errcode)
	w.requireLogged("the state file cannot be written")
	require.Zero(t, w.signed(balancePath, nil).Errcode, "a read writes nothing")
	require.Equal(t, -1, w.stableToken(true).Errcode)
	_, err := w.sim.Login(appID, openID)
	require.ErrorContains(t, err, "cannot be written")
}

func TestAFailedWriteLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "state.json")
	w := openWorld(t, file)
	require.NoError(t, os.Remove(file))
	require.NoError(t, os.MkdirAll(filepath.Join(file, "a directory in its place"), 0o700))
	require.Error(t, w.sim.Edit(func(*State) {}))
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 1)
}

func TestNewRefusesAStateThatCannotBe(t *testing.T) {
	_, err := New(State{Apps: map[string]*App{appID: {}}}, Options{})
	require.ErrorContains(t, err, "apps/wx1234567/offer_id: is missing")
}

func TestOpenRefusesWhatItCannotRead(t *testing.T) {
	_, err := Open(t.TempDir(), Options{})
	require.Error(t, err)
	_, err = Open(filepath.Join(t.TempDir(), "no", "such", "directory"), Options{})
	require.Error(t, err)
	file := filepath.Join(t.TempDir(), "state.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"apps":{"wx1":{}}}`), 0o600))
	_, err = Open(file, Options{})
	require.ErrorContains(t, err, "state.json: reading the state: apps/wx1/offer_id: is missing")
}

func TestAStateThatCannotBeNamesTheField(t *testing.T) {
	const app = `{"offer_id":"1","secret":"s","midas_key":"m","midas_key_sandbox":"n","players":{"o":{"official":{"balance":5,"cost_sum":2}}}}`
	seed := `{"apps":{"wx1":` + app + `}`
	order := func(id, fields string) string {
		return seed + `,"orders":{"` + id + `":{"api":"pay","openid":"o","amount":1,"time":"2026-01-02T03:04:05Z","applied":1` + fields + `}}}`
	}
	replaced := func(from, to string) string { return strings.Replace(order("wx1/official/b", ""), from, to, 1) }
	tokens := func(text string) string { return seed + `,"tokens":` + text + `}` }

	_, err := parseState([]byte(order("wx1/official/b", "")))
	require.NoError(t, err)
	for text, want := range map[string]string{
		`{"apps":{},"more":1}`:                              `unknown object member name "more"`,
		`{"apps":{},"apps":{}}`:                             `duplicate object member name "apps"`,
		`{"apps":{"wx1":null}}`:                             "apps/wx1: must be an object",
		`{"apps":{"a/b":` + app + `}}`:                      "apps/a/b: is no appid",
		seed + `}}`:                                         "after top-level value",
		strings.Replace(seed, "balance", "balanc", 1) + `}`: `unknown object member name "balanc" within "/apps/wx1/players/o/official"`,
		strings.Replace(seed, `"balance":5`, `"balance":1.5`, 1) + `}`:                    `/apps/wx1/players/o/official/balance`,
		strings.Replace(seed, `"balance":5`, `"balance":-1`, 1) + `}`:                     "apps/wx1/players/o/official/balance: must be from 0",
		strings.Replace(seed, `"official"`, `"sandbox"`, 1) + `,"orders":{}}`:             "",
		strings.Replace(seed, `"cost_sum":2`, `"gen_balance":6`, 1) + `}`:                 "apps/wx1/players/o/official/gen_balance: must be from 0 to balance",
		strings.Replace(seed, `"cost_sum":2`, `"gen_cost_sum":1`, 1) + `}`:                "gen_cost_sum: must be from 0 to cost_sum",
		strings.Replace(seed, `"cost_sum":2`, `"cost_sum":9007199254740991`, 1) + `}`:     "official/cost_sum: must be from 0",
		strings.Replace(seed, `{"official":{"balance":5,"cost_sum":2}}`, `null`, 1) + `}`: "apps/wx1/players/o: must be an object",
		strings.Replace(seed, `"midas_key":"m",`, ``, 1) + `}`:                            "apps/wx1/midas_key: is missing",
		`{"apps":{"wx1":` + app + `,"wx2":` + app + `}}`:                                  "apps/wx2/offer_id: is the one of wx1, too",
		order("b", ""):                       "must be appid/environment/bill_no",
		order("wx1/test/b", ""):              "its environment must be official or sandbox",
		order("wx2/official/b", ""):          "orders/wx2/official/b/openid: is no player of the app",
		replaced(`"pay"`, `"cancelpay"`):     "api: must be pay or present",
		replaced(`"amount":1`, `"amount":0`): "amount: must be from 1",
		replaced(`"amount":1`, `"amount":3`): "amount: is more than the player has spent",
		order("wx1/official/b", `,"gen":1`):  "amount: is more than the player has spent",
		order("wx1/official/b", `,"gen":2`):  "gen: must be from 0 to amount",
		strings.Replace(order("wx1/official/b", ""), `"orders":{`,
			`"orders":{"wx1/official/a":{"api":"pay","openid":"o","amount":2,"time":"2026-01-02T03:04:05Z","applied":1},`, 1): "orders/wx1/official/b/amount: is more than the player has spent",
		replaced(`"applied":1`, `"applied":0`):                                                                   "applied: must be at least 1",
		replaced(`"2026-01-02T03:04:05Z"`, `"soon"`):                                                             "/orders/wx1~1official~1b/time",
		replaced(`"time":"2026-01-02T03:04:05Z",`, ``):                                                           "time: is missing",
		strings.Replace(order("wx1/official/b", `,"returned":true`), `"pay"`, `"present"`, 1):                    "returned: only a pay can be",
		replaced(`{"api":"pay","openid":"o","amount":1,"time":"2026-01-02T03:04:05Z","applied":1}`, `null`):      "orders/wx1/official/b: must be an object",
		order("wx1/official/o/1/b", ""):                                                                          "",
		order("wx1/official/o//b", ""):                                                                           "or appid/environment/openid/zone_id/bill_no",
		order("wx1/official//1/b", ""):                                                                           "or appid/environment/openid/zone_id/bill_no",
		order("wx1/official/o/1/b/c", ""):                                                                        "or appid/environment/openid/zone_id/bill_no",
		order("wx1/official/p/1/b", ""):                                                                          "openid: is not the one of the order's name",
		strings.Replace(order("wx1/official/o/1/b", ""), `"pay"`, `"refund"`, 1):                                 "api: must be pay, present or cancelpay",
		strings.Replace(order("wx1/official/o/1/b", ""), `"pay"`, `"cancelpay"`, 1):                              "of: must name the pay of a cancelpay",
		strings.Replace(order("wx1/official/o/1/b", `,"of":"a"`), `"pay"`, `"cancelpay"`, 1):                     "",
		order("wx1/official/b", `,"of":"a"`):                                                                     "of: must name the pay of a cancelpay, and nothing else",
		strings.Replace(order("wx1/official/b", `,"refunded":1`), `"pay"`, `"present"`, 1):                       "refunded: only a pay can be",
		order("wx1/official/b", `,"refunded":2`):                                                                 "refunded: must be from 0 to amount",
		order("wx1/official/b", `,"refunded":-1`):                                                                "refunded: must be from 0 to amount",
		order("wx1/official/b", `,"refunded":1`):                                                                 "returned: must be true where refunded is amount",
		strings.Replace(order("wx1/official/b", `,"refunded":1,"returned":true`), `"amount":1`, `"amount":3`, 1): "returned: must be true where refunded is amount, and only there",
		strings.Replace(order("wx1/official/b", `,"refunded":1`), `"amount":1`, `"amount":3`, 1):                 "",
		tokens(`{"wx2":{"issued":[]}}`):                                                                          "tokens/wx2: is no app",
		tokens(`{"wx1":null}`):                                                                                   "tokens/wx1: must be an object",
		tokens(`{"wx1":{"issued":[null]}}`):                                                                      "tokens/wx1/issued/0: must be an object",
		tokens(`{"wx1":{"issued":[],"forced_today":-1}}`):                                                        "tokens/wx1/forced_today",
		tokens(`{"wx1":{"issued":[{"access_token":"t"}]}}`):                                                      "tokens/wx1/issued/0/expires: is missing",
		tokens(`{"wx1":{"issued":[{"expires":"2026-01-02T03:04:05Z"}]}}`):                                        "tokens/wx1/issued/0/access_token: is missing",
		tokens(`{"wx1":{"issued":[{"access_token":"t","expires":"2026-01-02T03:04:05Z"},{"access_token":"t","expires":"2026-01-02T03:04:05Z"}]}}`): "tokens/wx1/issued/1/access_token: stands in tokens/wx1",
	} {
		_, err := parseState([]byte(text))
		if want == "" {
			require.NoError(t, err, text)
			continue
		}
		require.ErrorContains(t, err, want, text)
	}
}

func TestEditChangesAllOrNothing(t *testing.T) {
	w := newWorld(t)
	before := w.sim.State()
	err := w.sim.Edit(func(s *State) {
		s.Apps[appID].Players[openID].Official.Balance = 1
		s.Apps[appID].MidasKey = ""
	})
	require.ErrorContains(t, err, "apps/wx1234567/midas_key: is missing")
	require.Equal(t, before, w.sim.State())

	require.NoError(t, w.sim.Edit(func(s *State) { s.Apps[appID].MidasKey = "rotated" }))
	require.Equal(t, 90011, w.pay("b1", 1).Errcode)
}

func TestASeedIsNotChangedByTheSimulatorThatGrewFromIt(t *testing.T) {
	seed := demoWithToken(time.Now())
	sim, err := New(seed, Options{})
	require.NoError(t, err)
	_, err = sim.Login(appID, "newcomer")
	require.NoError(t, err)
	require.Len(t, seed.Apps[appID].Players, 1)
	require.Zero(t, sim.Purse("wx9", openID, "official"))
	_, known := sim.Order(official("b1"))
	require.False(t, known)
}
