package simulator

import "slices"

// What follows is what WeChat is said to take, in public code that works and in threads,
// though its pages ask for something else: any content type over a JSON body, numbers as
// text and texts as numbers, the access_token in the body, too, fields that are no
// parameters, and empty optional fields.

// checkLeniently is check for Options.Lenient.
func (t table) checkLeniently(m Message) *reply {
	var plain Message
	for _, f := range m.Fields {
		if !t.knows(f.Name) || f.Value == "" && slices.Contains(t.optional, f.Name) {
			continue
		}
		if f.kind == '"' || f.kind == '0' {
			f.kind = t.kindOf(f.Name)
		}
		plain.Fields = append(plain.Fields, f)
	}
	return t.check(plain)
}

func (t table) knows(name string) bool {
	return slices.Contains(t.required, name) || slices.Contains(t.optional, name) || slices.Contains(t.signatures, name)
}

// kindOf returns what JSON calls the values of a field.
func (t table) kindOf(name string) byte {
	if slices.Contains(counts, name) || choices[name] != nil {
		return '0'
	}
	return '"'
}

// asSigned returns the message without those fields that sig may leave out, if that makes
// sig right: nothing documents whether fields that are no parameters, and empty ones, are
// signed.
func (t table) asSigned(m Message, midasKey string) Message {
	known, filled := m, m
	known.Fields = slices.DeleteFunc(slices.Clone(m.Fields), func(f Field) bool { return !t.knows(f.Name) })
	filled.Fields = slices.DeleteFunc(slices.Clone(known.Fields), func(f Field) bool { return f.Value == "" })
	for _, signed := range []Message{known, filled} {
		if same(m.get("sig"), sigOf(signed, midasKey)) {
			return signed
		}
	}
	return m
}
