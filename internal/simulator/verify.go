package simulator

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"
)

// What follows are the signatures of WeChat's tutorials, written down a second time
// and as plainly as can be. It must not use midas-sidecar/signer: a mistake in
// the one that signs would then be one in the one that verifies.
//
// v1: https://developers.weixin.qq.com/minigame/en/dev/tutorial/open-ability/midas-signature.html
// v2: https://developers.weixin.qq.com/minigame/introduction/commercialization/virtual-payment/signature.html

// Message is what the signatures of a v1 call cover, as it arrived.
type Message struct {
	Path        string  // without the query
	AccessToken string  // from the query
	Fields      []Field // of the body, in its order, sig and mp_sig included
}

// Field is one field of a body. Value is the text of a string, without quotes and
// escapes, or the digits of a number as they were written.
type Field struct {
	Name, Value string

	kind byte // what JSON calls it: '"', '0', 't', 'f', 'n', '{', '['
}

// get returns the value of the field called name, "" where there is none.
func (m Message) get(name string) string {
	for _, f := range m.Fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

func (m Message) has(name string) bool {
	return slices.ContainsFunc(m.Fields, func(f Field) bool { return f.Name == name })
}

// signed returns the fields that sig covers.
func (m Message) signed() []Field {
	var fields []Field
	for _, f := range m.Fields {
		if f.Name != "sig" && f.Name != "mp_sig" {
			fields = append(fields, f)
		}
	}
	return fields
}

// signedByPlayer returns the fields that mp_sig covers.
func (m Message) signedByPlayer() []Field {
	return append(m.signed(),
		Field{Name: "access_token", Value: m.AccessToken},
		Field{Name: "sig", Value: m.get("sig")})
}

func sigOf(m Message, midasKey string) string {
	text := sortedPairs(m.signed()) + "&org_loc=" + m.Path + "&method=POST&secret=" + midasKey
	return hexHMAC(text, midasKey)
}

func mpSigOf(m Message, sessionKey string) string {
	text := sortedPairs(m.signedByPlayer()) + "&org_loc=" + m.Path + "&method=POST&session_key=" + sessionKey
	return hexHMAC(text, sessionKey)
}

// sortedPairs joins "name=value" with "&", sorted by name byte by byte.
func sortedPairs(fields []Field) string {
	fields = slices.Clone(fields)
	slices.SortFunc(fields, byName)
	return pairs(fields)
}

func byName(a, b Field) int { return strings.Compare(a.Name, b.Name) }

func pairs(fields []Field) string {
	var texts []string
	for _, f := range fields {
		texts = append(texts, f.Name+"="+f.Value)
	}
	return strings.Join(texts, "&")
}

// MessageV2 is what the signatures of a v2 call cover, as it arrived, and they.
type MessageV2 struct {
	Path  string // without the query
	Query string // as it stands in the URL, with access_token, signature and pay_sig
	Body  []byte // byte by byte
}

func (m MessageV2) inQuery(name string) string {
	query, _ := url.ParseQuery(m.Query)
	return query.Get(name)
}

func paySigOf(m MessageV2, midasKey string) string {
	return hexHMAC(m.Path+"&"+string(m.Body), midasKey)
}

func signatureOf(m MessageV2, sessionKey string) string {
	return hexHMAC(string(m.Body), sessionKey)
}

func hexHMAC(text, key string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

func same(got, want string) bool { return hmac.Equal([]byte(got), []byte(want)) }
