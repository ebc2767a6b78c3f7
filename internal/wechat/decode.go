package wechat

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// FieldError says which part of a caller's request breaks which rule. It never
// quotes a text that the caller sent, and of numbers only the first digits.
type FieldError struct {
	Field string // a field's name, or "body", "query", "method", …
	Rule  string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Rule }

// Decode reads a caller's unsigned JSON for the endpoint. The first rule that is
// broken is returned as a *FieldError; the Request then holds what could be read
// all the same, so that a refusal can name its bill_no.
//
// What the caller may leave out is still missing: see Complete. Signatures and
// tokens are noted (see CallerSigned) and not kept.
func Decode(e Endpoint, body []byte) (Request, error) { return decode(e, body, nil) }

// DecodeSigned is Decode for a caller that signs for itself, and takes what WeChat takes:
// numbers as text and texts as numbers, fields that the API does not have, a byte order
// mark. It calls changed with the name of each field that it drops or converts. A name that
// could be a secret, at the wrong place, is told as "another field". A field that is nearly
// another one, such as zoneId, is refused where that is missing.
func DecodeSigned(e Endpoint, body []byte, changed func(field, change string)) (Request, error) {
	return decode(e, bytes.TrimPrefix(body, byteOrderMark), changed)
}

var byteOrderMark = []byte("\xef\xbb\xbf")

func decode(e Endpoint, body []byte, changed func(field, change string)) (Request, error) {
	d := decoders.Get().(*decoder)
	defer d.release()
	d.source.Reset(body)
	d.json.Reset(&d.source)
	d.changed = changed

	r := Request{endpoint: e}
	if d.json.PeekKind() != '{' {
		switch {
		case len(bytes.TrimSpace(body)) == 0:
			return r, &FieldError{"body", "must be a JSON object, got nothing"}
		case changed != nil && bytes.IndexByte(body, '=') > 0:
			return r, &FieldError{"body", "must be a JSON object, got a form"}
		case bytes.HasPrefix(body, byteOrderMark):
			return r, &FieldError{"body", "must not begin with a byte order mark (EF BB BF)"}
		}
		return r, &FieldError{"body", "must be a JSON object"}
	}
	d.readToken()
	for d.syntax == nil && d.json.PeekKind() != '}' {
		d.readMember(&r)
	}
	d.readToken()
	d.settleDoubtful(&r)
	r.followBody()
	if _, err := d.json.ReadToken(); d.syntax == nil && !errors.Is(err, io.EOF) {
		d.syntax = &FieldError{"body", "must be one JSON object, with nothing after it"}
	}

	switch {
	case d.syntax != nil:
		return r, d.syntax
	case d.broken != nil:
		return r, d.broken
	}
	return r, r.checkPresence()
}

// decoder is the working space of one Decode.
type decoder struct {
	source bytes.Reader
	json   *jsontext.Decoder // strict: duplicate names and bad UTF-8 are errors
	name   []byte

	// changed is told of fields that are dropped or converted. nil: they are refused.
	changed func(field, change string)

	// doubtful are fields of a caller that signs whose names are nearly those of others.
	doubtful []string

	syntax error // nothing more can be read
	broken error // the first rule broken; reading goes on for the bill_no
}

var decoders = sync.Pool{New: func() any {
	return &decoder{json: jsontext.NewDecoder(bytes.NewReader(nil))}
}}

// release gives the working space back without the caller's data.
func (d *decoder) release() {
	d.source.Reset(nil)
	d.json.Reset(&d.source)
	d.syntax, d.broken, d.changed, d.doubtful = nil, nil, nil, nil
	decoders.Put(d)
}

func (d *decoder) readToken() {
	if d.syntax != nil {
		return
	}
	if _, err := d.json.ReadToken(); err != nil {
		d.syntax = explain(err)
	}
}

// readMember reads one name and its value into r.
func (d *decoder) readMember(r *Request) {
	quoted, err := d.json.ReadValue()
	if err != nil {
		d.syntax = explain(err)
		return
	}
	d.name, _ = jsontext.AppendUnquote(d.name[:0], quoted)

	at := r.endpoint.API.index(string(d.name))
	if at < 0 {
		d.readStranger(r)
		return
	}
	f := &r.endpoint.API.fields[at]
	kind := d.json.PeekKind()
	if kind == '{' || kind == '[' {
		d.refuse(f.name, "must not be nested")
		d.skipValue()
		return
	}
	raw, err := d.json.ReadValue()
	if err != nil {
		d.syntax = explain(err)
		return
	}
	value, rule := f.read(kind, raw)
	if rule != "" && d.changed != nil {
		if value, rule = f.convert(kind, raw); rule == "" {
			d.changed(f.name, "converted")
		}
	}
	if rule == "" && value != "" {
		rule = f.check(value)
	}
	if rule != "" {
		d.refuse(f.name, rule)
		return
	}
	r.values[at] = value
}

// readStranger reads the value of a name that is none of the API's fields.
func (d *decoder) readStranger(r *Request) {
	name, api := string(d.name), r.endpoint.API
	quotable := isWord(name) && len(name) <= 64
	switch at := slices.Index(signatureFields, name); {
	case at >= 0:
		r.noteSignature(signatureFields[at])
		d.drop(name)
	case d.changed != nil && api.similar(name) >= 0:
		d.doubtful = append(d.doubtful, name)
	case d.changed != nil && name == env.name:
		d.readForeignEnv()
		return
	case d.changed != nil:
		if len(name) >= shortestCode || !isWord(name) {
			name = anotherField
		}
		d.drop(name)
	case quotable:
		d.refuse(name, "is not a field of "+api.Name+", which has "+api.names())
	default:
		d.refuse("body", "has a field that "+api.Name+" does not have; it has "+api.names())
	}
	d.skipValue()
}

// readForeignEnv reads the env of a caller that signs for an API whose path names the
// environment. One that says otherwise would be taken for real coins.
func (d *decoder) readForeignEnv() {
	value, err := d.json.ReadValue()
	switch text := strings.Trim(string(value), `"`); {
	case err != nil:
		d.syntax = explain(err)
	case text == "0" || text == "" || text == "null":
		d.drop(env.name)
	default:
		d.refuse(env.name, "is not a field here: the path names the environment")
	}
}

// settleDoubtful drops the fields whose names are nearly those of others that are there,
// and refuses the first of those that are not: it is not what the caller takes it for.
func (d *decoder) settleDoubtful(r *Request) {
	for _, name := range d.doubtful {
		if at := r.endpoint.API.similar(name); r.values[at] != "" {
			d.drop(name)
		} else {
			d.refuse(name, "is not a field of "+r.endpoint.API.Name+", which has "+r.endpoint.API.fields[at].name)
		}
	}
}

// drop says that a field is left out.
func (d *decoder) drop(name string) {
	if d.changed != nil {
		d.changed(name, "dropped")
	}
}

// noteSignature keeps the first of the caller's signatures, in the order of
// signatureFields.
func (r *Request) noteSignature(name string) {
	r.signedWith = FirstSignature(func(other string) bool { return other == name || other == r.signedWith })
}

func (d *decoder) skipValue() {
	if err := d.json.SkipValue(); err != nil {
		d.syntax = explain(err)
	}
}

func (d *decoder) refuse(name, rule string) {
	if d.broken == nil {
		d.broken = &FieldError{name, rule}
	}
}

// read turns a JSON value into the field's text, "" for a value that says
// nothing, or returns the rule that it breaks.
func (f *field) read(kind jsontext.Kind, raw jsontext.Value) (value, rule string) {
	switch {
	case kind == 'n':
		return "", ""
	case f.number && kind == '0':
		return string(raw), ""
	case f.number:
		return "", "must be a number, got " + kindName(kind)
	case kind == '"':
		if bytes.IndexByte(raw, '\\') < 0 {
			return string(raw[1 : len(raw)-1]), ""
		}
		text, _ := jsontext.AppendUnquote(nil, raw) // valid: the decoder read it
		return string(text), ""
	default:
		return "", "must be a string, got " + kindName(kind)
	}
}

// convert is read for digits that are written as text, and the other way round. Any other
// text is no number, and must not be quoted as one.
func (f *field) convert(kind jsontext.Kind, raw jsontext.Value) (value, rule string) {
	switch {
	case f.number && kind == '"' && (isDigits(stringOf(raw)) || stringOf(raw) == ""):
		return stringOf(raw), ""
	case !f.number && kind == '0' && isDigits(string(raw)):
		return string(raw), ""
	}
	return f.read(kind, raw)
}

func kindName(kind jsontext.Kind) string {
	switch kind {
	case '"':
		return "a string"
	case '0':
		return "a number"
	default:
		return "a boolean"
	}
}

// explain turns a decoder's error into one that speaks of the caller's body.
func explain(err error) error {
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		errors.As(err, &syntax)
		if name := syntax.JSONPointer.LastToken(); isWord(name) && len(name) <= 64 {
			return &FieldError{name, "appears twice"}
		}
		return &FieldError{"body", "has a field twice"}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return &FieldError{"body", "is not JSON: it ends too early"}
	case strings.Contains(err.Error(), "invalid UTF-8"), strings.Contains(err.Error(), "surrogate"):
		return &FieldError{"body", "must be UTF-8"}
	default:
		return &FieldError{"body", "is not JSON"}
	}
}
