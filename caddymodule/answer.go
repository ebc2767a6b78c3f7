package caddymodule

import (
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"midas-sidecar/payment"
)

// write gives the caller its answer.
func (h *Handler) write(w http.ResponseWriter, answer payment.Answer) {
	header := w.Header()
	header.Set("Midas-Outcome", string(answer.Outcome))
	header.Set("Midas-Attempts", strconv.Itoa(answer.Attempts))
	if answer.Replayed {
		header.Set("Midas-Replayed", "true")
	}
	if answer.Problem != "" {
		header.Set("Midas-Error", string(answer.Problem))
	}
	if seconds := answer.RetryAfter(); seconds > 0 {
		header.Set("Retry-After", strconv.Itoa(seconds))
	}
	if answer.Status == http.StatusMethodNotAllowed && header.Get("Allow") == "" {
		header.Set("Allow", http.MethodPost)
	}
	if answer.ContentType != "" {
		header.Set("Content-Type", answer.ContentType)
	}
	header.Set("Content-Length", strconv.Itoa(len(answer.Body)))
	w.WriteHeader(answer.Status)
	// A caller that hung up has no use for an error; the log has the outcome.
	_, _ = w.Write(answer.Body)
}

// publish gives the placeholders {http.midas.outcome}, .errcode, .attempts and .api
// their values, for access logs and headers.
func publish(r *http.Request, api string, answer payment.Answer) {
	replacer, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return
	}
	replacer.Map(func(key string) (any, bool) {
		switch key {
		case "http.midas.outcome":
			return string(answer.Outcome), true
		case "http.midas.errcode":
			return answer.Errcode, true
		case "http.midas.attempts":
			return answer.Attempts, true
		case "http.midas.api":
			return api, true
		}
		return nil, false
	})
}

// log writes the one line that every order gets. It holds no secret: what is not
// named here is not in it.
func (h *Handler) log(c call, answer payment.Answer, took time.Duration) {
	line := h.logger.Check(level(answer), "order")
	if line == nil {
		return
	}
	fields := []zap.Field{
		zap.String("appid", c.game.appID),
		zap.Stringer("api", c.endpoint.API),
		zap.String("environment", string(c.endpoint.Environment)),
		zap.String("bill_no", c.request.BillNo()),
		zap.String("outcome", string(answer.Outcome)),
		zap.Int("errcode", answer.Errcode),
		zap.Int("attempts", answer.Attempts),
		zap.Duration("duration", took),
	}
	if answer.Replayed {
		fields = append(fields, zap.Bool("replayed", true))
	}
	if answer.Problem != "" {
		fields = append(fields, zap.String("error", string(answer.Problem)))
	}
	if answer.Cause != nil {
		fields = append(fields, zap.NamedError("cause", answer.Cause))
	}
	line.Write(fields...)
}

// level is higher where somebody has to do something.
func level(answer payment.Answer) zapcore.Level {
	switch {
	case answer.Outcome == payment.Unknown:
		return zapcore.ErrorLevel
	case answer.Status >= http.StatusInternalServerError:
		return zapcore.WarnLevel
	default:
		return zapcore.InfoLevel
	}
}
