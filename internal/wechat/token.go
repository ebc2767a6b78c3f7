package wechat

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"midas-sidecar/internal/secrets"
)

// The paths where access_tokens come from. The sidecar itself asks at StableTokenPath.
const (
	StableTokenPath = "/cgi-bin/stable_token"
	TokenPath       = "/cgi-bin/token"
)

func newOutbound(path, query string, body []byte) Outbound {
	return Outbound{path: path, secret: func() (string, []byte) { return query, body }}
}

// tokenQuery is the query that holds the access_token.
func tokenQuery(accessToken string) string { return "access_token=" + url.QueryEscape(accessToken) }

// StableToken returns the call that asks for the app's access_token in normal
// mode: the token in use as long as it is good for five minutes more, else a new
// one, which leaves the old one good for five minutes. It never forces a refresh,
// which would take the token away from every other process of the app.
//
// Source: https://developers.weixin.qq.com/minigame/dev/api-backend/open-api/access-token/auth.getStableAccessToken.html
func StableToken(appID string, appSecret secrets.Value) Outbound {
	body := []byte(`{"grant_type":"client_credential","appid":`)
	body, _ = jsontext.AppendQuote(body, appID)
	body = append(body, `,"secret":`...)
	body, _ = jsontext.AppendQuote(body, appSecret.Reveal())
	body = append(body, '}')
	return newOutbound(StableTokenPath, "", body)
}

// ReadToken reads the answer to StableToken: a token and how long it is good for.
// The error names WeChat's errcode where there is one, and quotes nothing else.
func ReadToken(body []byte) (token secrets.Value, life time.Duration, err error) {
	var errcode int
	var seconds uint64
	var errmsg string
	noLife := errNoLife
	err = eachMember(body, func(name []byte, value jsontext.Value) {
		switch string(name) {
		case "access_token":
			token = secrets.NewValue(stringOf(value))
		case "expires_in":
			seconds, noLife = strconv.ParseUint(string(value), 10, 31)
		case "errcode":
			errcode, _ = strconv.Atoi(string(value))
		case "errmsg":
			errmsg = stringOf(value)
		}
	})
	switch {
	case err != nil:
		return secrets.Value{}, 0, fmt.Errorf("reading the token: %w", err)
	case errcode != 0:
		return secrets.Value{}, 0, newTokenError(errcode, errmsg)
	case token.IsZero(), noLife != nil:
		return secrets.Value{}, 0, errNoLife
	}
	return token, time.Duration(seconds) * time.Second, nil
}

var errNoLife = errors.New("reading the token: the answer has no access_token or no expires_in")

// TokenError says that WeChat gives no access_token. Its errmsg is left out: it
// may quote what was sent.
type TokenError struct {
	Errcode int
	// Address is what has to be on the app's list of addresses, where WeChat refuses
	// the one that it was asked from and names it.
	Address netip.Addr
}

const addressRefused = 40164

// errmsg of addressRefused, as seen: "invalid ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not in whitelist rid: …".
var refusedAddress = regexp.MustCompile(`^invalid ip ([0-9A-Fa-f.:]{2,45})(?:[ ,]|$)`)

func newTokenError(errcode int, errmsg string) TokenError {
	e := TokenError{Errcode: errcode}
	if found := refusedAddress.FindStringSubmatch(errmsg); errcode == addressRefused && found != nil {
		if address, err := netip.ParseAddr(found[1]); err == nil { // else it is not one, and may be anything
			e.Address = address.Unmap()
		}
	}
	return e
}

func (e TokenError) Error() string {
	meaning := tokenMeanings[e.Errcode].text
	if meaning == "" {
		meaning = "not documented for stable_token"
	}
	if e.Address.IsValid() {
		meaning += ": " + e.Address.String()
	}
	return fmt.Sprintf("WeChat refuses an access_token: errcode %d (%s)", e.Errcode, meaning)
}

// Cure returns what changes WeChat's mind. For a code that is not known that is
// what most known ones need.
func (e TokenError) Cure() Cure { return tokenMeanings[e.Errcode].cure }

// Cure is what ends a refusal of the access_token.
type Cure uint8

// The cures.
const (
	// ByOperator: a setting of the app has to be changed, here or at WeChat.
	ByOperator Cure = iota
	// BySecret: another app secret has to be used.
	BySecret
	// ByRepeating: the next answer may be another one.
	ByRepeating
	// ByWaiting: calls are counted, and there were too many.
	ByWaiting
)

// tokenMeanings is every errcode that is known of stable_token. Sources: its page, and
// https://developers.weixin.qq.com/doc/oplatform/Return_codes/Return_code_descriptions_new.html
var tokenMeanings = map[int]struct {
	text string
	cure Cure
}{
	Busy:           {"system busy", ByRepeating},
	40001:          {"the app secret is wrong", BySecret},
	40002:          {"the grant_type is wrong", ByOperator},
	40013:          {"the appid is wrong", ByOperator},
	40125:          {"the app secret is wrong", BySecret},
	addressRefused: {"this IP address is not on the app's list", ByOperator},
	40243:          {"the app secret is frozen", BySecret}, // unfrozen, or replaced by another
	41002:          {"the appid is missing", ByOperator},
	41004:          {"the app secret is missing", ByOperator},
	43002:          {"must be POST", ByOperator},
	45009:          {"the daily quota is used up", ByWaiting},
	45011:          {"too many calls this minute", ByWaiting},
	48001:          {"the app may not use this API", ByOperator},
	50004:          {"the app may not have access_tokens", ByOperator},
	50007:          {"the account is frozen", ByOperator},
	89501:          {"this IP address waits for the administrator's consent", ByOperator},
	89503:          {"this IP address waits for the administrator's consent", ByOperator},
	89506:          {"the administrator refused this IP address", ByOperator},
	89507:          {"the administrator refused this IP address", ByOperator},
}
