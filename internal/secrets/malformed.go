package secrets

import "errors"

// MalformedError says that a field of a secret holds what can never be right. It does
// not show the value.
type MalformedError struct {
	Field string
	Rule  string // that the value breaks, such as "must be printable ASCII"
}

func (e *MalformedError) Error() string { return "field " + e.Field + " " + e.Rule }

// Advice returns what to tell a caller that needs a secret which cannot be had: the
// field, the rule and the remedy where it is malformed, and otherwise the text given.
func Advice(err error, otherwise string) string {
	if e, ok := errors.AsType[*MalformedError](err); ok {
		return e.Field + ": is malformed in the secret store: " + e.Rule + "; store it again as it was given"
	}
	return otherwise
}
