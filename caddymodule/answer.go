package caddymodule

import (
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/wechat"
)

// write gives the caller its answer.
func (h *Handler) write(w http.ResponseWriter, answer outcome.Answer) {
	header := w.Header()
	header.Set("Midas-Outcome", string(answer.Outcome))
	header.Set("Midas-Attempts", strconv.Itoa(answer.Attempts))
	if answer.Replayed {
		header.Set("Midas-Replayed", "true")
	}
	if answer.ErrorCode != "" {
		header.Set("Midas-Error", string(answer.ErrorCode))
	}
	if seconds := answer.RetryAfter(); seconds > 0 {
		header.Set("Retry-After", strconv.Itoa(seconds))
	}
	if answer.Status == http.StatusMethodNotAllowed && header.Get("Allow") == "" {
		header.Set("Allow", http.MethodPost)
	}
	if answer.Status == http.StatusUnauthorized {
		// RFC 9110, 15.5.2. Java's HttpClient throws without it.
		header.Set("WWW-Authenticate", "Midas-Session")
	}
	if answer.ContentType != "" {
		header.Set("Content-Type", answer.ContentType)
	}
	header.Set("Content-Length", strconv.Itoa(len(answer.Body)))
	w.WriteHeader(answer.Status)
	// A caller that hung up has no use for an error; the log has the outcome.
	_, _ = w.Write(answer.Body)
	if caddy.Exiting() {
		// The process may end once the last call has left, before the server sends what
		// it still holds back.
		_ = http.NewResponseController(w).Flush()
	}
}

// publish gives the placeholders {http.midas.outcome}, .errcode, .attempts and .api
// their values, for access logs and headers.
func publish(r *http.Request, api string, answer outcome.Answer) {
	replacer, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return
	}
	// Held by the request, so no more of the order than these.
	outcome, errcode, attempts := answer.Outcome, answer.Errcode, answer.Attempts
	replacer.Map(func(key string) (any, bool) {
		switch key {
		case "http.midas.outcome":
			return string(outcome), true
		case "http.midas.errcode":
			return errcode, true
		case "http.midas.attempts":
			return attempts, true
		case "http.midas.api":
			return api, true
		}
		return nil, false
	})
}

// log writes the one line that every order gets. It holds no secret: what is not
// named here is not in it.
func (h *Handler) log(c call, answer outcome.Answer, took time.Duration) {
	line := h.logger.Check(level(answer), "order")
	if line == nil {
		return
	}
	line.Write(zap.Inline(orderLine{
		appID: c.game.appID, openID: c.request.OpenID(), zoneID: c.request.ZoneID(), amount: c.request.Amount(), api: c.endpoint.API.Name, environment: string(c.endpoint.Environment), billNo: c.request.BillNo(),
		end: endOf(answer, took),
	}))
}

// orderLine is what the line of an order says.
type orderLine struct {
	appID, openID, zoneID, api, environment, billNo string
	amount                                          int64
	end
}

// MarshalLogObject names the fields.
func (l orderLine) MarshalLogObject(to zapcore.ObjectEncoder) error {
	to.AddString("appid", l.appID)
	if l.openID != "" {
		to.AddString("openid", l.openID)
	}
	if l.zoneID != "" {
		to.AddString("zone_id", l.zoneID)
	}
	to.AddString("api", l.api)
	to.AddString("environment", l.environment)
	to.AddString("bill_no", l.billNo)
	if l.amount > 0 {
		to.AddInt64("amount", l.amount)
	}
	return l.end.MarshalLogObject(to)
}

// end is what the line of an order or a login says of how it ended.
type end struct {
	outcome           outcome.Outcome
	errcode, attempts int
	took              time.Duration
	replayed          bool
	problem           outcome.ErrorCode
	trace             wechat.Trace
	cause             error
}

func endOf(answer outcome.Answer, took time.Duration) end {
	return end{answer.Outcome, answer.Errcode, answer.Attempts, took, answer.Replayed, answer.ErrorCode, answer.Trace, answer.Cause}
}

// MarshalLogObject names the fields.
func (e end) MarshalLogObject(to zapcore.ObjectEncoder) error {
	to.AddString("outcome", string(e.outcome))
	to.AddInt("errcode", e.errcode)
	to.AddInt("attempts", e.attempts)
	to.AddDuration("duration", e.took)
	if e.replayed {
		to.AddBool("replayed", true)
	}
	if e.problem != "" {
		to.AddString("error", string(e.problem))
	}
	if e.trace.ID != "" {
		to.AddString(e.trace.Name, e.trace.ID)
	}
	if e.cause != nil {
		to.AddString("cause", e.cause.Error())
	}
	return nil
}

// level is higher where somebody has to do something.
func level(answer outcome.Answer) zapcore.Level {
	switch {
	case answer.Outcome == outcome.Unknown:
		return zapcore.ErrorLevel
	case answer.Status >= http.StatusInternalServerError:
		return zapcore.WarnLevel
	default:
		return zapcore.InfoLevel
	}
}
