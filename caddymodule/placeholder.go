package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/dustin/go-humanize"
)

// Setting is a duration, size or number, or a placeholder that stands for one. In
// JSON it may be written as a string or as a number (a duration's nanoseconds, a
// size's bytes).
type Setting string

// UnmarshalJSON reads a string or a number. One that is there and empty was to say
// something: it must not be taken for the default, which of a limit is none.
func (s *Setting) UnmarshalJSON(text []byte) error {
	var number json.Number
	if err := json.Unmarshal(text, &number); err == nil {
		*s = Setting(number)
	} else if err := json.Unmarshal(text, (*string)(s)); err != nil {
		return err
	}
	if *s == "" {
		return errors.New("must not be empty")
	}
	return nil
}

// resolver replaces placeholders: Caddy's global ones and, by name, its own.
type resolver map[string]string

// with returns a resolver that also knows {name}.
func (r resolver) with(name, value string) resolver {
	more := resolver{name: value}
	maps.Copy(more, r)
	return more
}

// text replaces the placeholders in a value. One that is unknown or empty is an
// error that names it.
func (r resolver) text(value string) (string, error) {
	replacer := caddy.NewReplacer()
	for name, text := range r {
		replacer.Set(name, text)
	}
	return replacer.ReplaceOrErr(value, true, true)
}

// path is text with a default, for paths and fields in the secret store.
func (r resolver) path(value, fallback string) (string, error) {
	if value == "" {
		value = fallback
	}
	text, err := r.text(value)
	return strings.Trim(text, "/"), err
}

// credential returns what gives a credential at every login. A file may be missing
// now and be there then; every other placeholder must be good now.
func (r resolver) credential(value string) (func() (string, error), error) {
	if value == "" {
		return nil, nil
	}
	if _, err := r.text(value); err != nil && !strings.Contains(value, "{file.") {
		return nil, err
	}
	return func() (string, error) { return r.text(value) }, nil
}

// resolve gives a setting its meaning, which is fallback where it is not set.
func resolve[T any](r resolver, s Setting, fallback T, parse func(string) (T, error)) (T, error) {
	if s == "" {
		return fallback, nil
	}
	text, err := r.text(string(s))
	if err != nil {
		return fallback, err
	}
	value, err := parse(text)
	if err != nil && hasPlaceholder(string(s)) {
		// What it stands for is not quoted: it may be a secret, put there by mistake.
		rule, _, _ := strings.Cut(err.Error(), ", got ")
		err = fmt.Errorf("%s, which %s is not", rule, s)
	}
	return value, err
}

func parseDuration(text string) (time.Duration, error) {
	d, err := caddy.ParseDuration(text)
	// A bare number is of nanoseconds, as elsewhere in Caddy's JSON. Whoever writes a
	// small one means something else.
	if nanoseconds, numeric := strconv.ParseInt(text, 10, 64); numeric == nil && nanoseconds >= int64(time.Millisecond) {
		d, err = time.Duration(nanoseconds), nil
	}
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("must be a positive duration such as 3s or 500ms, got %q", text)
	}
	return d, nil
}

// parseDurationOrZero is parseDuration, but for 0, which is none.
func parseDurationOrZero(text string) (time.Duration, error) {
	if text == "0" {
		return 0, nil
	}
	return parseDuration(text)
}

func parseSize(text string) (int64, error) {
	size, err := humanize.ParseBytes(text)
	if err != nil || size == 0 || size > 1<<30 {
		return 0, fmt.Errorf("must be a size up to 1GiB such as 16KiB, got %q", text)
	}
	return int64(size), nil
}

func parseCount(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 {
		return 0, errors.New("must be a positive integer, got " + strconv.Quote(text))
	}
	return n, nil
}

// hasPlaceholder reports whether a value can only be judged once it is resolved.
func hasPlaceholder(value string) bool { return strings.Contains(value, "{") }
