// Package signer computes the signatures of WeChat's virtual payment ("Midas").
// Strings and keys go in, lower-case hex comes out; nothing else is known here.
//
// Two texts of a v1 call are signed with HMAC-SHA256, each keyed with a secret
// that also stands at the end of the text:
//
//	A      = the body's fields as k=v, sorted by name, joined with &
//	sig    = HMAC(midas_key,   A + &org_loc=PATH&method=POST&secret=MIDAS_KEY)
//	B      = as A, with access_token and sig among the fields
//	mp_sig = HMAC(session_key, B + &org_loc=PATH&method=POST&session_key=SESSION_KEY)
//
// Of a v2 call the body is signed byte for byte:
//
//	pay_sig   = HMAC(midas_key,   PATH + & + BODY)
//	signature = HMAC(session_key, BODY)
//
// Sources: https://developers.weixin.qq.com/minigame/en/dev/tutorial/open-ability/midas-signature.html (v1);
// https://developers.weixin.qq.com/minigame/introduction/commercialization/virtual-payment/signature.html (v2).
package signer

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"sync"
)

// Size is the length of a signature: a SHA-256 sum as lower-case hex.
const Size = 2 * sha256.Size

// Key is a Midas key or a session_key, ready to sign: the two SHA-256 states
// that HMAC (RFC 2104) reaches after absorbing the key are computed once. A
// session_key is text here, as WeChat uses it: it is never base64-decoded.
//
// A Key is safe for concurrent use, and shows nothing of itself when printed,
// logged or marshalled.
type Key struct {
	// Behind a func: fmt asks no method of a Key in another struct's unexported
	// field and prints what it is made of, here an address.
	secret func() secret
}

type secret struct {
	text         string
	inner, outer chain
}

// chain is the chaining value of a SHA-256 that has absorbed one block: all that
// differs between the states of two keys. A sidecar keeps the keys of many players.
type chain [sha256.Size]byte

// Where the chaining value stands in a marshalled state of crypto/sha256. What
// follows are the bytes of a block that has begun, and the length so far.
const chainStart = 4

// absorbed is the marshalled state of a SHA-256 that has absorbed one block.
var absorbed = marshal(make([]byte, sha256.BlockSize))

// NewKey returns the key whose text is given.
func NewKey(text string) *Key {
	var block [sha256.BlockSize]byte
	if len(text) > len(block) {
		sum := sha256.Sum256([]byte(text))
		copy(block[:], sum[:])
	} else {
		copy(block[:], text)
	}
	s := secret{text: text, inner: absorb(block, 0x36), outer: absorb(block, 0x5c)}
	return &Key{func() secret { return s }}
}

// absorb returns the chaining value after a key's block, padded as RFC 2104 says.
func absorb(block [sha256.BlockSize]byte, pad byte) chain {
	for i := range block {
		block[i] ^= pad
	}
	return chain(marshal(block[:])[chainStart:][:sha256.Size])
}

// marshal returns the SHA-256 state after a block.
func marshal(block []byte) []byte {
	digest := sha256.New()
	digest.Write(block)
	state, err := digest.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		panic(err) // documented never to fail for SHA-256
	}
	return state
}

// signing is the working space of one signature. States are restored into a
// digest that already exists: a hash.Cloner would allocate a fresh one, three
// times per signature, and a cached state per player would cost three times the
// memory.
type signing struct {
	digest hash.Hash
	state  []byte // as absorbed, but for the chaining value
	text   []byte
	sum    [sha256.Size]byte
}

var signings = sync.Pool{New: func() any {
	return &signing{digest: sha256.New(), state: bytes.Clone(absorbed)}
}}

// appendHMAC appends the hex HMAC-SHA256 of s.text.
func (k secret) appendHMAC(dst []byte, s *signing) []byte {
	s.restore(k.inner)
	s.digest.Write(s.text)
	sum := s.digest.Sum(s.sum[:0])

	s.restore(k.outer)
	s.digest.Write(sum)
	return hex.AppendEncode(dst, s.digest.Sum(s.sum[:0]))
}

func (s *signing) restore(c chain) {
	copy(s.state[chainStart:], c[:])
	if err := s.digest.(encoding.BinaryUnmarshaler).UnmarshalBinary(s.state); err != nil {
		panic("signer: restoring a SHA-256 state that this package made: " + err.Error())
	}
}

// release gives the working space back without the key and the token in it.
func (s *signing) release() {
	clear(s.text)
	s.text = s.text[:0]
	copy(s.state, absorbed)
	s.digest.Reset()
	signings.Put(s)
}

// Equal reports whether both keys sign alike, in a time that tells nothing about how
// far they agree.
func (k *Key) Equal(other *Key) bool {
	return k != nil && other != nil && k.secret().inner.equal(other.secret().inner)
}

func (c chain) equal(other chain) bool { return hmac.Equal(c[:], other[:]) }

const hidden = "REDACTED"

// Format hides the key from every verb of fmt.
func (k *Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// LogValue hides the key from log/slog.
func (k *Key) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText hides the key from encoders.
func (k *Key) MarshalText() ([]byte, error) { return []byte(hidden), nil }

var (
	_ fmt.Formatter          = (*Key)(nil)
	_ slog.LogValuer         = (*Key)(nil)
	_ encoding.TextMarshaler = (*Key)(nil)
)
