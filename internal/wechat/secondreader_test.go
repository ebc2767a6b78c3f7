package wechat_test

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf16"
)

// secondReader reads the errcode of an answer in another way than the product does: byte
// by byte, without a JSON library. It takes any byte within a string.
type secondReader struct {
	rest  string
	codes []string // the values of the outermost errcodes
}

var errNotAnObject = errors.New("not one JSON object with one integer errcode")

// readSecond returns the only errcode of the only object in body.
func readSecond(body string) (code int, err error) {
	defer func() {
		if recover() != nil {
			err = errNotAnObject
		}
	}()
	r := &secondReader{rest: body}
	r.space()
	r.object(0)
	r.space()
	if r.rest != "" || len(r.codes) != 1 {
		return 0, errNotAnObject
	}
	return strconv.Atoi(r.codes[0])
}

func (r *secondReader) space() { r.rest = strings.TrimLeft(r.rest, " \t\r\n") }

// take takes that text, or panics.
func (r *secondReader) take(text string) {
	if !strings.HasPrefix(r.rest, text) {
		panic("expected " + text)
	}
	r.rest = r.rest[len(text):]
}

func (r *secondReader) next() byte { return r.rest[0] }

func (r *secondReader) object(depth int) {
	r.take("{")
	r.space()
	for first := true; r.next() != '}'; first = false {
		if !first {
			r.take(",")
			r.space()
		}
		name := r.text()
		r.space()
		r.take(":")
		r.space()
		before := r.rest
		r.value(depth + 1)
		if depth == 0 && name == "errcode" {
			r.codes = append(r.codes, before[:len(before)-len(r.rest)])
		}
		r.space()
	}
	r.take("}")
}

func (r *secondReader) array(depth int) {
	r.take("[")
	r.space()
	for first := true; r.next() != ']'; first = false {
		if !first {
			r.take(",")
			r.space()
		}
		r.value(depth + 1)
		r.space()
	}
	r.take("]")
}

func (r *secondReader) value(depth int) {
	switch c := r.next(); {
	case c == '{':
		r.object(depth)
	case c == '[':
		r.array(depth)
	case c == '"':
		r.text()
	case c == 't':
		r.take("true")
	case c == 'f':
		r.take("false")
	case c == 'n':
		r.take("null")
	default:
		r.number()
	}
}

func (r *secondReader) number() {
	if r.next() == '-' {
		r.take("-")
	}
	if r.next() == '0' {
		r.take("0")
	} else {
		r.digits()
	}
	if strings.HasPrefix(r.rest, ".") {
		r.take(".")
		r.digits()
	}
	if r.rest != "" && (r.next() == 'e' || r.next() == 'E') {
		r.rest = r.rest[1:]
		if r.next() == '+' || r.next() == '-' {
			r.rest = r.rest[1:]
		}
		r.digits()
	}
}

func (r *secondReader) digits() {
	after := strings.TrimLeft(r.rest, "0123456789")
	if len(after) == len(r.rest) {
		panic("expected a digit")
	}
	r.rest = after
}

// text takes a string and returns what it says.
func (r *secondReader) text() string {
	r.take(`"`)
	var said strings.Builder
	for r.next() != '"' {
		if r.next() != '\\' {
			said.WriteByte(r.next())
			r.rest = r.rest[1:]
			continue
		}
		r.take(`\`)
		c := r.next()
		r.rest = r.rest[1:]
		if c == 'u' {
			said.WriteRune(r.unicode())
			continue
		}
		at := strings.IndexByte(`"\/bfnrt`, c)
		said.WriteByte("\"\\/\b\f\n\r\t"[at])
	}
	r.take(`"`)
	return said.String()
}

func (r *secondReader) unicode() rune {
	n, err := strconv.ParseUint(r.rest[:4], 16, 16)
	if err != nil {
		panic(err)
	}
	r.rest = r.rest[4:]
	unit := rune(n)
	if utf16.IsSurrogate(unit) && strings.HasPrefix(r.rest, `\u`) && len(r.rest) >= 6 {
		if low, err := strconv.ParseUint(r.rest[2:6], 16, 16); err == nil {
			if both := utf16.DecodeRune(unit, rune(low)); both != '\uFFFD' {
				r.rest = r.rest[6:]
				return both
			}
		}
	}
	return unit
}
