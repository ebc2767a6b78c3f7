package wechat

import (
	"errors"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Answer is what the errcode and errmsg of WeChat's answer say. WeChat tells
// success and failure in the body; the HTTP status says nothing.
type Answer struct {
	Errcode int
	Errmsg  string
}

var errUnreadable = errors.New("the answer is not a JSON object with an errcode")

// ReadAnswer reads errcode and errmsg from the body of an answer. A body that is
// not exactly one JSON object with an integer errcode says nothing about the
// order, and is an error.
func ReadAnswer(body []byte) (Answer, error) {
	var a Answer
	code := errNoErrcode
	err := eachMember(body, func(name string, value jsontext.Value) {
		switch name {
		case "errcode":
			a.Errcode, code = strconv.Atoi(string(value))
		case "errmsg":
			a.Errmsg = stringOf(value)
		}
	})
	if err != nil || code != nil {
		return Answer{}, errUnreadable
	}
	return a, nil
}

// errNoErrcode stands until an errcode was found.
var errNoErrcode = errors.New("no errcode")

// eachMember tells the members of the one JSON object in body. They are good until
// the next one is told.
func eachMember(body []byte, tell func(name string, value jsontext.Value)) error {
	d := decoders.Get().(*decoder)
	defer d.release()
	d.source.Reset(body)
	d.json.Reset(&d.source)
	if d.json.PeekKind() != '{' {
		return errUnreadable
	}
	d.readToken()
	for d.syntax == nil && d.json.PeekKind() == '"' {
		quoted, err := d.json.ReadValue()
		if err != nil {
			return errUnreadable
		}
		d.name, _ = jsontext.AppendUnquote(d.name[:0], quoted)
		value, err := d.json.ReadValue()
		if err != nil {
			return errUnreadable
		}
		tell(string(d.name), value)
	}
	d.readToken() // the object's end
	if _, err := d.json.ReadToken(); d.syntax != nil || !errors.Is(err, io.EOF) {
		return errUnreadable
	}
	return nil
}

// stringOf returns the text of a JSON string, "" for anything else.
func stringOf(value jsontext.Value) string {
	if value.Kind() != '"' {
		return ""
	}
	text, _ := jsontext.AppendUnquote(nil, value)
	return string(text)
}
