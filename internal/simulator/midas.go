package simulator

import (
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"midas-sidecar/internal/wechat"
)

// call is one payment call as it arrived.
type call struct {
	Message
	v2          MessageV2 // of a v2 call
	endpoint    wechat.Endpoint
	appid       string // as the call says: nothing is verified yet
	contentType string

	balanceFirst bool
}

// jsonType is the media type that WeChat's pages ask for.
const jsonType = "application/json"

// shownType returns a media type that can be shown: a caller made it up.
func shownType(mediaType string) string {
	if mediaType == "" {
		return "none"
	}
	for part := range strings.SplitSeq(mediaType, "/") {
		if printable(strings.NewReplacer("-", "", ".", "", "+", "").Replace(part)) == "a field" && part != "x-www-form-urlencoded" {
			return "another"
		}
	}
	return mediaType
}

func (c call) isV2() bool { return c.endpoint.API.Family == wechat.V2 }

// midas returns the judge of the calls to an endpoint. Which environment a v2 call
// means, its body says.
func (s *Simulator) midas(e wechat.Endpoint) func(*http.Request) *reply {
	return func(r *http.Request) *reply {
		c, refusal := s.readCall(e, r)
		if refusal != nil {
			return refusal
		}
		c.appid = s.appOf(c)
		out := s.serve(c)
		out.about = about(c)
		return out
	}
}

// readCall reads what can be read without knowing anything: that is what WeChat's
// gateway sees.
func (s *Simulator) readCall(e wechat.Endpoint, r *http.Request) (call, *reply) {
	body, refusal := readPost(r)
	if refusal != nil {
		return call{}, refusal
	}
	fields, err := parseObject(body)
	contentType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil && (contentType == jsonType || s.options.Lenient) {
		return call{}, notJSON(problemOf(err))
	}
	names := []string{"access_token"}
	if e.API.Family == wechat.V2 {
		names = append(names, "signature", "sig_method", "pay_sig")
	}
	query, refusal := readQuery(r, s.options.Lenient, names...)
	if refusal != nil {
		return call{}, refusal
	}
	c := call{Message: Message{r.URL.Path, query.Get("access_token"), fields}, endpoint: e, contentType: contentType}
	if s.options.Lenient {
		c.Fields = slices.DeleteFunc(c.Fields, func(f Field) bool { return f.Name == "access_token" }) // none signs it
	}
	if c.isV2() {
		c.v2 = MessageV2{r.URL.Path, r.URL.RawQuery, body}
		if c.get("env") == "1" {
			c.endpoint.Environment = wechat.Sandbox
		}
		if query.Get("sig_method") != "hmac_sha256" {
			return call{}, badParameter("sig_method", "must be hmac_sha256")
		}
	}
	return c, nil
}

// appOf returns the app that a call says it comes from, "" where none is known: v2
// has no appid, but no two apps have the same offer_id.
func (s *Simulator) appOf(c call) string {
	if !c.isV2() {
		return c.get("appid")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for appid, app := range s.state.Apps {
		if app.OfferID == c.get("offer_id") {
			return appid
		}
	}
	return ""
}

// perform applies a call that has been admitted, and keeps what that changed.
func (s *Simulator) perform(c call) *reply {
	out := s.apply(c)
	if out.errcode == 0 && c.endpoint.API.MovesCoins && s.save() != nil {
		// The coins have moved, and whoever asks again may be told so or not:
		// that is what -1 means.
		out = refuse(-1, "system error", "the state file cannot be written")
	}
	return out
}

// about names the player and the order in a log line, if the names look like any.
func about(c call) []slog.Attr {
	var attrs []slog.Attr
	for _, name := range []string{"openid", "bill_no", "pay_bill_no", "out_trade_no"} {
		if value := c.get(name); isName(value) {
			attrs = append(attrs, slog.String(name, value))
		}
	}
	return attrs
}

// admit refuses a call that does not come from the app and its player.
func (s *Simulator) admit(c call) *reply {
	now := s.options.Now()
	owner, refusal := s.state.checkToken(c.AccessToken, now)
	if refusal != nil {
		return refusal
	}
	table := tables[c.endpoint.API]
	if c.contentType != jsonType && !s.options.Lenient { // nothing is found in form posts
		refusal := table.missing("openid")
		refusal.errmsg += ": the Content-Type must be application/json, got " + shownType(c.contentType)
		return refusal
	}
	check := table.check
	if s.options.Lenient {
		check = table.checkLeniently
	}
	if refusal := check(c.Message); refusal != nil {
		return refusal
	}
	if refusal := checkTime(c.integer("ts"), now, s.options.Tolerance); refusal != nil {
		return refusal
	}
	app, refusal := s.checkApp(c, owner)
	if refusal != nil {
		return refusal
	}
	if c.isV2() {
		return s.checkSignaturesV2(c, app)
	}
	return s.checkSignatures(c, app)
}

// checkTime refuses a ts that is not now. How much WeChat tolerates is not
// documented.
func checkTime(ts int64, now time.Time, tolerance time.Duration) *reply {
	off := now.Sub(time.Unix(ts, 0)).Round(time.Second)
	switch {
	case ts > 1e11: // the year 5138 in seconds
		return refuse(90018, "parameter error: ts: must be UNIX seconds", "ts is in milliseconds: WeChat wants seconds")
	case off > tolerance:
		return refuse(90018, "parameter error: ts: is too old",
			fmt.Sprintf("ts is %s behind the simulator's clock, which allows %s", off, tolerance))
	case off < -tolerance:
		return refuse(90018, "parameter error: ts: is in the future",
			fmt.Sprintf("ts is %s ahead of the simulator's clock, which allows %s", -off, tolerance))
	}
	return nil
}

// checkApp returns the app that calls. 90017 is WeChat's for an app without
// permission; that it covers these cases is our reading.
func (s *Simulator) checkApp(c call, owner string) (*App, *reply) {
	const errmsg = "no privilege"
	app := s.state.Apps[c.appid]
	switch {
	case app == nil && c.isV2():
		return nil, refuse(90017, errmsg, "the simulator has no app with this offer_id")
	case app == nil:
		return nil, refuse(90017, errmsg, "the simulator has no app with this appid")
	case c.appid != owner && c.isV2():
		return nil, refuse(90017, errmsg, "the access_token was issued to another app than that of offer_id")
	case c.appid != owner:
		return nil, refuse(90017, errmsg, "the access_token was issued to another app than appid")
	case c.get("offer_id") != app.OfferID:
		return nil, refuse(90017, errmsg, "the offer_id is not the one of appid")
	}
	return app, nil
}

// checkSignatures verifies v1's mp_sig and sig.
func (s *Simulator) checkSignatures(c call, app *App) *reply {
	if !c.has("mp_sig") && !app.MPSigOptional {
		return tables[c.endpoint.API].missing("mp_sig")
	}
	player := app.Players[c.get("openid")]
	switch {
	case player == nil:
		return refuse(90010, "no session", "the app has no player with this openid: POST /simulator/login makes one")
	case player.SessionKey == "" && c.has("mp_sig"):
		return refuse(90010, "no session", "the player is not logged in: POST /simulator/login")
	}
	keys := s.state.keys(c, app, player)
	if s.options.Lenient {
		c.Message = tables[c.endpoint.API].asSigned(c.Message, app.midasKey(c.endpoint.Environment))
	}
	sigIsRight := same(c.get("sig"), sigOf(c.Message, app.midasKey(c.endpoint.Environment)))
	if c.has("mp_sig") && !same(c.get("mp_sig"), mpSigOf(c.Message, player.SessionKey)) {
		return refuseSignature(90009, "mp_sig error", func() string {
			if sigIsRight {
				return ExplainMPSig(c.Message, keys)
			}
			return ExplainMPSig(c.Message, keys) + "; besides, " + ExplainSig(c.Message, keys)
		})
	}
	if !sigIsRight {
		return refuseSignature(90011, "sig error", func() string { return ExplainSig(c.Message, keys) })
	}
	return nil
}

// checkSignaturesV2 verifies signature and pay_sig. What is signed with the session_key
// before the last login answers 90010, as seen in the field; 90016, "the session_key has
// expired, log in again", is for the player who has none.
func (s *Simulator) checkSignaturesV2(c call, app *App) *reply {
	player := app.Players[c.get("openid")]
	switch {
	case player == nil:
		return refuse(90010, "signature error", "the app has no player with this openid: POST /simulator/login makes one")
	case player.SessionKey == "":
		return refuse(90016, "session_key expired", "the player is not logged in: POST /simulator/login")
	}
	keys := s.state.keys(c, app, player)
	paySigIsRight := same(c.v2.inQuery("pay_sig"), paySigOf(c.v2, app.midasKey(c.endpoint.Environment)))
	if !same(c.v2.inQuery("signature"), signatureOf(c.v2, player.SessionKey)) {
		return refuseSignature(90010, "signature error", func() string {
			if paySigIsRight {
				return ExplainSignature(c.v2, keys)
			}
			return ExplainSignature(c.v2, keys) + "; besides, " + ExplainPaySig(c.v2, keys)
		})
	}
	if !paySigIsRight {
		return refuseSignature(90011, "pay_sig error", func() string { return ExplainPaySig(c.v2, keys) })
	}
	return nil
}

// keys are all that a caller may have signed with by mistake.
func (s *State) keys(c call, app *App, player *Player) Keys {
	keys := Keys{
		Midas:        app.MidasKey,
		MidasSandbox: app.MidasKeySandbox,
		Session:      player.SessionKey,
		OldSession:   player.OldSessionKey,
		AppSecret:    app.Secret,
	}
	for _, token := range s.Tokens[c.appid].all() {
		keys.Tokens = append(keys.Tokens, token.AccessToken)
	}
	return keys
}
