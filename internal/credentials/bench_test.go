package credentials_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"midas-sidecar/internal/credentials"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/wechat"
)

// everyone is a store with a session_key for every player.
type everyone struct{}

func (everyone) Read(_ context.Context, path string) (secrets.Secret, error) {
	return secrets.Secret{"session_key": secrets.NewValue(fmt.Sprintf("%.24x", path[len(path)-8:]))}, nil
}

// The memory of 100,000 players' session_keys: what stays in the heap, and how much
// larger the process has become.
func BenchmarkSessionMemory(b *testing.B) {
	const players = 100_000
	for b.Loop() {
		heap, resident := memory(b)
		cache := credentials.NewCache(everyone{}, credentials.Options{
			Ages: cacheAges, Sessions: players, Log: discard,
		})
		creds := cache.Of(app, nil)
		for i := range players {
			if _, err := creds.SessionKey(b.Context(), wechat.V1, fmt.Sprintf("odkx20ENSNa2w5y3g_qO%08d", i)); err != nil {
				b.Fatal(err)
			}
		}
		heapNow, residentNow := memory(b)
		b.ReportMetric(float64(heapNow-heap)/players, "heap-B/session")
		b.ReportMetric(float64(residentNow-resident)/1e6, "RSS-MB")
		runtime.KeepAlive(cache)
	}
}

// memory returns the heap in use and the resident memory, in bytes. The latter is
// known on Linux only.
func memory(b *testing.B) (heap, resident int64) {
	b.Helper()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(line, "VmRSS: %d kB", &resident)
	}
	return int64(stats.HeapAlloc), resident * 1024
}
