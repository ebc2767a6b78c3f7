package wechat

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/secrets"
)

func TestAJSCodeGoesToWeChatInAQueryThatNothingPrints(t *testing.T) {
	message := Code2Session("wx1", secrets.NewValue(`s&="+ec`), "c+/=canary")
	require.Equal(t, "/sns/jscode2session", message.Path())
	query, err := url.ParseQuery(message.Query())
	require.NoError(t, err)
	require.Equal(t, url.Values{
		"appid": {"wx1"}, "secret": {`s&="+ec`}, "js_code": {"c+/=canary"}, "grant_type": {"authorization_code"},
	}, query)
	require.Empty(t, message.Body())
	require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", message, message, message, message), "canary")
}

func TestALoginIsReadFromTheQueryOrTheBodyOrBoth(t *testing.T) {
	for _, c := range []struct{ query, body string }{
		{"js_code=code&appid=wx1", ""},
		{"", `{"js_code":"code","appid":"wx1"}`},
		{"appid=wx1", ` {"js_code":"code"} `},
		{"js_code=code", `{"\u0061ppid":"wx1"}`},
	} {
		login, err := DecodeLogin(c.query, []byte(c.body))
		require.NoError(t, err)
		require.Equal(t, Login{"wx1", secrets.NewValue("code")}, login)
	}
	login, err := DecodeLogin("js_code="+strings.Repeat("c", 512), nil)
	require.NoError(t, err)
	require.Empty(t, login.AppID)
}

func TestALoginThatBreaksARuleIsRefusedByNameAndNotQuoted(t *testing.T) {
	for _, c := range []struct{ query, body, want string }{
		{"", "", "js_code: is missing"},
		{"appid=wx1", "", "js_code: is missing"},
		{"", `{}`, "js_code: is missing"},
		{"js_code=", "", "js_code: must be 1 to 512 characters of A-Z a-z 0-9 _ - . ~ + / ="},
		{"js_code=canary+canary", "", "js_code: must be 1 to 512"}, // a blank
		{"js_code=canary%26secret%3Dx", "", "js_code: must be 1 to 512"},
		{"js_code=canary%00", "", "js_code: must be 1 to 512"},
		{"js_code=canary%ff", "", "js_code: must be 1 to 512"},
		{"js_code=%C3%A9", "", "js_code: must be 1 to 512"},
		{"js_code=" + strings.Repeat("c", 513), "", "js_code: must be 1 to 512"},
		{"js_code=canary&js_code=canary", "", "js_code: appears twice"},
		{"js_code=canary", `{"js_code":"canary"}`, "js_code: appears twice"},
		{"", `{"js_code":"canary","js_code":"canary"}`, "js_code: appears twice"},
		{"", `{"js_code":"canary","\u006as_code":"canary"}`, "js_code: appears twice"},
		{"js_code=c&appid=wx1&appid=wx2", "", "appid: appears twice"},
		{"js_code=c&appid=../wx1", "", "appid: must be 1 to 128 characters"},
		{"js_code=c&secret=canary", "", "secret: must not be sent: the sidecar adds it"},
		{"js_code=c&grant_type=authorization_code", "", "grant_type: must not be sent: the sidecar adds it"},
		{"js_code=c&session_key=canary", "", "session_key: must not be sent: the sidecar asks WeChat for it"},
		{"js_code=c&openid=canary", "", "openid: is not a field of jscode2session, which has appid and js_code"},
		{"js_code=c&canary%00=x", "", "query: has a field that jscode2session does not have; it has appid and js_code"},
		{"js_code=c;appid=canary", "", "query: cannot be read"},
		{"js_code=%zz", "", "query: cannot be read"},
		{"", `{"js_code":"c","secret":"canary"}`, "secret: must not be sent: the sidecar adds it"},
		{"", `{"js_code":"c","canary canary":1}`, "body: has a field that jscode2session does not have; it has appid and js_code"},
		{"", `{"js_code":null}`, "js_code: must be a string"},
		{"", `{"js_code":12}`, "js_code: must be a string"},
		{"", `{"js_code":["canary"]}`, "js_code: must be a string"},
		{"", `"canary"`, "body: must be a JSON object"},
		{"", `{"js_code":"canary"`, "body: is not JSON: it ends too early"},
		{"", `{"js_code":"canary"}x`, "body: must be one JSON object, with nothing after it"},
		{"", `{"js_code":"canary",}`, "body: is not JSON"},
		{"", `{"js_code":"canary` + "\xff" + `"}`, "body: must be UTF-8"},
	} {
		_, err := DecodeLogin(c.query, []byte(c.body))
		require.Error(t, err, "%s %s", c.query, c.body)
		var broken *FieldError
		require.ErrorAs(t, err, &broken)
		require.True(t, strings.HasPrefix(err.Error(), c.want), "%s %s: %s", c.query, c.body, err)
		require.NotContains(t, err.Error(), "canary")
	}
}

var sent = secrets.NewValue("app-5ecret")

func TestASessionIsReadAndItsKeyLeftOut(t *testing.T) {
	for body, rest := range map[string]string{
		`{"session_key":"k/1==","openid":"o1"}`:                               `{"openid":"o1"}`,
		`{"openid":"o1","session_key":"k\/1=="}`:                              `{"openid":"o1"}`,
		` { "openid" : "o1" , "\u0073ession_key":"k/1==","unionid":"u \n" } `: `{"openid":"o1","unionid":"u \n"}`,
		`{"openid":"\u006f1","session_key":"k/1==","n":12345678901234567890.10,"x":{"a":[1, 2]},"errcode":0}`: `{"openid":"\u006f1",` +
			`"n":12345678901234567890.10,"x":{"a":[1, 2]},"errcode":0}`,
	} {
		session, err := ReadSession([]byte(body), sent)
		require.NoError(t, err, body)
		require.Equal(t, "o1", session.OpenID)
		require.Equal(t, "k/1==", session.Key.Reveal())
		require.Zero(t, session.Errcode)
		require.Equal(t, rest, string(session.Rest))
		require.NotContains(t, fmt.Sprintf("%+v", session), "k/1")
	}
}

func TestARefusedLoginIsPassedOnByteForByte(t *testing.T) {
	const body = ` {"errcode": 40029, "errmsg": "invalid code, rid: 1-2-3" }`
	session, err := ReadSession([]byte(body), sent)
	require.NoError(t, err)
	require.Equal(t, Session{Errcode: 40029, Rest: []byte(body)}, session)

	session, err = ReadSession([]byte(`{"errcode":40163,"session_key":"k","openid":"o1"}`), sent)
	require.NoError(t, err)
	require.Equal(t, Session{Errcode: 40163, Rest: []byte(`{"errcode":40163,"openid":"o1"}`)}, session, "no session, and no key in any case")
}

func TestAWrongAppSecretIsToldFromAWrongCode(t *testing.T) {
	for code, refused := range map[int]bool{40001: true, 40125: true, 40243: true, 0: false, -1: false, 40029: false, 40163: false, 40226: false, 45011: false, 40013: false} {
		require.Equal(t, refused, Session{Errcode: code}.SecretRefused(), code)
	}
}

func TestWhatIsNoSessionIsUnreadableAndNotQuoted(t *testing.T) {
	for _, body := range []string{
		"", "null", "[]", "canary", `{"openid":"o1"}`, `{"session_key":"canary"}`, `{"openid":"o1","session_key":""}`, `{"openid":"o1","session_key":7}`,
		`{"openid":"../canary","session_key":"canary"}`, `{"openid":"a/b","session_key":"canary"}`, `{"openid":"..","session_key":"canary"}`,
		`{"openid":"o\u00001","session_key":"canary"}`, `{"openid":"","session_key":"canary"}`, `{"openid":"` + strings.Repeat("o", 129) + `","session_key":"canary"}`,
		`{"openid":"{env.HOME}","session_key":"canary"}`, `{"openid":"o1 ","session_key":"canary"}`, `{"openid":7,"session_key":"canary"}`,
		`{"openid":"o1","session_key":"canary","session_key":"canary2"}`, `{"openid":"o1","session_key":"canary","openid":"o2"}`,
		`{"openid":"o1","session_key":"canary"} canary`, `{"openid":"o1","session_key":"canary"`, `{"openid":"o1","session_key":"canary"}{}`,
		`{"openid":"o1","session_key":"canary","errcode":"canary"}`, `{"openid":"o1","session_key":"canary","errcode":0.5}`, `{"errmsg":"canary"}`,
		`{"openid":"o1","session_key":"canary` + "\xff" + `"}`, `{"openid":"o1","session_key":"canary","a":{"b":1,"b":1}}`,
		// A secret where none should be.
		`{"openid":"o1","session_key":"canary","key":"the canary"}`, `{"openid":"o1","session_key":"can/ary","x":[{"y":"can\/ary"}]}`,
		`{"openid":"o1","session_key":"canary","data":{"session_key":"other"}}`, `{"openid":"o1","session_key":"canary","canary":1}`,
		`{"errcode":40029,"errmsg":"secret=app-5ecret"}`, `{"errcode":40029,"errmsg":"app\u002d5ecret"}`,
	} {
		session, err := ReadSession([]byte(body), sent)
		require.Error(t, err, body)
		require.Equal(t, Session{}, session)
		require.NotContains(t, err.Error(), "canary")
		require.NotContains(t, err.Error(), "5ecret")
	}
}

// Whatever is answered: a session_key never stays behind, and what is passed on says
// the same as the answer did otherwise.
func FuzzNoSessionKeyStaysBehind(f *testing.F) {
	for _, seed := range []string{
		`{"session_key":"k/1==","openid":"o1"}`, `{"openid":"o1","session_key":"\u006b\/1==","unionid":"k"}`, `{"errcode":40029,"errmsg":"x"}`,
		`{"errcode":-1,"session_key":{"session_key":[]}}`, `{"":"","session_key":"a","openid":"-"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		session, err := ReadSession(body, sent)
		if err != nil {
			return
		}
		before, after := membersOf(t, body), membersOf(t, session.Rest)
		require.NotContains(t, after, "session_key")
		delete(before, "session_key")
		require.Equal(t, before, after)
		require.False(t, tells(session.Rest, session.Key, sent))
		if session.Errcode == 0 {
			require.Empty(t, checkID(session.OpenID))
			require.False(t, session.Key.IsZero())
		}
	})
}

func membersOf(t *testing.T, body []byte) map[string]string {
	members := map[string]string{}
	require.NoError(t, eachMember(body, func(name []byte, value jsontext.Value) { members[string(name)] = string(value) }))
	return members
}
