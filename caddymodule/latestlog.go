package caddymodule

import (
	"context"
	"log/slog"
)

// latestLog is a logger that writes to the logs of the config that was started last,
// and to none before there is one. What outlives a config must not hold on to its
// logs, which are closed with it.
func latestLog() *slog.Logger {
	return slog.New(latestHandler{func(h slog.Handler) slog.Handler { return h }})
}

type latestHandler struct {
	// with adds to a handler what was added to this one.
	with func(slog.Handler) slog.Handler
}

func (h latestHandler) handler() slog.Handler {
	if app := running.newest(); app != nil {
		return h.with(app.log.Handler())
	}
	return slog.DiscardHandler
}

func (h latestHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.handler().Enabled(ctx, level)
}

func (h latestHandler) Handle(ctx context.Context, r slog.Record) error {
	return h.handler().Handle(ctx, r)
}

func (h latestHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return latestHandler{func(to slog.Handler) slog.Handler { return h.with(to).WithAttrs(attrs) }}
}

func (h latestHandler) WithGroup(name string) slog.Handler {
	return latestHandler{func(to slog.Handler) slog.Handler { return h.with(to).WithGroup(name) }}
}
