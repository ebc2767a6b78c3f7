package caddymodule

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// latestLog writes to the logs of the config that was started last. What outlives a
// config must not hold on to its logs, which are closed with it.
type latestLog struct {
	current atomic.Pointer[slog.Logger]
}

// follow makes log the one to write to.
func (l *latestLog) follow(log *slog.Logger) { l.current.Store(log) }

// logger returns a logger that always writes to the latest log, and to none before
// there is one.
func (l *latestLog) logger() *slog.Logger {
	return slog.New(latestHandler{l, func(h slog.Handler) slog.Handler { return h }})
}

type latestHandler struct {
	log *latestLog
	// with adds to a handler what was added to this one.
	with func(slog.Handler) slog.Handler
}

func (h latestHandler) handler() slog.Handler {
	if current := h.log.current.Load(); current != nil {
		return h.with(current.Handler())
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
	return latestHandler{h.log, func(to slog.Handler) slog.Handler { return h.with(to).WithAttrs(attrs) }}
}

func (h latestHandler) WithGroup(name string) slog.Handler {
	return latestHandler{h.log, func(to slog.Handler) slog.Handler { return h.with(to).WithGroup(name) }}
}
