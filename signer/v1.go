package signer

import (
	"slices"
	"strings"
)

// Param is one field of a signed body. Value is the text that the body carries:
// a string without its quotes and escapes, a number as it is written.
type Param struct{ Name, Value string }

// V1 is what the two signatures of a v1 call cover.
type V1 struct {
	// Path is the upstream path without query, "sandbox/" included where that
	// environment is called. It is signed as org_loc.
	Path string
	// Params are all fields of the body but sig and mp_sig, in any order.
	Params []Param
}

// AppendSig appends sig, made with the Midas key of the environment that Path
// names.
func (r V1) AppendSig(dst []byte, midasKey *Key) []byte {
	s := signings.Get().(*signing)
	defer s.release()
	key := midasKey.secret()
	s.text = r.AppendSigText(s.text, key.text)
	return key.appendHMAC(dst, s)
}

// AppendMPSig appends mp_sig, made with the player's session_key. It covers the
// access_token that goes into the query and the sig that goes into the body, so
// a call that is sent again with another token needs another mp_sig.
func (r V1) AppendMPSig(dst []byte, sessionKey *Key, accessToken, sig string) []byte {
	s := signings.Get().(*signing)
	defer s.release()
	key := sessionKey.secret()
	s.text = r.AppendMPSigText(s.text, key.text, accessToken, sig)
	return key.appendHMAC(dst, s)
}

// AppendSigText appends the text that sig signs. The key is part of it: pass a
// mask to show the text to a person.
func (r V1) AppendSigText(dst []byte, midasKey string) []byte {
	dst = appendSorted(dst, r.Params)
	return r.appendTail(dst, "secret", midasKey)
}

// AppendMPSigText appends the text that mp_sig signs. The session_key and the
// access_token are part of it: pass masks to show the text to a person.
func (r V1) AppendMPSigText(dst []byte, sessionKey, accessToken, sig string) []byte {
	dst = appendSorted(dst, r.Params, Param{"access_token", accessToken}, Param{"sig", sig})
	return r.appendTail(dst, "session_key", sessionKey)
}

func (r V1) appendTail(dst []byte, keyName, key string) []byte {
	dst = append(dst, "org_loc="...)
	dst = append(dst, r.Path...)
	dst = append(dst, "&method=POST&"...)
	dst = append(dst, keyName...)
	dst = append(dst, '=')
	return append(dst, key...)
}

// appendSorted appends params and more as "k=v&", sorted by name in byte order
// (app_remark before appid). Values stand raw, never URL-encoded.
// Params that come sorted are not copied; more must be sorted.
func appendSorted(dst []byte, params []Param, more ...Param) []byte {
	if !slices.IsSortedFunc(params, byName) {
		params = slices.SortedFunc(slices.Values(params), byName)
	}
	for _, p := range params {
		for len(more) > 0 && more[0].Name < p.Name {
			dst = more[0].append(dst)
			more = more[1:]
		}
		dst = p.append(dst)
	}
	for _, p := range more {
		dst = p.append(dst)
	}
	return dst
}

func byName(a, b Param) int { return strings.Compare(a.Name, b.Name) }

func (p Param) append(dst []byte) []byte {
	dst = append(dst, p.Name...)
	dst = append(dst, '=')
	dst = append(dst, p.Value...)
	return append(dst, '&')
}
