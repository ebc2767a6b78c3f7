package simulator

import (
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"time"

	"midas-sidecar/wechat"
)

// call is one v1 call as it arrived.
type call struct {
	Message
	endpoint    wechat.Endpoint
	contentType string

	balanceFirst bool
}

// midas returns the judge of the calls to a v1 endpoint.
func (s *Simulator) midas(e wechat.Endpoint) func(*http.Request) *reply {
	return func(r *http.Request) *reply {
		c, refusal := readCall(e, r)
		if refusal != nil {
			return refusal
		}
		out := s.serve(c)
		out.about = about(c)
		return out
	}
}

// readCall reads what can be read without knowing anything: that is what WeChat's
// gateway sees.
func readCall(e wechat.Endpoint, r *http.Request) (call, *reply) {
	body, refusal := readPost(r)
	if refusal != nil {
		return call{}, refusal
	}
	fields, err := parseObject(body)
	contentType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil && contentType == "application/json" {
		return call{}, notJSON(problemOf(err))
	}
	token, others := readQuery(r, "access_token")
	switch {
	case token == "":
		return call{}, refuse(41001, "access_token missing", "it belongs in the query")
	case others:
		return call{}, badParameter("query", "must hold access_token, once, and nothing else")
	}
	return call{Message: Message{r.URL.Path, token, fields}, endpoint: e, contentType: contentType}, nil
}

// perform applies a call that has been admitted, and keeps what that changed.
func (s *Simulator) perform(c call) *reply {
	out := s.apply(c)
	if out.errcode == 0 && c.endpoint.API.Moves && s.save() != nil {
		// The coins have moved, and whoever asks again may be told so or not:
		// that is what -1 means.
		out = refuse(-1, "system error", "the state file cannot be written")
	}
	return out
}

// about names the player and the order in a log line, if the names look like any.
func about(c call) []slog.Attr {
	var attrs []slog.Attr
	for _, name := range []string{"openid", "bill_no"} {
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
	if c.contentType != "application/json" { // form posts: reference of 40101 in fields.go
		return refuse(40101, "openid missing", "the Content-Type must be application/json")
	}
	if refusal := v1Tables[c.endpoint.API].check(c.Message); refusal != nil {
		return refusal
	}
	if refusal := checkTime(c.integer("ts"), now, s.options.Tolerance); refusal != nil {
		return refusal
	}
	app, refusal := s.checkApp(c, owner)
	if refusal != nil {
		return refusal
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
	appid := c.get("appid")
	app := s.state.Apps[appid]
	switch {
	case app == nil:
		return nil, refuse(90017, errmsg, "the simulator has no app with this appid")
	case appid != owner:
		return nil, refuse(90017, errmsg, "the access_token was issued to another app than appid")
	case c.get("offer_id") != app.OfferID:
		return nil, refuse(90017, errmsg, "the offer_id is not the one of appid")
	}
	return app, nil
}

// checkSignatures verifies mp_sig and sig.
func (s *Simulator) checkSignatures(c call, app *App) *reply {
	if !c.has("mp_sig") && !app.MPSigOptional {
		return missing("mp_sig")
	}
	player := app.Players[c.get("openid")]
	switch {
	case player == nil:
		return refuse(90010, "no session", "the app has no player with this openid: POST /simulator/login makes one")
	case player.SessionKey == "" && c.has("mp_sig"):
		return refuse(90010, "no session", "the player is not logged in: POST /simulator/login")
	}
	keys := s.state.keys(c, app, player)
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

// keys are all that a caller may have signed with by mistake.
func (s *State) keys(c call, app *App, player *Player) Keys {
	keys := Keys{
		Midas:        app.MidasKey,
		MidasSandbox: app.MidasKeySandbox,
		Session:      player.SessionKey,
		OldSession:   player.OldSessionKey,
		AppSecret:    app.Secret,
	}
	for _, token := range s.Tokens[c.get("appid")].Issued {
		keys.Tokens = append(keys.Tokens, token.AccessToken)
	}
	return keys
}
