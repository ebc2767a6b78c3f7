package simulator

import (
	"encoding/base64"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"

	"midas-sidecar/internal/wechat"
)

// ExplainPaySig says why a v2 message's pay_sig is wrong, as ExplainSig does for sig.
func ExplainPaySig(m MessageV2, keys Keys) string {
	right, _ := keys.midasOf(m.environment())
	r := m.recipe(pathAndBody, right)
	return r.explain("pay_sig", m.inQuery("pay_sig"), slices.Concat(paySigMistakes(m, keys), m.rewritings(), digestMistakes()))
}

// ExplainSignature says why a v2 message's signature is wrong, as ExplainSig does for
// sig.
func ExplainSignature(m MessageV2, keys Keys) string {
	r := m.recipe(bodyAlone, keys.Session)
	return r.explain("signature", m.inQuery("signature"), slices.Concat(signatureMistakes(m, keys), m.rewritings(), digestMistakes()))
}

func (m MessageV2) recipe(text func(recipe) string, key string) recipe {
	return recipe{
		text: text, body: string(m.Body), params: m.fields(), path: m.Path, method: "POST",
		key: key, compare: byName, digest: hex.EncodeToString,
	}
}

func pathAndBody(r recipe) string { return r.path + "&" + r.body }

func bodyAlone(r recipe) string { return r.body }

// fields returns those of the body, none where it is no object.
func (m MessageV2) fields() []Field {
	fields, _ := parseObject(m.Body)
	return fields
}

func (m MessageV2) environment() wechat.Environment {
	if (Message{Fields: m.fields()}).get("env") == "1" {
		return wechat.Sandbox
	}
	return wechat.Official
}

var timeInBody = regexp.MustCompile(`"ts"\s*:\s*(\d+)`)

// splitTime returns the digits of a body's ts and what stands around them, "" where it
// has none.
func splitTime(body string) (before, digits, after string) {
	at := timeInBody.FindStringSubmatchIndex(body)
	if at == nil {
		return "", "", ""
	}
	return body[:at[2]], body[at[2]:at[3]], body[at[3]:]
}

// over is the mistake to sign another text.
func over(what, rule string, text func(recipe) string) mistake {
	return mistake{"over " + what, rule, func(r recipe) recipe { r.text = text; return r }}
}

// paySigMistakes are those that can be made with pay_sig alone.
func paySigMistakes(m MessageV2, keys Keys) []mistake {
	_, other := keys.midasOf(m.environment())
	name, rule := "with the sandbox key", "env 0 needs midas_key"
	if m.environment() == wechat.Sandbox {
		name, rule = "with the official key", "env 1 needs midas_key_sandbox"
	}
	const ofEnv = "pay_sig needs the Midas key of env"
	all := slices.Concat(
		keyed(other, name, rule),
		[]mistake{{"as the signature", "pay_sig and signature stand in each other's place", func(r recipe) recipe {
			r.key, r.text = keys.Session, bodyAlone
			return r
		}}},
		keyed(keys.Session, "with the session_key", ofEnv),
		keyed(keys.AppSecret, "with the AppSecret", ofEnv),
		m.pathMistakes(),
	)
	const formula = "pay_sig covers the path, & and the body"
	return append(all,
		over("the body alone", formula, bodyAlone),
		over("path and body without & between them", formula, func(r recipe) string { return r.path + r.body }),
		over("what v1 signs", formula, func(r recipe) string { r.keyName = "secret"; return v1Text(r) }))
}

// pathMistakes: the path is signed without its query, and nothing stands for it.
func (m MessageV2) pathMistakes() []mistake {
	const rule = "pay_sig covers the path that is called, without query"
	path := func(what, path string) mistake {
		return mistake{"over " + what, rule, func(r recipe) recipe { r.path = path; return r }}
	}
	all := []mistake{
		path("the whole URL", "https://api.weixin.qq.com"+m.Path),
		path("the path without its first /", strings.TrimPrefix(m.Path, "/")),
	}
	for at, c := range m.Query + "&" {
		if c == '&' && at > 0 { // the query as far as it was known to whoever signed
			all = append(all, path("the path with its query", m.Path+"?"+m.Query[:at]))
		}
	}
	e, known := wechat.EndpointOf(m.Path)
	if !known || e.API.Family != wechat.V2 {
		return all
	}
	for _, api := range wechat.APIs {
		switch {
		case api == e.API:
			all = append(all, path("the name of the API", api.Name))
		case api.Family == wechat.V2:
			all = append(all, path("the path of "+api.Name, wechat.At(api, wechat.Official).Path))
		case api.Name == e.API.Name:
			all = append(all, path("the path of v1", wechat.At(api, m.environment()).Path))
		}
	}
	return all
}

// signatureMistakes are those that can be made with signature alone.
func signatureMistakes(m MessageV2, keys Keys) []mistake {
	midas, _ := keys.midasOf(m.environment())
	const formula = "signature covers the body alone"
	all := slices.Concat(
		keyed(keys.OldSession, "with the player's earlier session_key", "the player has logged in again since"),
		[]mistake{{"as the pay_sig", "pay_sig and signature stand in each other's place", func(r recipe) recipe {
			r.key, r.text = midas, pathAndBody
			return r
		}}},
		keyed(midas, "with the Midas key", "signature needs the player's session_key"),
		[]mistake{
			over("path, & and body", formula, pathAndBody),
			over("nothing", "only the checking of a session signs an empty text", func(recipe) string { return "" }),
			over("what v1 signs", formula, func(r recipe) string { r.keyName = "session_key"; return v1Text(r) }),
		},
	)
	if raw, err := base64.StdEncoding.DecodeString(keys.Session); err == nil && len(raw) > 0 {
		all = append(all, mistake{
			"with the base64-decoded session_key", "the session_key is used as the text that it is",
			func(r recipe) recipe { r.macKey = raw; return r },
		})
	}
	return all
}
