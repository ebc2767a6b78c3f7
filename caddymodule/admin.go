package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	jsonv2 "github.com/go-json-experiment/json"

	"midas-sidecar/internal/secrets"
)

func init() {
	caddy.RegisterModule(adminAPI{})
}

// adminAPI are the routes of Caddy's admin API: GET /midas/status, POST
// /midas/forget and the health checks. They are made before the apps of a config
// and never taken down, so they look for the app at each request.
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.midas", New: func() caddy.Module { return adminAPI{} }}
}

// Routes returns the admin routes.
func (adminAPI) Routes() []caddy.AdminRoute {
	var routes []caddy.AdminRoute
	for path, serve := range map[string]func(*Midas, http.ResponseWriter, *http.Request) error{
		livePath:        (*Midas).health,
		readyPath:       (*Midas).health,
		"/midas/status": (*Midas).status,
		"/midas/forget": (*Midas).forget,
	} {
		routes = append(routes, caddy.AdminRoute{Pattern: path, Handler: caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			app := running.newest()
			if app == nil {
				return refuseAdmin(http.StatusNotFound, errors.New("the midas app is not configured"))
			}
			return serve(app, w, r)
		})})
	}
	return routes
}

func refuseAdmin(status int, err error) error { return caddy.APIError{HTTPStatus: status, Err: err} }

func onlyMethod(r *http.Request, method string) error {
	if r.Method != method {
		return refuseAdmin(http.StatusMethodNotAllowed, fmt.Errorf("method not allowed: must be %s", method))
	}
	return nil
}

// troubleView is why something cannot be had, and since when.
type troubleView struct {
	Since time.Time `json:"since"`
	Error string    `json:"error"`
}

func viewOf(t *secrets.Trouble) *troubleView {
	if t == nil {
		return nil
	}
	return &troubleView{t.Since, t.Failure.Error()}
}

// secretView is what may be shown of a secret.
type secretView struct {
	AgeSeconds *float64     `json:"age_seconds,omitempty"`
	ExpiresAt  *time.Time   `json:"expires_at,omitempty"`
	Trouble    *troubleView `json:"trouble,omitempty"`
}

// status answers GET /midas/status.
func (m *Midas) status(w http.ResponseWriter, r *http.Request) error {
	if err := onlyMethod(r, http.MethodGet); err != nil {
		return err
	}
	view := struct {
		InFlight    int                              `json:"in_flight"`
		Sessions    int                              `json:"sessions"`
		ClockOffset *float64                         `json:"clock_offset_seconds,omitempty"` // how far WeChat's is ahead
		Trouble     *troubleView                     `json:"trouble,omitempty"`              // of the store
		Apps        map[string]map[string]secretView `json:"apps"`                           // by appid and field
	}{
		InFlight: m.shared.calls.Count(), Sessions: m.keys.Sessions(), Trouble: viewOf(m.store.Trouble()),
		Apps: make(map[string]map[string]secretView),
	}
	if offset, ok := m.shared.watch.ClockOffset(); ok {
		seconds := offset.Seconds()
		view.ClockOffset = &seconds
	}
	for appID, game := range m.games {
		view.Apps[appID] = game.view()
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(view)
}

// view shows the secrets that an app has in use.
func (g game) view() map[string]secretView {
	status := g.credentials.Status()
	views := make(map[string]secretView)
	for field, age := range status.Ages {
		seconds := age.Round(time.Millisecond).Seconds()
		views[field] = secretView{AgeSeconds: &seconds}
	}
	if !status.TokenExpires.IsZero() {
		views["access_token"] = secretView{ExpiresAt: &status.TokenExpires}
	}
	for field, refused := range status.Refused {
		if refused != nil {
			view := views[field]
			view.Trouble = viewOf(refused)
			views[field] = view
		}
	}
	for field, trouble := range status.Troubles {
		view := views[field]
		view.Trouble = viewOf(&trouble)
		views[field] = view
	}
	return views
}

// maxForget is more bytes than any request to forget has.
const maxForget = 4 << 10

// forget answers POST /midas/forget: {"appid":"…","openid":"…"} drops a player's
// session_key, {} all secrets and tokens.
func (m *Midas) forget(w http.ResponseWriter, r *http.Request) error {
	if err := onlyMethod(r, http.MethodPost); err != nil {
		return err
	}
	var what struct {
		AppID  string `json:"appid"`
		OpenID string `json:"openid"`
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForget))
	if err == nil {
		err = jsonv2.Unmarshal(body, &what, jsonv2.RejectUnknownMembers(true))
	}
	game, configured := m.games[what.AppID]
	switch {
	case err != nil:
		return refuseAdmin(http.StatusBadRequest, errors.New(`must be {} or {"appid":"…","openid":"…"}`))
	case what.AppID == "" && what.OpenID == "":
		m.keys.Forget()
	case what.AppID == "" || what.OpenID == "":
		return refuseAdmin(http.StatusBadRequest, errors.New("appid and openid: must both be given, or neither"))
	case !configured:
		return refuseAdmin(http.StatusNotFound, errors.New("appid: is not configured"))
	default:
		game.credentials.ForgetSession(what.OpenID)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

var _ caddy.AdminRouter = adminAPI{}
