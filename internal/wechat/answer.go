package wechat

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Answer is what WeChat's answer says. WeChat tells success and failure in the body; the
// HTTP status says nothing.
type Answer struct {
	Errcode int
	// Errmsg is "" where it cannot be read. It may echo what was sent: it is for the
	// caller, not for a log.
	Errmsg string
	// Trace is what WeChat's staff ask for; zero where there is none.
	Trace Trace
}

// Trace names a call in WeChat's own logs.
type Trace struct {
	// Name is "rid" or "traceid".
	Name string
	// ID has 3 to 64 characters of A-Z a-z 0-9 _ -.
	ID string
}

var errUnreadable = errors.New("the answer is not a JSON object with an errcode")

// ReadAnswer reads the body of an answer to a call of api. A body whose errcode can be
// read in two ways, or not at all, says nothing about the order, and is an error.
//
// WeChat's bodies are not always JSON. Three readers take their turn:
//
//   - a strict one, for nearly all;
//   - one that minds neither raw control characters and bytes that are not UTF-8 within
//     strings, which come from texts that were cut, nor a name that is there twice. It
//     follows the whole structure and insists on a single errcode, so that any code counts;
//   - one for a refusal whose errmsg echoes the request with its quotes unescaped. It
//     follows no structure: it believes only a refusal that the table of errcodes has for
//     the api, and nothing that could mean that coins moved.
func ReadAnswer(body []byte, api *API) (Answer, error) {
	a, err := readAnswer(body, eachMember)
	if err != nil {
		a, err = readAnswer(body, eachMemberLeniently)
	}
	if err != nil {
		a, err = readEcho(body, api)
	}
	return a, err
}

// memberReader calls tell with the members of the one JSON object in body. They are good
// until the next one is told.
type memberReader func(body []byte, tell func(name []byte, value jsontext.Value)) error

func readAnswer(body []byte, each memberReader) (Answer, error) {
	var a Answer
	var traceID string
	code, codes := error(nil), 0
	err := each(body, func(name []byte, value jsontext.Value) {
		switch string(name) {
		case "errcode":
			codes++
			a.Errcode, code = strconv.Atoi(string(value))
		case "errmsg":
			a.Errmsg = stringOf(value)
		case "traceid", "trace_id":
			traceID = stringOf(value)
		}
	})
	if err != nil || code != nil || codes != 1 {
		return Answer{}, errUnreadable
	}
	a.Trace = traceIn(traceID, a.Errmsg)
	return a, nil
}

// eachMember is the strict memberReader: a duplicate name, bad UTF-8 or anything else that
// RFC 8259 forbids is an error.
func eachMember(body []byte, tell func(name []byte, value jsontext.Value)) error {
	d := decoders.Get().(*decoder)
	defer d.release()
	d.source.Reset(body)
	d.json.Reset(&d.source)
	return eachMemberOf(d.json, &d.name, tell)
}

// eachMemberLeniently takes strings with raw control characters or bytes that are not
// UTF-8, and names that are there twice. A name with such a byte is no name that is known.
func eachMemberLeniently(body []byte, tell func(name []byte, value jsontext.Value)) error {
	d := jsontext.NewDecoder(bytes.NewReader(withoutControls(body)), jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
	return eachMemberOf(d, new([]byte), tell)
}

// eachMemberOf reads what d decodes, and uses the room of name.
func eachMemberOf(d *jsontext.Decoder, name *[]byte, tell func(name []byte, value jsontext.Value)) error {
	if d.PeekKind() != '{' {
		return errUnreadable
	}
	if _, err := d.ReadToken(); err != nil {
		return errUnreadable
	}
	for d.PeekKind() == '"' {
		quoted, err := d.ReadValue()
		if err != nil {
			return errUnreadable
		}
		*name, _ = jsontext.AppendUnquote((*name)[:0], quoted) // its error is of bad UTF-8, which is replaced
		value, err := d.ReadValue()
		if err != nil {
			return errUnreadable
		}
		tell(*name, value)
	}
	if _, err := d.ReadToken(); err != nil { // the object's end
		return errUnreadable
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return errUnreadable
	}
	return nil
}

// withoutControls returns body with each raw control character inside a string replaced by
// U+007F, which JSON allows there. Outside of strings all stays as it is.
func withoutControls(body []byte) []byte {
	clean := bytes.Clone(body)
	inString, escaped := false, false
	for i, c := range clean {
		switch {
		case !inString:
			inString = c == '"'
		case c < ' ':
			clean[i], escaped = 0x7f, false
		case escaped:
			escaped = false
		default:
			escaped, inString = c == '\\', c != '"'
		}
	}
	return clean
}

// echo is how a refusal begins whose errmsg may hold anything.
var echo = regexp.MustCompile(`^\s*\{\s*"errcode"\s*:\s*(-?[1-9][0-9]{0,8})\s*,\s*"errmsg"\s*:\s*"`)

// readEcho reads the errcode with which the object begins.
func readEcho(body []byte, api *API) (Answer, error) {
	begin := echo.FindSubmatchIndex(body)
	if begin == nil || bytes.Count(body, []byte("errcode")) > 1 || !bytes.HasSuffix(bytes.TrimSpace(body), []byte{'}'}) {
		return Answer{}, errUnreadable
	}
	code, err := strconv.Atoi(string(body[begin[2]:begin[3]]))
	if err != nil || !api.refuses(code) {
		return Answer{}, errUnreadable
	}
	return Answer{Errcode: code, Trace: traceIn("", string(body[begin[1]:]))}, nil
}

// The forms of a trace: no other text gets into a log by its name.
var (
	traceID       = regexp.MustCompile(`^[0-9A-Za-z_-]{3,64}$`)
	traceInErrmsg = regexp.MustCompile(`\b(?:(rid)|trace_?id)[:=] ?([0-9A-Za-z_-]{3,64})\b`)
)

// traceIn returns the trace of an answer, which stands in a member of its own or at the end
// of errmsg.
func traceIn(member, errmsg string) Trace {
	if traceID.MatchString(member) {
		return Trace{"traceid", member}
	}
	if !strings.Contains(errmsg, "id") { // nearly always
		return Trace{}
	}
	all := traceInErrmsg.FindAllStringSubmatch(errmsg, -1)
	if len(all) == 0 {
		return Trace{}
	}
	last := all[len(all)-1] // an echo of what was sent stands before it
	return Trace{cmp.Or(last[1], "traceid"), last[2]}
}

// stringOf returns the text of a JSON string, "" for anything else.
func stringOf(value jsontext.Value) string {
	if value.Kind() != '"' {
		return ""
	}
	text, _ := jsontext.AppendUnquote(nil, value)
	return string(text)
}
