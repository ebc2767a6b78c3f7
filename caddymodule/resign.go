package caddymodule

import (
	"log/slog"
	"net/http"
	"sync"

	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/wechat"
)

// What "signed resign" has beside the payments of callers that sign.

func isTokenPath(path string) bool { return path == wechat.TokenPath || path == wechat.StableTokenPath }

// tokenForCallers is what callers that sign get for an access_token. WeChat does not know
// it, and the sidecar takes none from callers.
const tokenForCallers = `{"access_token":"midas-sidecar-signs-with-a-token-of-its-own","expires_in":7200}`

// serveToken answers a caller that asks for an access_token before it signs, so that its
// SDK needs nothing but another base URL. What it sends, the app secret too, is not read.
func (h *Handler) serveToken(w http.ResponseWriter, r *http.Request, path string) error {
	answer := outcome.Answer{
		Outcome: outcome.NotSent, Status: http.StatusOK, ContentType: "application/json", Body: []byte(tokenForCallers),
	}
	err := checkCaller(r, path)
	if err == nil && r.Method != http.MethodGet && r.Method != http.MethodPost {
		err = &refused{outcome.InvalidRequest, http.StatusMethodNotAllowed, "method: must be GET or POST"}
		w.Header().Set("Allow", "GET, POST")
	}
	if err != nil {
		answer = refusal(err, call{})
	}
	w.Header().Set("Cache-Control", "no-store")
	hurry(w)
	h.write(w, answer)
	return nil
}

// maxResigned is how many fields the log is told of: callers choose their names.
const maxResigned = 1000

// resigned are the fields of callers that sign which were dropped or converted. The log
// has each of them once, by its name.
type resigned struct {
	log *slog.Logger

	mu   sync.Mutex
	told map[resignedField]bool
}

type resignedField struct{ api, field, change string }

func newResigned(log *slog.Logger) *resigned {
	return &resigned{log: log, told: make(map[resignedField]bool)}
}

// noteFor returns what notes the fields of a call of that API.
func (r *resigned) noteFor(api string) func(field, change string) {
	return func(field, change string) {
		f := resignedField{api, field, change}
		r.mu.Lock()
		silent := r.told[f] || len(r.told) >= maxResigned
		if !silent {
			r.told[f] = true
		}
		r.mu.Unlock()
		if !silent {
			r.log.Info("signed resign: a field of a caller is not sent as it is", "api", api, "field", field, "change", change)
		}
	}
}
