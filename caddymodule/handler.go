package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/payment"
	"midas-sidecar/internal/wechat"
)

const defaultMaxBody = 16 << 10

func init() {
	caddy.RegisterModule(Handler{})
}

// Handler takes a game server's unsigned payment calls, signs them and passes them
// to WeChat. It answers for the paths of WeChat's payment APIs, and of its login where
// it is told to; every other request goes to the next handler. The app "midas" must be configured.
type Handler struct {
	// Environment is "official", which refuses calls to sandbox paths, or
	// "sandbox", which sends official paths to the sandbox. Default: as the
	// caller's path says.
	Environment string `json:"environment,omitempty"`

	// Signed says what happens to callers that still sign: "reject" them, "resign"
	// their calls, or "pass" them to the next handler. Default: reject. Where it is
	// "resign", callers are taken as they are: see wechat.DecodeSigned. They also get an
	// access_token from /cgi-bin/token and /cgi-bin/stable_token, which is worth nothing.
	Signed string `json:"signed,omitempty"`

	// APIs are those that may be called, such as pay and cancelpay. Default: all.
	APIs []string `json:"apis,omitempty"`

	// Login reports whether to serve /sns/jscode2session, too: it logs players in and
	// puts their session_keys into the secret store, which must be one that can be
	// written. APIs and MaxAmount are not about it. Default: false.
	Login bool `json:"login,omitempty"`

	// MaxAmount is how many coins one order may move. Default: any number.
	MaxAmount Setting `json:"max_amount,omitempty"`

	// MaxBody is the size above which a request is refused. Default: 16KiB.
	MaxBody Setting `json:"max_body,omitempty"`

	midas     *Midas
	maxAmount int64
	maxBody   int64
	logger    *zap.Logger
}

// The fixed words of the handler.
var (
	environments = []string{string(wechat.Official), string(wechat.Sandbox)}
	signedModes  = []string{"reject", "resign", "pass"}
)

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.midas", New: func() caddy.Module { return new(Handler) }}
}

// Provision finds the app and resolves the settings.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	quietStdLog()
	var err error
	if h.midas, err = theApp(ctx); err != nil {
		return err
	}
	h.midas.summary.serves(h.Environment)
	var values resolver
	if h.maxAmount, err = resolve(values, h.MaxAmount, 0, parseCount); err != nil {
		return fmt.Errorf("max_amount: %w", err)
	}
	if h.maxBody, err = resolve(values, h.MaxBody, defaultMaxBody, parseSize); err != nil {
		return fmt.Errorf("max_body: %w", err)
	}
	return nil
}

// theApp returns the app of the handlers' config.
func theApp(ctx caddy.Context) (*Midas, error) {
	app, err := ctx.App("midas")
	if err != nil {
		return nil, fmt.Errorf("loading the midas app: %w", err)
	}
	return app.(*Midas), nil
}

// Validate checks the fixed words.
func (h *Handler) Validate() error {
	if h.Environment != "" && !slices.Contains(environments, h.Environment) {
		return fmt.Errorf("environment: must be %s, got %q", oneOf(environments), h.Environment)
	}
	if h.Signed != "" && !slices.Contains(signedModes, h.Signed) {
		return fmt.Errorf("signed: must be %s, got %q", oneOf(signedModes), h.Signed)
	}
	if h.APIs != nil && len(h.APIs) == 0 {
		return errors.New("apis: must name at least one, or be left out for all")
	}
	for _, name := range h.APIs {
		if names := apiNames(); !slices.Contains(names, name) {
			return fmt.Errorf("apis: must be of %s, got %q", oneOf(names), name)
		}
	}
	return nil
}

// apiNames are the names of the APIs, of which some are in both families.
func apiNames() []string {
	var names []string
	for _, api := range wechat.APIs {
		if !slices.Contains(names, api.Name) {
			names = append(names, api.Name)
		}
	}
	return names
}

// ServeHTTP answers a payment call, a login, or a caller that signs and wants a token. It
// also answers what nearly has such a path, so that a slip meets no other handler's 200.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	path := r.URL.Path
	if !h.serves(path) {
		path = wechat.CleanPath(path)
	}
	switch {
	case !h.serves(path):
		return next.ServeHTTP(w, r)
	case path == wechat.Code2SessionPath:
		return h.serveLogin(w, r)
	case isTokenPath(path):
		return h.serveToken(w, r, path)
	}
	endpoint, _ := wechat.EndpointOf(path)
	return h.servePayment(w, r, endpoint, next)
}

// serves reports whether the handler answers for the path.
func (h *Handler) serves(path string) bool {
	_, ok := wechat.EndpointOf(path)
	return ok || h.Login && path == wechat.Code2SessionPath || h.resigns() && isTokenPath(path)
}

func (h *Handler) servePayment(w http.ResponseWriter, r *http.Request, endpoint wechat.Endpoint, next caddyhttp.Handler) error {
	began := time.Now()
	call, err := h.read(w, r, endpoint)
	if errors.Is(err, errPass) {
		return next.ServeHTTP(w, r)
	}
	defer h.midas.shared.calls.Enter()()
	var answer outcome.Answer
	if err != nil {
		answer = refusal(err, call)
	} else {
		answer = h.process(r, call)
	}
	h.log(call, answer, time.Since(began))
	countOrder(call, answer)
	h.tell(call, answer)
	publish(r, call.endpoint.API.Name, answer)
	h.write(w, answer)
	return nil
}

// process carries out the order. One that a mistake of ours interrupts has an end that
// nobody knows, and gets its answer and its line in the log all the same.
func (h *Handler) process(r *http.Request, c call) (answer outcome.Answer) {
	quietStdLog()
	defer func() {
		if mistake := recover(); mistake != nil {
			logPanic(h.logger, mistake)
			answer = payment.Interrupted(c.request, errors.New("panic"))
		}
	}()
	return h.midas.processor.Process(r.Context(), c.request, c.game.credentials)
}

// logPanic says what a panic was and where, not its value, which may hold a secret.
func logPanic(log *zap.Logger, mistake any) {
	log.Error("panic", zap.String("type", fmt.Sprintf("%T", mistake)), zap.Stack("stack"))
}

// tell emits the event of an order whose end is unknown.
func (h *Handler) tell(c call, answer outcome.Answer) {
	if answer.Outcome != outcome.Unknown || !c.endpoint.API.MovesCoins {
		return
	}
	data := map[string]any{
		"appid": c.game.appID, "api": c.endpoint.API.Name, "environment": string(c.endpoint.Environment),
		"bill_no": c.request.BillNo(), "attempts": answer.Attempts,
	}
	if answer.Trace.ID != "" {
		data[answer.Trace.Name] = answer.Trace.ID
	}
	h.midas.emit(eventOrderUnknown, data)
}

// call is what is known of a caller's request so far.
type call struct {
	endpoint wechat.Endpoint
	request  wechat.Request
	game     game
}

// refused is an error that is not a *wechat.FieldError.
type refused struct {
	problem outcome.ErrorCode
	status  int // of HTTP, 0 for the problem's own
	rule    string
}

func (e *refused) Error() string { return e.rule }

// refusal answers a request that broke a rule.
func refusal(err error, c call) outcome.Answer {
	detail := outcome.ErrorDetail{Message: err.Error(), BillNo: c.request.BillNo()}
	problem := outcome.InvalidRequest
	if other, ok := errors.AsType[*refused](err); ok {
		problem, detail.Status = other.problem, other.status
	}
	return outcome.NewErrorAnswer(problem, detail)
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
