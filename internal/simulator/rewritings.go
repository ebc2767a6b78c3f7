package simulator

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/go-json-experiment/json/jsontext"
)

// The classic of v2: what is signed is not what is sent, because one serialiser wrote
// the one and another the other. What follows are the ways in which the serialisers of
// common languages write the same object.

type (
	spacing  struct{ made, open, colon, comma, end string }
	escaping struct {
		made  string
		quote func(string) string
	}
)

var spacings = []spacing{
	{"without blanks", "{", ":", ",", "}"},
	{"with a blank after : and ,", "{", ": ", ", ", "}"}, // Python
	{"with a blank after :", "{", ": ", ",", "}"},
	{"over several lines", "{\n  ", ": ", ",\n  ", "\n}"},
	{"over several lines", "{\n    ", ": ", ",\n    ", "\n}"},
}

var escapings = []escaping{
	{"", quote},
	{"with <, > and & escaped", func(text string) string { return escapeHTML.Replace(quote(text)) }}, // Go
	{"with all but ASCII escaped", func(text string) string { return escapeRunes(quote(text)) }},     // Python
	{"with all but ASCII and with / escaped", func(text string) string { // PHP
		return strings.ReplaceAll(escapeRunes(quote(text)), "/", `\/`)
	}},
	{"with / escaped", func(text string) string { return strings.ReplaceAll(quote(text), "/", `\/`) }},
}

var escapeHTML = strings.NewReplacer("<", `\u003c`, ">", `\u003e`, "&", `\u0026`)

// quote writes a text that was read from JSON.
func quote(text string) string {
	quoted, _ := jsontext.AppendQuote(nil, text)
	return string(quoted)
}

func escapeRunes(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		}
	}
	return b.String()
}

// rewritings are the mistakes to sign other bytes than those that are sent.
func (m MessageV2) rewritings() []mistake {
	seen := map[string]bool{string(m.Body): true}
	var all []mistake
	add := func(made, text string) {
		if !seen[text] {
			seen[text] = true
			all = append(all, mistake{
				"over the body as it is " + made, "what is signed must be sent byte by byte",
				func(r recipe) recipe { r.body = text; return r },
			})
		}
	}
	add("with a line's end after it", string(m.Body)+"\n")
	add("without what stands around it", strings.TrimSpace(string(m.Body)))
	fields := m.fields()
	sorted := slices.SortedFunc(slices.Values(fields), byName)
	for _, order := range []struct {
		made   string
		fields []Field
	}{{"", fields}, {"sorted by name", sorted}} {
		for _, s := range spacings {
			for _, e := range escapings {
				made := slices.DeleteFunc([]string{s.made, order.made, e.made}, func(s string) bool { return s == "" })
				add("written "+strings.Join(made, ", "), s.write(order.fields, e.quote))
			}
		}
	}
	return all
}

func (s spacing) write(fields []Field, quote func(string) string) string {
	var members []string
	for _, f := range fields {
		value := f.Value
		if f.kind == '"' {
			value = quote(value)
		}
		members = append(members, quote(f.Name)+s.colon+value)
	}
	return s.open + strings.Join(members, s.comma) + s.end
}
