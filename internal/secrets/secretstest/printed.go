// Package secretstest helps tests to find out whether a secret hides itself.
package secretstest

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Printed is all that fmt, slog, zap and encoding/json make of a value.
func Printed(value any) string {
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		_, _ = fmt.Fprintf(&out, verb+"\n", value)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "value", value)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "value", value)
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&out), zap.DebugLevel))
	log.Info("m", zap.Any("any", value), zap.Reflect("reflect", value), zap.Error(fmt.Errorf("with %v", value)))
	text, _ := json.Marshal(value)
	return out.String() + string(text)
}
