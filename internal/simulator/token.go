package simulator

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"midas-sidecar/internal/wechat"
)

const (
	stableTokenPath = wechat.StableTokenPath
	stableToken     = "stable_token" // where a rule names it
	plainTokenPath  = "/cgi-bin/token"
	plainToken      = "token"
)

// The rules of https://developers.weixin.qq.com/minigame/dev/api-backend/open-api/access-token/auth.getStableAccessToken.html
const (
	overlap        = 5 * time.Minute  // how long old and new token are both good
	forcedInterval = 30 * time.Second // sooner, force_refresh does nothing
	forcedPerDay   = 20
)

// china is whose days WeChat's quotas are counted by.
var china = time.FixedZone("UTC+8", 8*60*60)

// forgetTokens is how long an expired token is told from one that never was.
const forgetTokens = 24 * time.Hour

// stableToken answers with the app's access_token.
func (s *Simulator) stableToken(r *http.Request) *reply {
	body, refusal := readPost(r)
	if refusal != nil {
		return refusal
	}
	var asked struct {
		GrantType    string `json:"grant_type"`
		AppID        string `json:"appid"`
		Secret       string `json:"secret"`
		ForceRefresh bool   `json:"force_refresh"`
	}
	if err := json.Unmarshal(body, &asked); err != nil {
		return notJSON("the body must be JSON with grant_type, appid and secret as strings, and force_refresh as true or false")
	}
	fault, over := s.arriveAt(stableTokenPath, asked.AppID, "")
	kind, known := findKind(tokenKinds, fault.Kind)
	v := &victim{
		Simulator: s,
		over:      over,
		refusal: func() *reply {
			return s.checkSecret(asked.GrantType, "client_credential", asked.AppID, asked.Secret)
		},
		deed: func() *reply { return s.token(asked.AppID, asked.ForceRefresh) },
		sham: ok(members{{"access_token", "never-issued"}, {"expires_in", 7200}}, "not carried out"),
	}
	return v.serve(fault, kind, known)
}

// plainToken answers with a new access_token at each call, and the one before is good for
// five minutes more.
// https://developers.weixin.qq.com/minigame/en/dev/api-backend/open-api/access-token/auth.getAccessToken.html
func (s *Simulator) plainToken(r *http.Request) *reply {
	if r.Method != http.MethodGet {
		return refuse(43001, "require GET method", "the method is "+r.Method)
	}
	query := r.URL.Query()
	appid := query.Get("appid")
	fault, over := s.arriveAt(plainTokenPath, appid, "")
	kind, known := findKind(tokenKinds, fault.Kind)
	v := &victim{
		Simulator: s,
		over:      over,
		refusal: func() *reply {
			return s.checkSecret(query.Get("grant_type"), "client_credential", appid, query.Get("secret"))
		},
		deed: func() *reply { return s.newPlainToken(appid) },
		sham: ok(members{{"access_token", "never-issued"}, {"expires_in", 7200}}, "not carried out"),
	}
	return v.serve(fault, kind, known)
}

func (s *Simulator) newPlainToken(appid string) *reply {
	now := s.options.Now().UTC()
	tokens := s.state.tokens(appid)
	for _, old := range tokens.Plain {
		if end := now.Add(s.overlap()); end.Before(old.Expires) {
			old.Expires = end
		}
	}
	token := &Token{AccessToken: s.randomText(96), Expires: now.Add(s.options.TokenLife)}
	tokens.Plain = withToken(tokens.Plain, token, now)
	s.keepTokens(appid, tokens)
	if s.save() != nil {
		return refuse(-1, "system error", "the state file cannot be written")
	}
	return ok(members{
		{"access_token", token.AccessToken},
		{"expires_in", int(s.options.TokenLife / time.Second)},
	}, fmt.Sprintf("a new token; one before it is good for %s at most", s.overlap()))
}

// checkSecret refuses whoever is not the app.
func (s *Simulator) checkSecret(grantType, wantGrantType, appid, secret string) *reply {
	switch app := s.state.Apps[appid]; {
	case grantType != wantGrantType:
		return refuse(40002, "invalid grant_type", "it must be "+wantGrantType)
	case appid == "":
		return refuse(41002, "appid missing", "")
	case secret == "":
		return refuse(41004, "appsecret missing", "")
	case app == nil:
		return refuse(40013, "invalid appid", "the simulator has no app with this appid")
	case !same(secret, app.Secret):
		return refuse(40125, "invalid appsecret", "the secret is not the app's")
	}
	return nil
}

// token returns the app's latest token, or a new one where it is time for one.
func (s *Simulator) token(appid string, force bool) *reply {
	now := s.options.Now().UTC()
	tokens := s.state.tokens(appid)
	forced := force && now.Sub(tokens.Forced) >= forcedInterval
	latest, why := tokens.latest(now), "the token in use"
	switch {
	case latest == nil && !forced:
		why = "a new token"
	case forced:
		if !tokens.countForced(now) {
			return refuse(45009, "reach max api daily quota limit", fmt.Sprintf("force_refresh works %d times a day", forcedPerDay))
		}
		for _, token := range tokens.Issued {
			token.revoke(now)
		}
		latest, why = nil, "a new token; force_refresh has ended the old one"
	case latest != nil && latest.Expires.Sub(now) <= s.overlap():
		latest.Expires = now.Add(s.overlap())
		latest, why = nil, fmt.Sprintf("a new token; the old one is good for %s more", s.overlap())
	case force:
		why = fmt.Sprintf("the token in use: force_refresh does nothing within %s of the last", forcedInterval)
	}
	if latest == nil {
		latest = s.issueToken(appid, tokens, now)
		if s.save() != nil {
			return refuse(-1, "system error", "the state file cannot be written")
		}
	}
	return ok(members{
		{"access_token", latest.AccessToken},
		{"expires_in", int(latest.Expires.Sub(now) / time.Second)},
	}, why)
}

// issueToken makes a new token the app's latest.
func (s *Simulator) issueToken(appid string, tokens *Tokens, now time.Time) *Token {
	token := &Token{AccessToken: s.randomText(96), Expires: now.Add(s.options.TokenLife)}
	tokens.Issued = withToken(tokens.Issued, token, now)
	s.keepTokens(appid, tokens)
	return token
}

func (s *Simulator) keepTokens(appid string, tokens *Tokens) {
	if s.state.Tokens == nil {
		s.state.Tokens = make(map[string]*Tokens)
	}
	s.state.Tokens[appid] = tokens
}

// revoke ends a token as a force_refresh does, unless it has ended already.
func (t *Token) revoke(now time.Time) { t.Revoked = t.Revoked || now.Before(t.Expires) }

// expire makes a token one whose time is over.
func (t *Token) expire(now time.Time) {
	if now.Before(t.Expires) {
		t.Expires = now
	}
}

// overlap is shorter for tokens with a short life, which would otherwise be
// renewed by every call.
func (s *Simulator) overlap() time.Duration { return min(overlap, s.options.TokenLife/2) }

// latest returns the last token if it is good, else nil.
func (t *Tokens) latest(now time.Time) *Token {
	if len(t.Issued) == 0 {
		return nil
	}
	last := t.Issued[len(t.Issued)-1]
	if last.Revoked || !now.Before(last.Expires) {
		return nil
	}
	return last
}

// withToken returns the tokens with one more, without those that expired long ago.
func withToken(tokens []*Token, token *Token, now time.Time) []*Token {
	return append(slices.DeleteFunc(tokens, func(old *Token) bool { return now.Sub(old.Expires) > forgetTokens }), token)
}

// all returns the tokens of both endpoints.
func (t *Tokens) all() []*Token { return slices.Concat(t.Issued, t.Plain) }

// countForced counts a force_refresh, unless the day's are used up.
func (t *Tokens) countForced(now time.Time) bool {
	const day = time.DateOnly
	if t.Forced.In(china).Format(day) != now.In(china).Format(day) {
		t.ForcedToday = 0
	}
	if t.ForcedToday == forcedPerDay {
		return false
	}
	t.Forced = now
	t.ForcedToday++
	return true
}

// checkToken returns the appid that an access_token was issued to.
func (s *State) checkToken(text string, now time.Time) (owner string, refusal *reply) {
	for appid, tokens := range s.Tokens {
		for _, token := range tokens.all() {
			switch {
			case !same(text, token.AccessToken):
			case token.Revoked:
				return "", refuse(40001, "invalid credential, access_token is invalid or not latest",
					"a force_refresh has ended this access_token")
			case !now.Before(token.Expires):
				return "", refuse(42001, "access_token expired",
					fmt.Sprintf("this access_token expired %s ago", now.Sub(token.Expires).Round(time.Second)))
			default:
				return appid, nil
			}
		}
	}
	return "", refuse(40014, "invalid access_token", "this access_token was never issued here: ask "+stableTokenPath+" or "+plainTokenPath)
}

// randomText returns n random bytes as a text that needs no escape in a URL.
func (s *Simulator) randomText(n int) string {
	return base64.RawURLEncoding.EncodeToString(s.randomBytes(n))
}

func (s *Simulator) randomBytes(n int) []byte {
	bytes := make([]byte, n)
	if _, err := io.ReadFull(s.options.Random, bytes); err != nil {
		panic(fmt.Errorf("the source of randomness has run dry: %w", err))
	}
	return bytes
}
