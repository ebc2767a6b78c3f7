package simulator

import (
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"

	"midas-sidecar/internal/wechat"
)

// mistake is a wrong way to sign that people have been seen to go, or to report,
// and how to read it: "it would be right {made}: {rule}".
type mistake struct {
	made, rule string
	bend       func(recipe) recipe
}

// keyed is the mistake to sign with another key.
func keyed(key, made, rule string) []mistake {
	if key == "" {
		return nil
	}
	return []mistake{{made, rule, func(r recipe) recipe { r.key = key; return r }}}
}

// sigMistakes are those that can be made with sig alone.
func sigMistakes(m Message, keys Keys) []mistake {
	_, other := keys.midas(m.Path)
	name, rule := "with the sandbox key", "the official path needs midas_key"
	if e, _ := wechat.EndpointOf(m.Path); e.Environment == wechat.Sandbox {
		name, rule = "with the official key", "the sandbox path needs midas_key_sandbox"
	}
	return slices.Concat(
		keyed(other, name, rule),
		keyed(keys.Session, "with the session_key", "sig needs the Midas key of the environment"),
		keyed(keys.AppSecret, "with the AppSecret", "sig needs the Midas key of the environment"),
		[]mistake{
			{"with access_token in the text", "sig does not cover it, mp_sig does", func(r recipe) recipe {
				return r.with(append(slices.Clone(r.params), Field{Name: "access_token", Value: m.AccessToken})...)
			}},
			{"with its key named session_key in the text", "sig ends in &secret= and the Midas key", func(r recipe) recipe {
				r.keyName = "session_key"
				return r
			}},
		},
	)
}

const sortedByName = "access_token and sig are sorted among the fields by name"

// inOrder keeps the body's order.
func inOrder(Field, Field) int { return 0 }

// appending is the mistake to sort nothing, or only the fields without those that mp_sig
// adds, and to put these at the end.
func appending(compare func(a, b Field) int, added ...Field) func(recipe) recipe {
	return func(r recipe) recipe {
		sorted := r.without("access_token", "sig").params
		slices.SortStableFunc(sorted, compare)
		r.compare = nil
		return r.with(append(sorted, added...)...)
	}
}

func (m Message) tokenField() Field { return Field{Name: "access_token", Value: m.AccessToken} }

func (m Message) sigField() Field { return Field{Name: "sig", Value: m.get("sig")} }

// mpSigMistakes are those that can be made with mp_sig alone.
func mpSigMistakes(m Message, keys Keys) []mistake {
	midas, _ := keys.midas(m.Path)
	all := slices.Concat(
		keyed(keys.OldSession, "with the player's earlier session_key", "the player has logged in again since"),
		keyed(midas, "with the Midas key", "mp_sig needs the player's session_key"),
		[]mistake{
			{"with its key named secret in the text", "mp_sig ends in &session_key= and the session_key", func(r recipe) recipe {
				r.keyName = "secret"
				return r
			}},
			{"without access_token in the text", "mp_sig covers the access_token of the query", func(r recipe) recipe {
				return r.without("access_token")
			}},
			{"with the access_token URL-encoded in the text", "every value is signed raw", func(r recipe) recipe {
				return r.replace("access_token", url.QueryEscape(m.AccessToken))
			}},
			{"without sig in the text", "mp_sig covers the sig of the body", func(r recipe) recipe {
				return r.without("sig")
			}},
			{"with sig and access_token after the fields in the body's order", sortedByName, appending(inOrder, m.sigField(), m.tokenField())},
			{"with access_token and sig after the sorted fields", sortedByName, appending(byName, m.tokenField(), m.sigField())},
			{"with sig and access_token after the sorted fields", sortedByName, appending(byName, m.sigField(), m.tokenField())},
			{"with the sig that the body should carry", "mp_sig covers the sig that is sent", func(r recipe) recipe {
				return r.replace("sig", sigOf(m, midas))
			}},
		},
	)
	if raw, err := base64.StdEncoding.DecodeString(keys.Session); err == nil && len(raw) > 0 {
		const made, rule = "with the base64-decoded session_key", "the session_key is used as the text that it is"
		all = append(all,
			mistake{made, rule, func(r recipe) recipe { r.macKey = raw; return r }},
			mistake{made, rule, func(r recipe) recipe { r.key = string(raw); return r }})
	}
	for _, token := range keys.Tokens {
		const made, rule = "with another access_token", "mp_sig covers the access_token of the query: sign again when the token changes"
		all = append(all, mistake{made, rule, func(r recipe) recipe { return r.replace("access_token", token) }})
	}
	return all
}

// commonMistakes are those that can be made with either signature.
func commonMistakes(m Message) []mistake {
	return slices.Concat(pathMistakes(m.Path), fieldMistakes(m), []mistake{
		{"with the method in lower case", "it is POST", func(r recipe) recipe { r.method = "post"; return r }},
		{"with the method GET", "it is POST", func(r recipe) recipe { r.method = "GET"; return r }},
		{"without the key at the end of the text", "the text ends in the key that it is signed with", func(r recipe) recipe { r.keyName = ""; return r }},
		{"with the fields in the body's order", "they are sorted by name", func(r recipe) recipe { r.compare = nil; return r }},
		{"with appid before app_remark", "names are sorted byte by byte, and _ comes before small letters", func(r recipe) recipe { r.compare = shouted; return r }},
		{"with its values URL-encoded", "every value is signed raw", func(r recipe) recipe { return r.mapped(url.QueryEscape) }},
		{"with its values percent-encoded", "every value is signed raw", func(r recipe) recipe { return r.mapped(url.PathEscape) }},
	}, digestMistakes())
}

func digestMistakes() []mistake {
	return []mistake{
		{"if it were lower case", "the hex digits are small letters", func(r recipe) recipe {
			r.digest = func(mac []byte) string { return strings.ToUpper(hex.EncodeToString(mac)) }
			return r
		}},
		{"if it were hex", "it is not written in base64", func(r recipe) recipe { r.digest = base64.StdEncoding.EncodeToString; return r }},
	}
}

// pathMistakes: the classic is to leave sandbox/ out.
// https://developers.weixin.qq.com/community/develop/article/doc/000a08469a0158e87389fdf3b51413
func pathMistakes(path string) []mistake {
	const rule = "org_loc is the path that is called"
	over := func(other, made string) mistake {
		return mistake{"over " + made, rule, func(r recipe) recipe { r.path = other; return r }}
	}
	all := []mistake{
		over("https://api.weixin.qq.com"+path, "the whole URL"),
		over(strings.TrimPrefix(path, "/"), "the path without its first /"),
	}
	e, known := wechat.EndpointOf(path)
	if !known || e.API.Family != wechat.V1 {
		return all
	}
	if e.Environment == wechat.Sandbox {
		all = append(all, over(wechat.At(e.API, wechat.Official).Path, "the path without sandbox/"))
	} else {
		all = append(all, over(wechat.At(e.API, wechat.Sandbox).Path, "the path with sandbox/"))
	}
	for _, api := range wechat.APIs {
		if api.Family == wechat.V1 && api != e.API {
			all = append(all, over(wechat.At(api, e.Environment).Path, "the path of "+api.Name))
		}
	}
	return all
}

// fieldMistakes: a field that is sent and not signed, or signed and not sent.
func fieldMistakes(m Message) []mistake {
	var all []mistake
	e, _ := wechat.EndpointOf(m.Path)
	optional := tables[e.API].optional
	all = append(all, unsigned("the optional fields", optional...))
	for _, f := range m.signed() {
		all = append(all, unsigned(printable(f.Name), f.Name))
	}
	for _, name := range optional {
		if !m.has(name) {
			all = append(all, signedEmpty(name))
		}
	}
	return all
}

func unsigned(what string, names ...string) mistake {
	return mistake{
		"without " + what + " in the text", "every field of the body is signed",
		func(r recipe) recipe { return r.without(names...) },
	}
}

func signedEmpty(name string) mistake {
	return mistake{
		"with the optional field " + name + " signed as empty", "a field that is not sent is not signed",
		func(r recipe) recipe { return r.with(append(slices.Clone(r.params), Field{Name: name})...) },
	}
}
