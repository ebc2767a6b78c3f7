package caddymodule

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/wechat"
)

// errPass says that the request is the next handler's.
var errPass = errors.New("pass")

// read turns a caller's request into one that may be signed, or says which rule it
// breaks. Rules about the request's form come first, then the caller's words, then
// what this site allows.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, endpoint wechat.Endpoint) (call, error) {
	c := call{endpoint: endpoint}
	body, err := h.body(w, r, endpoint.Path)
	if err != nil {
		return c, err
	}
	c.request, err = h.decode(endpoint, r, body)
	c.endpoint = c.request.Endpoint() // of v2 the body says the environment
	if err != nil {
		return c, err
	}
	if c.request, err = h.allow(c.request); err != nil {
		return c, err
	}
	c.endpoint = c.request.Endpoint()
	if c.game, err = h.midas.pick(c.request); err != nil {
		return c, err
	}
	c.request, err = c.request.Complete(c.game.appID, c.game.offerIDs.of(c.endpoint.API.Family))
	return c, err
}

// moment is how long what is left of a refused request's body may take. A caller on
// this host has sent it by then.
const moment = 50 * time.Millisecond

// body reads the caller's JSON. One that does not come must not keep the process
// from ending, nor its caller from hearing why it is refused: the server reads what
// is left of a body before it answers.
func (h *Handler) body(w http.ResponseWriter, r *http.Request, path string) ([]byte, error) {
	connection := http.NewResponseController(w)
	_ = connection.SetReadDeadline(time.Now().Add(h.midas.processor.Deadline))
	body, err := h.readBody(r, path)
	if err != nil {
		hurry(w)
		return nil, err
	}
	_ = connection.SetReadDeadline(time.Time{})
	return body, nil
}

// hurry bounds how long the server waits for a body that is not read.
func hurry(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(moment))
}

func (h *Handler) readBody(r *http.Request, path string) ([]byte, error) {
	if err := checkCaller(r, path); err != nil {
		return nil, err
	}
	if r.Method != http.MethodPost {
		return nil, &refused{outcome.InvalidRequest, http.StatusMethodNotAllowed, "method: must be POST"}
	}
	tooLarge := func() error {
		return &refused{outcome.InvalidRequest, http.StatusRequestEntityTooLarge, fmt.Sprintf("body: must not be larger than %d bytes", h.maxBody)}
	}
	if r.ContentLength > h.maxBody {
		return nil, tooLarge()
	}
	if !isJSON(r.Header) && !(h.resigns() && mayBeJSON(r.Header)) {
		return nil, &refused{outcome.InvalidRequest, http.StatusUnsupportedMediaType, "content-type: must be application/json in UTF-8"}
	}
	if r.Header.Get("Content-Encoding") != "" {
		return nil, &refused{outcome.InvalidRequest, http.StatusUnsupportedMediaType, "content-encoding: must not be sent"}
	}
	body, err := readBytes(r, h.maxBody+1)
	if err != nil {
		return nil, &wechat.FieldError{Field: "body", Rule: "ended before it was complete"}
	}
	if int64(len(body)) > h.maxBody {
		return nil, tooLarge()
	}
	return body, nil
}

// readBytes reads a body, or as much of it as limit. One that says how long it is needs
// no room to grow.
func readBytes(r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength < 0 {
		return io.ReadAll(io.LimitReader(r.Body, limit))
	}
	body := make([]byte, r.ContentLength)
	_, err := io.ReadFull(r.Body, body)
	return body, err
}

// checkCaller refuses a request that nearly meant path, and one of a page in a browser: a
// game server's has neither of these headers.
func checkCaller(r *http.Request, path string) error {
	if r.URL.Path != path {
		return &refused{problem: outcome.NotFound, rule: "path: is not served; " + path + " is meant"}
	}
	for _, header := range []string{"Origin", "Sec-Fetch-Site"} {
		if _, ok := r.Header[header]; ok {
			return &refused{problem: outcome.Forbidden, rule: header + ": must not be sent: pages in browsers may not call"}
		}
	}
	return nil
}

// isJSON reports whether that is the one type that a request says it has. A page in a
// browser on this host cannot send this type to us unasked.
func isJSON(header http.Header) bool {
	types := header["Content-Type"]
	if len(types) != 1 {
		return false
	}
	if types[0] == "application/json" { // nearly always
		return true
	}
	media, params, err := mime.ParseMediaType(types[0])
	return err == nil && media == "application/json" && isUTF8(params["charset"])
}

func isUTF8(charset string) bool {
	return charset == "" || strings.EqualFold(charset, "utf-8") || strings.EqualFold(charset, "utf8")
}

// mayBeJSON reports whether callers that sign have been seen to give JSON that type, or
// none.
func mayBeJSON(header http.Header) bool {
	types := header["Content-Type"]
	if len(types) == 0 || len(types) == 1 && types[0] == "" {
		return true
	}
	media, params, err := mime.ParseMediaType(types[0])
	charset := params["charset"]
	isText := isUTF8(charset) || strings.EqualFold(charset, "us-ascii") || strings.EqualFold(charset, "iso-8859-1") // what is not UTF-8 in there is refused
	return len(types) == 1 && err == nil && isText &&
		(strings.HasPrefix(media, "text/") || media == "application/json" || media == "application/x-www-form-urlencoded")
}

// decode reads the caller's words and settles what becomes of a caller that
// still signs.
func (h *Handler) decode(endpoint wechat.Endpoint, r *http.Request, body []byte) (wechat.Request, error) {
	request, err := h.decodeBody(endpoint, body)
	inQuery, clean := signedInQuery(r.URL.RawQuery)
	signedWith := cmp.Or(request.CallerSigned(), inQuery)
	switch {
	case signedWith != "" && h.Signed == "pass":
		r.Body = io.NopCloser(bytes.NewReader(body))
		return request, errPass
	case signedWith != "" && !h.resigns():
		return request, &wechat.FieldError{Field: signedWith, Rule: "must not be sent: the sidecar signs"}
	case !clean, r.URL.ForceQuery:
		return request, &wechat.FieldError{Field: "query", Rule: "must be empty"}
	}
	return request, err
}

func (h *Handler) decodeBody(endpoint wechat.Endpoint, body []byte) (wechat.Request, error) {
	if h.resigns() {
		return wechat.DecodeSigned(endpoint, body, h.midas.shared.resigned.noteFor(endpoint.API.Family.Name+" "+endpoint.API.Name))
	}
	return wechat.Decode(endpoint, body)
}

// resigns reports whether callers that sign are taken as they are.
func (h *Handler) resigns() bool { return h.Signed == "resign" }

// signedInQuery names a signature or token in a query, "" if there is none, and reports
// whether there is nothing but what a caller that signs puts there.
func signedInQuery(query string) (found string, clean bool) {
	if query == "" { // nearly always
		return "", true
	}
	values, err := url.ParseQuery(query)
	clean = err == nil
	for name := range values {
		if !wechat.IsSignature(name) && name != "sig_method" {
			clean = false
		}
	}
	found = wechat.FirstSignature(values.Has)
	return found, clean && found != ""
}

// allow applies what this site allows.
func (h *Handler) allow(request wechat.Request) (wechat.Request, error) {
	forbid := func(format string, args ...any) (wechat.Request, error) {
		return request, &refused{problem: outcome.Forbidden, rule: fmt.Sprintf(format, args...)}
	}
	endpoint := request.Endpoint()
	switch {
	case len(h.APIs) > 0 && !slices.Contains(h.APIs, endpoint.API.Name):
		return forbid("api: %s is not allowed here", endpoint.API)
	case h.maxAmount > 0 && request.Amount() > h.maxAmount:
		return forbid("%s: must be at most %d here", request.AmountField(), h.maxAmount)
	case h.Environment == string(wechat.Sandbox):
		return request.To(wechat.Sandbox), nil
	case h.Environment == string(wechat.Official) && endpoint.Environment != wechat.Official:
		return forbid("environment: the %s is not allowed here", endpoint.Environment)
	}
	return request, nil
}

// pick returns the game that the request is for.
func (m *Midas) pick(request wechat.Request) (game, error) {
	offerID, family := request.OfferID(), request.Endpoint().API.Family
	if request.AppID() != "" || offerID == "" || len(m.games) == 1 || family == wechat.V1 {
		return m.pickByID(request.AppID())
	}
	// A v2 call names no app, but the offer_id is an app's own.
	var picked []game
	for _, g := range m.games {
		if g.offerIDs.of(family) == offerID {
			picked = append(picked, g)
		}
	}
	switch len(picked) {
	case 0:
		return game{}, &refused{problem: outcome.UnknownApp, rule: "offer_id: is not configured"}
	case 1:
		return picked[0], nil
	}
	return game{}, &wechat.FieldError{Field: "appid", Rule: "is missing: several apps have this offer_id"}
}

// pickByID returns the game that a caller names, or the only one.
func (m *Midas) pickByID(appID string) (game, error) {
	if appID == "" {
		if len(m.games) == 1 {
			for _, only := range m.games {
				return only, nil
			}
		}
		return game{}, &wechat.FieldError{Field: "appid", Rule: "is missing: several apps are configured"}
	}
	picked, ok := m.games[appID]
	if !ok {
		return game{}, &refused{problem: outcome.UnknownApp, rule: "appid: is not configured"}
	}
	return picked, nil
}
