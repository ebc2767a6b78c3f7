package wechat

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"midas-sidecar/internal/secrets"
)

// Code2SessionPath is where a js_code becomes a session: at WeChat and, since the
// path is the same, at us.
const Code2SessionPath = "/sns/jscode2session"

// The names of Code2SessionPath's query and answer.
const (
	jsCode     = "js_code"
	appSecret  = "secret"
	grantType  = "grant_type"
	sessionKey = "session_key"
)

// Code2Session returns the call that uses up a js_code, which the game's client got
// from wx.login, for the player's openid and session_key.
//
// Source: https://developers.weixin.qq.com/minigame/en/dev/api-backend/open-api/login/auth.code2Session.html
func Code2Session(appID string, secret secrets.Value, code string) Outbound {
	query := url.Values{
		appid.name: {appID}, appSecret: {secret.Reveal()}, jsCode: {code}, grantType: {"authorization_code"},
	}
	return newOutbound(Code2SessionPath, query.Encode(), nil)
}

// Login is a caller's wish for a session, checked.
type Login struct {
	// AppID is the app that the caller names, or "".
	AppID string
	// JSCode is what wx.login gave to the game's client. It is worth a session, once.
	JSCode secrets.Value
}

// DecodeLogin reads the caller's words: those in the query, and those in the body
// unless that is empty. The first rule that is broken is returned as a *FieldError.
func DecodeLogin(query string, body []byte) (Login, error) { return decodeLogin(query, body, nil) }

// DecodeSignedLogin is DecodeLogin for a caller that asks as WeChat is asked, with the app
// secret and a grant_type. It calls changed with the name of each word that it drops.
func DecodeSignedLogin(query string, body []byte, changed func(field, change string)) (Login, error) {
	return decodeLogin(query, bytes.TrimPrefix(body, byteOrderMark), changed)
}

func decodeLogin(query string, body []byte, changed func(field, change string)) (Login, error) {
	var login Login
	values, err := url.ParseQuery(query)
	if err != nil {
		return login, &FieldError{"query", "cannot be read"}
	}
	for _, name := range []string{appid.name, jsCode} {
		for _, value := range values[name] {
			if err := login.set(name, value); err != nil {
				return login, err
			}
		}
		delete(values, name)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if err := stranger("query", name, changed); err != nil {
			return login, err
		}
	}
	if len(body) > 0 {
		if err := login.readBody(body, changed); err != nil {
			return login, err
		}
	}
	if login.JSCode.IsZero() {
		return login, &FieldError{jsCode, "is missing"}
	}
	return login, nil
}

func (l *Login) readBody(body []byte, changed func(field, change string)) error {
	d := jsontext.NewDecoder(bytes.NewReader(body)) // strict: duplicate names and bad UTF-8 are errors
	if d.PeekKind() != '{' {
		if bytes.HasPrefix(body, byteOrderMark) {
			return &FieldError{"body", "must not begin with a byte order mark (EF BB BF)"}
		}
		return &FieldError{"body", "must be a JSON object"}
	}
	if _, err := d.ReadToken(); err != nil {
		return explain(err)
	}
	for d.PeekKind() == '"' {
		token, err := d.ReadToken()
		if err != nil {
			return explain(err)
		}
		name := token.String()
		if name != appid.name && name != jsCode {
			if err := stranger("body", name, changed); err != nil {
				return err
			}
			if err := d.SkipValue(); err != nil {
				return explain(err)
			}
			continue
		}
		value, err := d.ReadValue()
		if err != nil {
			return explain(err)
		}
		if value.Kind() != '"' {
			return &FieldError{name, "must be a string"}
		}
		if err := l.set(name, stringOf(value)); err != nil {
			return err
		}
	}
	if _, err := d.ReadToken(); err != nil { // the object's end
		return explain(err)
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return &FieldError{"body", "must be one JSON object, with nothing after it"}
	}
	return nil
}

// set takes one word of the caller's, which may stand in the query or in the body.
func (l *Login) set(name, value string) error {
	switch {
	case name == appid.name && l.AppID != "", name == jsCode && !l.JSCode.IsZero():
		return &FieldError{name, "appears twice"}
	case name == appid.name:
		if rule := checkID(value); rule != "" {
			return &FieldError{name, rule}
		}
		l.AppID = value
	case len(value) > 512 || !isCode(value):
		return &FieldError{name, "must be 1 to 512 characters of A-Z a-z 0-9 _ - . ~ + / ="}
	default:
		l.JSCode = secrets.NewValue(value)
	}
	return nil
}

// isCode reports whether a js_code is of characters that no one on its way reads as
// something else. WeChat does not say what it is made of; those seen are words.
func isCode(value string) bool {
	return isWord(strings.Map(func(r rune) rune {
		if strings.ContainsRune(".~+/=", r) {
			return '_'
		}
		return r
	}, value))
}

// shortestCode is less than any js_code or key has: what is as long may be one that stands
// where a name should be, and is not repeated.
const shortestCode = 20

// anotherField stands for a name that is not repeated.
const anotherField = "another field"

// stranger refuses what a caller must not or cannot say, or tells changed that it is
// dropped.
func stranger(where, name string, changed func(field, change string)) error {
	isShortWord := isWord(name) && len(name) < shortestCode
	switch {
	case changed != nil && isShortWord:
		changed(name, "dropped")
		return nil
	case changed != nil:
		changed(anotherField, "dropped")
		return nil
	case name == appSecret, name == grantType:
		return &FieldError{name, "must not be sent: the sidecar adds it"}
	case name == sessionKey:
		return &FieldError{name, "must not be sent: the sidecar asks WeChat for it"}
	case isShortWord:
		return &FieldError{name, "is not a field of jscode2session, which has appid and js_code"}
	default:
		return &FieldError{where, "has a field that jscode2session does not have; it has appid and js_code"}
	}
}

// Session is what WeChat answers to a js_code.
type Session struct {
	// Errcode is 0 where the player is logged in.
	Errcode int
	// OpenID and Key are the player's, where he is.
	OpenID string
	Key    secrets.Value
	// Rest is the answer without its session_key, every other member byte for byte.
	Rest []byte
}

var (
	errNoSession = errors.New("the answer is not a JSON object with an openid and a session_key, or an errcode")
	errTelling   = errors.New("the answer has a secret where none should be")
)

// ReadSession reads the answer to Code2Session, strictly: what may be read in two ways
// is no answer, nor is one that holds the session_key, or the app secret that was sent,
// anywhere but where the session_key belongs.
func ReadSession(body []byte, secret secrets.Value) (Session, error) {
	var session Session
	var code error
	holds := false
	session.Rest = body
	err := eachMember(body, func(name []byte, value jsontext.Value) {
		switch string(name) {
		case "errcode":
			session.Errcode, code = strconv.Atoi(string(value))
		case openid.name:
			session.OpenID = stringOf(value)
		case sessionKey:
			session.Key = secrets.NewValue(stringOf(value))
			holds = true
		}
	})
	if err != nil || code != nil {
		return Session{}, errNoSession
	}
	if holds {
		session.Rest = without(body, sessionKey)
	}
	if session.Errcode == 0 && (session.Key.IsZero() || checkID(session.OpenID) != "") {
		return Session{}, errNoSession
	}
	if tells(session.Rest, secret, session.Key) {
		return Session{}, errTelling
	}
	if session.Errcode != 0 {
		session.OpenID, session.Key = "", secrets.Value{}
	}
	return session, nil
}

// SecretRefused reports whether WeChat did not take the app secret. It has not looked at
// the js_code then, which is as good as before.
func (s Session) SecretRefused() bool {
	return TokenError{Errcode: s.Errcode}.Cure() == BySecret && s.Errcode != 0
}

// without returns the JSON object in body, which can be read, without its member called
// name. The commas are written anew, the other members are copied.
func without(body []byte, name string) []byte {
	d := jsontext.NewDecoder(bytes.NewReader(body))
	_, _ = d.ReadToken()
	rest := []byte{'{'}
	for d.PeekKind() == '"' {
		quoted, _ := d.ReadValue()
		mine := stringOf(quoted) == name
		if !mine && len(rest) > 1 {
			rest = append(rest, ',')
		}
		if !mine {
			rest = append(append(rest, quoted...), ':')
		}
		value, _ := d.ReadValue()
		if !mine {
			rest = append(rest, value...)
		}
	}
	return append(rest, '}')
}

// tells reports whether any text in a JSON value, at any depth, holds one of the secrets, or is
// the name of a session_key.
func tells(value []byte, hidden ...secrets.Value) bool {
	d := jsontext.NewDecoder(bytes.NewReader(value))
	for {
		token, err := d.ReadToken()
		if err != nil {
			return !errors.Is(err, io.EOF)
		}
		if token.Kind() != '"' {
			continue
		}
		text := token.String()
		if text == sessionKey {
			return true
		}
		for _, secret := range hidden {
			if !secret.IsZero() && strings.Contains(text, secret.Reveal()) {
				return true
			}
		}
	}
}

// LoginErrcodes is every errcode whose meaning is documented for a login.
var LoginErrcodes = map[int]string{
	0:     "ok",
	Busy:  "system busy",
	40001: "the app secret is wrong",
	40013: "the appid is wrong",
	40029: "the js_code is wrong or too old",
	40125: "the app secret is wrong",
	40163: "the js_code was used before",
	40164: "this IP address is not on the app's list",
	40226: "the player is a high risk and may not log in",
	40243: "the app secret is frozen",
	41008: "the js_code is missing",
	45011: "too many logins of the player this minute",
	48001: "the app may not use this API",
}
