package simulator

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"midas-sidecar/internal/wechat"
)

// Keys are the secrets that a message may have been signed with, rightly or by
// mistake. Those that are not known are left empty.
type Keys struct {
	Midas, MidasSandbox string
	Session             string // the player's
	OldSession          string // the player's before the last login
	AppSecret           string
	Tokens              []string // access_tokens of the app, old ones too
}

// midas returns the key that the path asks for, and the other one.
func (k Keys) midas(path string) (right, wrong string) {
	e, _ := wechat.EndpointOf(path)
	return k.midasOf(e.Environment)
}

// midasOf returns the key of an environment, and the other one.
func (k Keys) midasOf(env wechat.Environment) (right, wrong string) {
	if env == wechat.Sandbox {
		return k.MidasSandbox, k.Midas
	}
	return k.Midas, k.MidasSandbox
}

// ExplainSig says why a message's sig is wrong, "" where it is right. It tries
// the mistakes that people make and names the one, or the two together, that lead
// to the sig that is there. It quotes no key, token or signature.
func ExplainSig(m Message, keys Keys) string {
	right, _ := keys.midas(m.Path)
	r := recipe{
		text: v1Text, params: m.signed(), path: m.Path, method: "POST",
		keyName: "secret", key: right,
		compare: byName, digest: hex.EncodeToString,
	}
	return r.explain("sig", m.get("sig"), slices.Concat(sigMistakes(m, keys), commonMistakes(m)))
}

// ExplainMPSig says why a message's mp_sig is wrong, as ExplainSig does for sig.
func ExplainMPSig(m Message, keys Keys) string {
	r := recipe{
		text: v1Text, params: m.signedByPlayer(), path: m.Path, method: "POST",
		keyName: "session_key", key: keys.Session,
		compare: byName, digest: hex.EncodeToString,
	}
	return r.explain("mp_sig", m.get("mp_sig"), slices.Concat(mpSigMistakes(m, keys), commonMistakes(m)))
}

// recipe is a way to sign: the documented one until a mistake bends it.
type recipe struct {
	text         func(recipe) string // what is signed
	body         string              // of v2
	params       []Field
	path, method string
	keyName, key string
	macKey       []byte                  // nil: key, as it stands in the text
	compare      func(a, b Field) int    // nil: the body's order
	digest       func(mac []byte) string // how it is written
}

func (r recipe) sign() string {
	macKey := r.macKey
	if macKey == nil {
		macKey = []byte(r.key)
	}
	mac := hmac.New(sha256.New, macKey)
	mac.Write([]byte(r.text(r)))
	return r.digest(mac.Sum(nil))
}

func v1Text(r recipe) string {
	params := slices.Clone(r.params)
	if r.compare != nil {
		slices.SortStableFunc(params, r.compare)
	}
	text := pairs(params) + "&org_loc=" + r.path + "&method=" + r.method
	if r.keyName != "" {
		text += "&" + r.keyName + "=" + r.key
	}
	return text
}

// explain says what leads to the signature that was sent.
func (r recipe) explain(name, sent string, mistakes []mistake) string {
	if same(sent, r.sign()) {
		return ""
	}
	wrong := name + " is wrong: "
	for _, one := range mistakes {
		if bent := one.bend(r); same(sent, bent.sign()) {
			return wrong + "it would be right " + one.made + ": " + one.rule
		}
	}
	for i, one := range mistakes {
		for _, two := range mistakes[i+1:] {
			if bent := two.bend(one.bend(r)); same(sent, bent.sign()) {
				return wrong + "it would be right " + one.made + " and " + two.made + ": " + one.rule + "; " + two.rule
			}
		}
	}
	if ts, ok := r.otherTime(sent); ok {
		return wrong + "it covers ts " + ts + ": whoever changes ts must sign again"
	}
	return wrong + "no usual mistake leads to it: compare the key, and see that nothing changes the body after it is signed"
}

// otherTime looks for a ts near the message's that the signature covers.
func (r recipe) otherTime(sent string) (ts string, found bool) {
	at := slices.IndexFunc(r.params, func(f Field) bool { return f.Name == "ts" })
	if at < 0 {
		return "", false
	}
	before, literal, after := splitTime(r.body)
	said, _ := strconv.ParseInt(r.params[at].Value, 10, 64)
	r.params = slices.Clone(r.params)
	for other := said - 300; other <= said+300; other++ {
		r.params[at].Value = strconv.FormatInt(other, 10)
		if literal != "" {
			r.body = before + r.params[at].Value + after
		}
		if same(sent, r.sign()) {
			return r.params[at].Value, true
		}
	}
	return "", false
}

// with returns the recipe with other params.
func (r recipe) with(params ...Field) recipe {
	r.params = params
	return r
}

// replace returns the recipe with another value of the param called name.
func (r recipe) replace(name, value string) recipe {
	params := slices.Clone(r.params)
	for i := range params {
		if params[i].Name == name {
			params[i].Value = value
		}
	}
	return r.with(params...)
}

// without returns the recipe without the params called names.
func (r recipe) without(names ...string) recipe {
	return r.with(slices.DeleteFunc(slices.Clone(r.params), func(f Field) bool {
		return slices.Contains(names, f.Name)
	})...)
}

// mapped returns the recipe with every value changed by f.
func (r recipe) mapped(f func(string) string) recipe {
	params := slices.Clone(r.params)
	for i := range params {
		params[i].Value = f(params[i].Value)
	}
	return r.with(params...)
}

// shouted compares as sorts do that fold case or ask a language: appid before
// app_remark.
func shouted(a, b Field) int {
	return strings.Compare(strings.ToUpper(a.Name), strings.ToUpper(b.Name))
}
