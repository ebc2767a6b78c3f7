package simulator

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/wechat"
)

const (
	appID    = "wx1234567"
	offerID  = "12345678"
	openID   = "odkx20ENSNa2w5y3g_qOkOvBNM1g"
	theToken = "ACCESSTOKEN"

	payPath        = "/cgi-bin/midas/pay"
	cancelPath     = "/cgi-bin/midas/cancelpay"
	balancePath    = "/cgi-bin/midas/getbalance"
	presentPath    = "/cgi-bin/midas/present"
	sandboxPayPath = "/cgi-bin/midas/sandbox/pay"

	payPathV2     = "/wxa/game/pay"
	cancelPathV2  = "/wxa/game/cancelpay"
	balancePathV2 = "/wxa/game/getbalance"
	presentPathV2 = "/wxa/game/present"
	queryPathV2   = "/wxa/game/queryorderinfo"
)

// world is a simulator with the demo's state, and a game server that knows all
// its secrets.
type world struct {
	t       testing.TB
	sim     *Simulator
	options Options
	log     *lockedBuffer
}

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// demoWithToken is the demo's state and an access_token that needs no asking for.
func demoWithToken(now time.Time) State {
	state := Demo()
	state.Tokens = map[string]*Tokens{appID: {Issued: []*Token{{AccessToken: theToken, Expires: now.Add(1000 * time.Hour)}}}}
	return state
}

func newWorld(t testing.TB, change ...func(*State)) *world {
	return newWorldWith(t, Options{}, change...)
}

func newWorldWith(t testing.TB, options Options, change ...func(*State)) *world {
	t.Helper()
	w := &world{t: t, log: &lockedBuffer{}}
	options = options.withDefaults()
	options.Log = slog.New(slog.NewTextHandler(w.log, nil))
	w.options = options
	state := demoWithToken(options.Now())
	for _, f := range change {
		f(&state)
	}
	sim, err := New(state, options)
	require.NoError(t, err)
	w.sim = sim
	return w
}

// draft is a call that can be bent before it is signed or sent.
type draft struct {
	method, path, token, query, contentType string
	fields                                  map[string]any // numbers as int64 or json.Number
	midasKey, sessionKey                    string         // "" leaves the signature out

	signature, paySig string // of v2
	raw               string // the body, where it is not made of the fields
}

func (w *world) draft(path string, own map[string]any) *draft {
	player := Demo().Apps[appID].Players[openID]
	e, _ := wechat.EndpointOf(path)
	d := &draft{
		method: "POST", path: path, token: theToken, contentType: "application/json",
		fields: map[string]any{
			"openid": openID, "appid": appID, "offer_id": offerID,
			"ts": w.options.Now().Unix(), "zone_id": "1", "pf": "android",
		},
		midasKey:   Demo().Apps[appID].midasKey(e.Environment),
		sessionKey: player.SessionKey,
	}
	if d.isV2() {
		delete(d.fields, "appid")
		delete(d.fields, "pf")
		d.fields["env"] = int64(0)
	}
	maps.Copy(d.fields, own)
	if d.fields["env"] == int64(1) {
		d.midasKey = Demo().Apps[appID].MidasKeySandbox
	}
	return d
}

func (d *draft) isV2() bool { return strings.HasPrefix(d.path, "/wxa/game/") }

// messageV2 returns what the draft's signatures cover in v2.
func (d *draft) messageV2() MessageV2 { return MessageV2{d.path, d.sentQuery(), []byte(d.body())} }

// sentQuery is the query that the draft is sent with.
func (d *draft) sentQuery() string {
	switch {
	case d.query != "":
		return d.query
	case d.isV2():
		return "access_token=" + url.QueryEscape(d.token) + "&signature=" + d.signature + "&sig_method=hmac_sha256&pay_sig=" + d.paySig
	case d.token != "":
		return "access_token=" + url.QueryEscape(d.token)
	}
	return ""
}

// message returns what the draft's signatures cover.
func (d *draft) message() Message {
	m := Message{Path: d.path, AccessToken: d.token}
	for _, name := range slices.Sorted(maps.Keys(d.fields)) {
		value, isText := d.fields[name].(string)
		if !isText {
			raw, _ := json.Marshal(d.fields[name])
			value = string(raw)
		}
		m.Fields = append(m.Fields, Field{Name: name, Value: value})
	}
	return m
}

// sign adds the signatures for the fields as they are now.
func (d *draft) sign() *draft {
	if d.isV2() {
		d.signature, d.paySig = signatureOf(d.messageV2(), d.sessionKey), paySigOf(d.messageV2(), d.midasKey)
		return d
	}
	if d.midasKey != "" {
		d.fields["sig"] = sigOf(d.message(), d.midasKey)
	}
	if d.sessionKey != "" {
		d.fields["mp_sig"] = mpSigOf(d.message(), d.sessionKey)
	}
	return d
}

func (d *draft) body() string {
	if d.raw != "" {
		return d.raw
	}
	body, err := json.Marshal(d.fields)
	if err != nil {
		panic(err)
	}
	return string(body)
}

// answer is what came back.
type answer struct {
	Errcode     int
	Errmsg      string
	Balance     int64
	GenBalance  int64  `json:"gen_balance"`
	UsedGenAmt  int64  `json:"used_gen_amt"`
	BillNo      string `json:"bill_no"`
	FirstSave   any    `json:"first_save"`
	SaveAmt     int64  `json:"save_amt"`
	SaveSum     int64  `json:"save_sum"`
	CostSum     int64  `json:"cost_sum"`
	PresentSum  int64  `json:"present_sum"`
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"`
	OpenID      string
	SessionKey  string `json:"session_key"`
	UnionID     string
	JSCode      string `json:"js_code"`
	Error       string

	status int
	text   string
}

// send sends the draft as it is.
func (w *world) send(d *draft) answer {
	return w.do(d.method, d.path+"?"+d.sentQuery(), d.contentType, d.body())
}

func (w *world) do(method, target, contentType, body string) answer {
	w.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	recorder := httptest.NewRecorder()
	w.sim.ServeHTTP(recorder, r)
	a := answer{status: recorder.Code, text: recorder.Body.String()}
	if recorder.Code != http.StatusNotFound {
		require.NoError(w.t, json.Unmarshal(recorder.Body.Bytes(), &a), a.text)
		require.Equal(w.t, strconv.Itoa(len(a.text)), recorder.Header().Get("Content-Length"))
	}
	return a
}

// signed sends a call to path that has nothing wrong.
func (w *world) signed(path string, own map[string]any) answer {
	w.t.Helper()
	return w.send(w.draft(path, own).sign())
}

func (w *world) pay(billNo string, amt int64) answer {
	w.t.Helper()
	return w.signed(payPath, map[string]any{"bill_no": billNo, "amt": amt})
}

func (w *world) cancel(billNo string) answer {
	w.t.Helper()
	return w.signed(cancelPath, map[string]any{"bill_no": billNo})
}

func (w *world) present(billNo string, count int64) answer {
	w.t.Helper()
	return w.signed(presentPath, map[string]any{"bill_no": billNo, "present_counts": count})
}

// purse returns the demo player's official coins.
func (w *world) purse() Purse { return w.sim.Purse(appID, openID, wechat.Official) }

func (w *world) payV2(billNo string, amount int64) answer {
	w.t.Helper()
	return w.signed(payPathV2, map[string]any{"bill_no": billNo, "amount": amount})
}

// refund gives amount of the v2 order of back.
func (w *world) refund(billNo, of string, amount int64) answer {
	w.t.Helper()
	return w.signed(cancelPathV2, map[string]any{"bill_no": billNo, "pay_bill_no": of, "amount": amount})
}

// inZone returns the demo player's v2 order in zone 1.
func inZone(billNo string) OrderID {
	return OrderID{AppID: appID, Environment: wechat.Official, BillNo: billNo, OpenID: openID, ZoneID: "1"}
}

func official(billNo string) OrderID {
	return OrderID{AppID: appID, Environment: wechat.Official, BillNo: billNo}
}

func (w *world) requireLogged(text string) {
	w.t.Helper()
	require.Contains(w.t, strings.ReplaceAll(w.log.String(), `\"`, `"`), text)
}
