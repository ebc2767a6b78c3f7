package secrets_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"midas-sidecar/internal/secrets"
)

// shapes are the ways in which a secret may lie in what is printed.
func shapes(v secrets.Value) map[string]any {
	type open struct{ Value secrets.Value }
	type closed struct{ value secrets.Value }
	return map[string]any{
		"alone":                         v,
		"behind a pointer":              &v,
		"in an exported field":          open{v},
		"in an unexported field":        closed{v},
		"in a pointer's field":          &closed{v},
		"in nested unexported fields":   struct{ in []closed }{[]closed{{v}}},
		"in a slice":                    []secrets.Value{v},
		"in a map":                      secrets.Secret{"key": v},
		"in an unexported field's map":  struct{ in secrets.Secret }{secrets.Secret{"key": v}},
		"as a map's key":                map[secrets.Value]int{v: 1},
		"as any":                        []any{v},
		"in an error":                   fmt.Errorf("signing with %v: %w", v, errors.New("no")),
		"in an error with wrong verb":   fmt.Errorf("signing with %d", v),
		"in an error by its Go syntax":  fmt.Errorf("signing with %#v", open{v}),
		"in an error, as a closed type": fmt.Errorf("signing with %+v", &closed{v}),
	}
}

func TestNoVerbOfFmtShowsASecret(t *testing.T) {
	for name, shape := range shapes(secrets.NewValue(canary)) {
		t.Run(name, func(t *testing.T) {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%c", "%U", "%t", "%p", "%T", "%e", "%b", "%100v", "%.3s", "%z"} {
				hides(t, fmt.Sprintf(verb, shape))
			}
			hides(t, fmt.Sprint(shape), fmt.Sprintln(shape))
		})
	}
}

func TestNoLogAndNoEncoderShowsASecret(t *testing.T) {
	for name, shape := range shapes(secrets.NewValue(canary)) {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			slog.New(slog.NewTextHandler(&out, nil)).Info("m", "s", shape)
			slog.New(slog.NewJSONHandler(&out, nil)).With("s", shape).Info("m", slog.Group("g", "s", shape))
			for _, encoder := range []zapcore.Encoder{
				zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()),
				zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig()),
			} {
				log := zap.New(zapcore.NewCore(encoder, zapcore.AddSync(&out), zap.DebugLevel))
				log.Info("m", zap.Any("s", shape), zap.Reflect("r", shape))
				log.Sugar().Infof("%v %+v", shape, shape)
			}
			text, _ := json.Marshal(shape)
			markup, _ := xml.Marshal(shape)
			hides(t, out.String(), string(text), string(markup))
		})
	}
}

func hides(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		for _, form := range []string{"canary", "5ecret", fmt.Sprintf("%x", "canary"), fmt.Sprintf("%X", "canary"), fmt.Sprintf("% x", "canary"), fmt.Sprintf("%d", []byte("canary"))} {
			require.NotContains(t, text, form)
		}
	}
}

func TestASecretShowsOnlyThatItIsThere(t *testing.T) {
	require.Equal(t, "REDACTED", fmt.Sprint(secrets.NewValue(canary)))
	require.Empty(t, fmt.Sprint(secrets.NewValue("")))
}

func TestOnlyRevealGivesTheSecret(t *testing.T) {
	require.Equal(t, canary, secrets.NewValue(canary).Reveal())
	require.Empty(t, secrets.Value{}.Reveal())
}

func TestSecretsAreEqualIfTheirTextsAre(t *testing.T) {
	a, same := secrets.NewValue("a"), secrets.NewValue("a")
	require.Equal(t, a, same)
	require.NotEqual(t, secrets.NewValue("a"), secrets.NewValue("b"))
	require.True(t, secrets.NewValue("").IsZero())
	require.False(t, secrets.NewValue("a").IsZero())
}
