package wechat

import (
	"bytes"
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
	members, err := readObject(body)
	if err != nil {
		return Answer{}, err
	}
	code, err := errcodeOf(members)
	if err != nil {
		return Answer{}, err
	}
	return Answer{Errcode: code, Errmsg: stringOf(members["errmsg"])}, nil
}

// errcodeOf returns the errcode among the members of an answer.
func errcodeOf(members map[string]jsontext.Value) (int, error) {
	code, err := strconv.Atoi(string(members["errcode"]))
	if err != nil {
		return 0, errUnreadable
	}
	return code, nil
}

// readObject returns the members of the one JSON object in body, unparsed.
func readObject(body []byte) (map[string]jsontext.Value, error) {
	d := jsontext.NewDecoder(bytes.NewReader(body))
	if d.PeekKind() != '{' {
		return nil, errUnreadable
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, errUnreadable
	}
	members := make(map[string]jsontext.Value)
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, errUnreadable
		}
		key := name.String()
		value, err := d.ReadValue()
		if err != nil {
			return nil, errUnreadable
		}
		members[key] = value.Clone()
	}
	if _, err := d.ReadToken(); err != nil { // the object's end
		return nil, errUnreadable
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errUnreadable
	}
	return members, nil
}

// stringOf returns the text of a JSON string, "" for anything else.
func stringOf(value jsontext.Value) string {
	if value.Kind() != '"' {
		return ""
	}
	text, _ := jsontext.AppendUnquote(nil, value)
	return string(text)
}
