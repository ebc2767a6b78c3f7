package caddymodule

import (
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// lines are what may stand in a block: each word with what reads the rest of its
// line, and its block if it has one.
type lines map[string]func(*caddyfile.Dispenser) error

// readBlock reads the block that opens here, if one does. A word that is not in
// lines, or stands there twice though it is not among repeatable, fails with file,
// line and the words that are allowed.
func (l lines) readBlock(d *caddyfile.Dispenser, repeatable ...string) error {
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		word := d.Val()
		read, ok := l[word]
		if !ok {
			return d.Errf("unrecognized option %q; allowed are %s", word, strings.Join(slices.Sorted(maps.Keys(l)), ", "))
		}
		if seen[word] && !slices.Contains(repeatable, word) {
			return d.Errf("%s is already specified", word)
		}
		seen[word] = true
		if err := read(d); err != nil {
			return err
		}
	}
	return nil
}

// text reads a line of one argument.
func text(target *string) func(*caddyfile.Dispenser) error {
	return ruled(target, func(string) error { return nil })
}

// ruled reads a line of one argument that keeps a rule, unless a placeholder puts
// that off until the config is loaded.
func ruled(target *string, check func(string) error) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		if !d.AllArgs(target) {
			return d.Errf("%s: takes one argument", name)
		}
		if *target == "" {
			return d.Errf("%s: must not be empty", name)
		}
		if !hasPlaceholder(*target) {
			if err := check(*target); err != nil {
				return d.Errf("%s: %v", name, err)
			}
		}
		return nil
	}
}

// checked reads a line of one argument that parse must accept, unless a
// placeholder puts that off until the config is loaded.
func checked[T any](target *Setting, parse func(string) (T, error)) func(*caddyfile.Dispenser) error {
	return ruled((*string)(target), func(value string) error {
		_, err := parse(value)
		return err
	})
}

// noArgument reads the rest of a line that has nothing but a name.
func noArgument(d *caddyfile.Dispenser) error {
	name := d.Val()
	if d.NextArg() {
		return d.Errf("%s: takes no argument", name) // which may be a secret, put there by mistake
	}
	return nil
}

// flag reads a line of no argument.
func flag(target *bool) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		if err := noArgument(d); err != nil {
			return err
		}
		*target = true
		return nil
	}
}

// word reads a line of one fixed word.
func word(target *string, allowed []string) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		if err := text(target)(d); err != nil {
			return err
		}
		if !slices.Contains(allowed, *target) {
			return d.Errf("%s: must be %s, got %q", name, oneOf(allowed), *target)
		}
		return nil
	}
}

// oneOf lists words for a message: "official or sandbox".
func oneOf(words []string) string {
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
