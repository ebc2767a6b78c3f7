package credentials

import (
	"encoding/base64"
	"fmt"
	"strings"
	"unicode"

	"midas-sidecar/internal/secrets"
	"midas-sidecar/signer"
)

// fieldOf returns a field of a secret, if it can be right. WeChat refuses what was
// signed with a key that went wrong on its way to the store and does not say why, so
// nothing is signed with it.
func fieldOf(s secrets.Secret, name string) (secrets.Value, error) {
	text := s[name].Reveal()
	if text == "" {
		return secrets.Value{}, missing(name)
	}
	if rule := brokenRule(text); rule != "" {
		return secrets.Value{}, &secrets.MalformedError{Field: name, Rule: rule}
	}
	return s[name], nil
}

func missing(name string) error { return fmt.Errorf("has no field %s", name) }

// brokenRule returns the rule that a key breaks, "" where it breaks none.
func brokenRule(text string) string {
	if strings.TrimSpace(text) != text {
		return "must not begin or end with white space"
	}
	odd := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
	if odd < 0 {
		return ""
	}
	rule := "must be printable ASCII"
	// What cannot be seen has to be named, and is no part of a key. It may come from
	// a web page.
	if r := []rune(text[odd:])[0]; !unicode.IsPrint(r) {
		rule += fmt.Sprintf(", has %U", r)
	}
	return rule
}

// parseSession takes a player's session_key: base64 text, which is signed with as it is.
// A secret without one says of a player what a missing secret says: the player has to
// log in.
func parseSession(s secrets.Secret, _ *signer.Key) (*signer.Key, error) {
	text, err := fieldOf(s, sessionKey)
	if s[sessionKey].IsZero() {
		return nil, fmt.Errorf("%w: %w", err, secrets.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	if _, err := base64.StdEncoding.DecodeString(text.Reveal()); err != nil {
		return nil, &secrets.MalformedError{Field: sessionKey, Rule: "must be standard base64 text, neither URL-encoded nor changed by a form"}
	}
	return signer.NewKey(text.Reveal()), nil
}

// parseToken returns a parser of an access_token that lies in the field.
func parseToken(field string) func(secrets.Secret, secrets.Value) (secrets.Value, error) {
	return func(s secrets.Secret, _ secrets.Value) (secrets.Value, error) { return fieldOf(s, field) }
}
