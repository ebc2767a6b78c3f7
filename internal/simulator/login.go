package simulator

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
)

const (
	code2SessionPath = "/sns/jscode2session"
	code2Session     = "jscode2session" // where a rule names it
)

// codeLife is how long a js_code is good for, once.
// https://developers.weixin.qq.com/minigame/en/dev/api-backend/open-api/login/auth.code2Session.html
const codeLife = 5 * time.Minute

// jsCode is what the game's client got from wx.login. It lives in memory only: a
// restart loses it, as five minutes do.
type jsCode struct {
	appid, openid string
	expires       time.Time
	used          bool
}

// Login does what wx.login does on a player's phone: it returns a js_code, which
// /sns/jscode2session takes once within five minutes, and gives the player a new
// session_key; the old one is refused from now on. A player who is not known
// begins to play, with no coins.
func (s *Simulator) Login(appid, openid string) (code string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	app := s.state.Apps[appid]
	switch {
	case app == nil:
		return "", errors.New("appid: the simulator has no such app")
	case !isName(openid):
		return "", errors.New("openid: must be 1 to 63 characters of A-Z a-z 0-9 _ -")
	}
	player := app.Players[openid]
	if player == nil {
		player = &Player{}
		if app.Players == nil {
			app.Players = make(map[string]*Player)
		}
		app.Players[openid] = player
	}
	player.OldSessionKey = player.SessionKey
	player.SessionKey = base64.StdEncoding.EncodeToString(s.randomBytes(16)) // as WeChat's look
	if err := s.save(); err != nil {
		return "", fmt.Errorf("the state file cannot be written: %w", err)
	}

	now := s.options.Now()
	maps.DeleteFunc(s.codes, func(_ string, c *jsCode) bool { return !now.Before(c.expires) })
	code = s.randomText(24)
	s.codes[code] = &jsCode{appid: appid, openid: openid, expires: now.Add(codeLife)}
	return code, nil
}

// serveLogin is Login over HTTP: POST /simulator/login {"appid":…,"openid":…}.
func (s *Simulator) serveLogin(r *http.Request) *reply {
	body, refusal := readPost(r)
	if refusal != nil {
		return ownRefusal(http.StatusBadRequest, refusal.errmsg)
	}
	var who struct {
		AppID  string `json:"appid"`
		OpenID string `json:"openid"`
	}
	if err := json.Unmarshal(body, &who, json.RejectUnknownMembers(true)); err != nil {
		return ownRefusal(http.StatusBadRequest, `the body must be {"appid":"…","openid":"…"}`)
	}
	code, err := s.Login(who.AppID, who.OpenID)
	if err != nil {
		return ownRefusal(http.StatusBadRequest, err.Error())
	}
	out := ok(members{{"js_code", code}}, "the player has a new session_key")
	out.about = []slog.Attr{slog.String("openid", who.OpenID)}
	return out
}

// code2Session turns a js_code into the player's openid and session_key.
func (s *Simulator) code2Session(r *http.Request) *reply {
	if r.Method != http.MethodGet {
		return refuse(43001, "require GET method", "the method is "+r.Method)
	}
	query := r.URL.Query()
	js := s.jsCode(query.Get("js_code"))
	fault, over := s.arriveAt(code2SessionPath, query.Get("appid"), js.openid)
	kind, known := findKind(loginKinds, fault.Kind)
	v := &victim{
		Simulator: s,
		over:      over,
		refusal: func() *reply {
			refusal := s.checkSecret(query.Get("grant_type"), "authorization_code", query.Get("appid"), query.Get("secret"))
			if refusal == nil {
				refusal = s.checkCode(query.Get("js_code"), query.Get("appid"))
			}
			return refusal
		},
		deed: func() *reply { return s.session(query.Get("js_code")) },
		sham: ok(members{{"session_key", "never-given-out"}, {"openid", js.openid}}, "not carried out"),
	}
	out := v.serve(fault, kind, known)
	if isName(js.openid) {
		out.about = []slog.Attr{slog.String("openid", js.openid)}
	}
	return out
}

// jsCode returns a copy of what is known of a js_code: nothing where it never was.
func (s *Simulator) jsCode(text string) jsCode {
	s.mu.Lock()
	defer s.mu.Unlock()
	if code := s.codes[text]; code != nil {
		return *code
	}
	return jsCode{}
}

// checkCode refuses a js_code that does not work for the app, or not any more.
func (s *Simulator) checkCode(text, appid string) *reply {
	code := s.codes[text]
	switch {
	case text == "":
		return refuse(41008, "missing code", "")
	case code == nil || code.appid != appid || !s.options.Now().Before(code.expires):
		return refuse(40029, "invalid code", "this js_code was never given out to this app, or more than five minutes ago")
	case code.used:
		return refuse(40163, "code been used", "a js_code works once")
	case s.state.player(code.appid, code.openid) == nil:
		return refuse(40029, "invalid code", "the player is gone since")
	}
	return nil
}

// session uses a js_code up.
func (s *Simulator) session(text string) *reply {
	code := s.codes[text]
	code.used = true
	player := s.state.player(code.appid, code.openid)
	body := members{{"session_key", player.SessionKey}, {"openid", code.openid}}
	if player.UnionID != "" {
		body = append(body, members{{"unionid", player.UnionID}}...)
	}
	return ok(body, "")
}
