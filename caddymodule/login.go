package caddymodule

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap"

	"midas-sidecar/internal/login"
	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/wechat"
)

// loginAPI is what a login is called where payments have the name of an API.
const loginAPI = "jscode2session"

// serveLogin answers GET and POST /sns/jscode2session: it logs a player in and keeps
// the session_key.
func (h *Handler) serveLogin(w http.ResponseWriter, r *http.Request) error {
	began := time.Now()
	defer h.midas.shared.calls.Enter()()
	g, wish, err := h.readLogin(w, r)
	var answer outcome.Answer
	if err != nil {
		hurry(w)
		answer = refusal(err, call{})
	} else {
		answer = h.logIn(r, g, wish)
	}
	h.logLogin(g, answer, time.Since(began))
	countLogin(g, answer)
	publish(r, loginAPI, answer)
	w.Header().Set("Cache-Control", "no-store") // a GET, whose answer is good once
	if answer.Status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", "GET, POST")
	}
	h.write(w, answer)
	return nil
}

// readLogin reads the caller's words, which may stand in the query or, with POST, in
// the body.
func (h *Handler) readLogin(w http.ResponseWriter, r *http.Request) (g game, wish wechat.Login, err error) {
	var body []byte
	if err := checkCaller(r, wechat.Code2SessionPath); err != nil {
		return g, wish, err
	}
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		return g, wish, &refused{outcome.InvalidRequest, http.StatusMethodNotAllowed, "method: must be GET or POST"}
	case r.Method == http.MethodGet && r.ContentLength != 0:
		return g, wish, &wechat.FieldError{Field: "body", Rule: "must not be sent with GET"}
	case r.ContentLength != 0:
		if body, err = h.body(w, r, wechat.Code2SessionPath); err != nil {
			return g, wish, err
		}
	}
	if wish, err = h.decodeLogin(r.URL.RawQuery, body); err != nil {
		return g, wish, err
	}
	g, err = h.midas.pickByID(wish.AppID)
	return g, wish, err
}

func (h *Handler) decodeLogin(query string, body []byte) (wechat.Login, error) {
	if h.resigns() {
		return wechat.DecodeSignedLogin(query, body, h.midas.shared.resigned.noteFor(loginAPI))
	}
	return wechat.DecodeLogin(query, body)
}

// logIn carries out the login. One that a mistake of ours interrupts has an end that
// nobody knows.
func (h *Handler) logIn(r *http.Request, g game, wish wechat.Login) (answer outcome.Answer) {
	quietStdLog()
	defer func() {
		if mistake := recover(); mistake != nil {
			logPanic(h.logger, mistake)
			answer = login.Interrupted(errors.New("panic"))
		}
	}()
	return h.midas.logins.Process(r.Context(), g.appID, wish, g.credentials)
}

// logLogin writes the one line that every login gets. It holds no secret, no js_code
// and no openid: what is not named here is not in it.
func (h *Handler) logLogin(g game, answer outcome.Answer, took time.Duration) {
	line := h.logger.Check(level(answer), "login")
	if line == nil {
		return
	}
	line.Write(zap.String("appid", g.appID), zap.Inline(endOf(answer, took)))
}

func countLogin(g game, answer outcome.Answer) {
	appID, errcode := g.appID, "other"
	if appID == "" {
		appID = "unknown"
	}
	// 90017 and 90018 are the sidecar's own words, for what it refuses.
	if _, ok := wechat.LoginErrcodes[answer.Errcode]; ok || answer.ErrorCode != "" {
		errcode = strconv.Itoa(answer.Errcode)
	}
	loginsTotal.WithLabelValues(appID, string(answer.Outcome), errcode).Inc()
}
