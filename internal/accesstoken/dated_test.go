package accesstoken

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWhatIsMadeOfADatedLogIsDated(t *testing.T) {
	var text strings.Builder
	until := func() (time.Time, bool) { return time.Unix(0, 0).UTC(), true }
	log := slog.New(dated{slog.NewTextHandler(&text, nil), until})
	log.With("a", 1).Info("hello")
	require.Contains(t, text.String(), "a=1 good_until=1970-01-01T00:00:00.000Z")
	log.WithGroup("g").Info("hello")
	require.Contains(t, text.String(), "g.good_until=1970-01-01T00:00:00.000Z")
}
