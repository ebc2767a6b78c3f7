package secrets

import (
	"fmt"
	"io"
	"log/slog"
	"unique"
)

// hidden is what a secret shows of itself.
const hidden = "REDACTED"

// Value is a secret text. Printed, logged or marshalled it shows "REDACTED"
// (and "" where it is empty, so that a missing secret can be told); only Reveal
// gives the text. Two Values are == if their texts are.
type Value struct {
	// A handle and not the text: fmt asks no method of a Value in another
	// struct's unexported field and prints what it is made of, here an address.
	text unique.Handle[string]
}

// NewValue makes a secret of text.
func NewValue(text string) Value {
	if text == "" {
		return Value{}
	}
	return Value{unique.Make(text)}
}

// Reveal returns the secret itself: for signing and sending, never for printing.
func (v Value) Reveal() string {
	if v.IsZero() {
		return ""
	}
	return v.text.Value()
}

// IsZero reports whether there is no secret.
func (v Value) IsZero() bool { return v == Value{} }

func (v Value) String() string {
	if v.IsZero() {
		return ""
	}
	return hidden
}

// Format hides the secret from every verb of fmt, %#v and %x included.
func (v Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// LogValue hides the secret from log/slog.
func (v Value) LogValue() slog.Value { return slog.StringValue(v.String()) }

// MarshalText hides the secret from JSON, XML and whatever else asks for text.
func (v Value) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

var (
	_ fmt.Stringer   = Value{}
	_ fmt.Formatter  = Value{}
	_ slog.LogValuer = Value{}
)
