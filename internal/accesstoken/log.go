package accesstoken

import (
	"context"
	"log/slog"
	"time"
)

// dated is a log whose lines say until when there is a good token, if there is
// one: so long there is no harm in it that no other can be had.
type dated struct {
	slog.Handler
	goodUntil func() (time.Time, bool)
}

func (d dated) Handle(ctx context.Context, line slog.Record) error {
	if until, ok := d.goodUntil(); ok {
		line.AddAttrs(slog.Time("good_until", until))
	}
	return d.Handler.Handle(ctx, line)
}

func (d dated) WithAttrs(attrs []slog.Attr) slog.Handler {
	return dated{d.Handler.WithAttrs(attrs), d.goodUntil}
}

func (d dated) WithGroup(name string) slog.Handler {
	return dated{d.Handler.WithGroup(name), d.goodUntil}
}

// goodUntil returns when the token that is good now will no longer be.
func (s *Stable) goodUntil() (time.Time, bool) {
	known := s.now.Load()
	return known.expires, known.good(time.Now())
}
