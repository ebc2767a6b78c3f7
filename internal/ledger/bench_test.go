package ledger

import (
	"fmt"
	"net/http"
	"runtime"
	"testing"
	"time"

	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/wechat"
)

// What one order costs the memory, once it is full.
func BenchmarkLedger(b *testing.B) {
	l, n := New(), 0
	for ; n < maxCompleted; n++ {
		rememberPay(b, l, payNumbered(b, n))
	}
	var orders [1 << 14]wechat.Request
	b.ReportAllocs()
	for b.Loop() {
		next := n % len(orders)
		if next == 0 || n == maxCompleted {
			b.StopTimer()
			for i := range orders[next:] {
				orders[next+i] = payNumbered(b, n+i)
			}
			b.StartTimer()
		}
		rememberPay(b, l, orders[next])
		n++
	}
}

// What a full memory costs everything else: its size, and the time that the garbage
// collector needs to look through it.
func BenchmarkFullLedger(b *testing.B) {
	empty := inUse()
	l := New()
	for n := range maxCompleted {
		rememberPay(b, l, payNumbered(b, n))
	}
	full := inUse()
	for b.Loop() {
		runtime.GC()
	}
	b.ReportMetric(float64(full.HeapAlloc-empty.HeapAlloc)/maxCompleted, "B/order")
	b.ReportMetric(float64(full.HeapObjects-empty.HeapObjects)/maxCompleted, "objects/order")
	runtime.KeepAlive(l)
}

func inUse() (stats runtime.MemStats) {
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats
}

func payNumbered(b *testing.B, n int) wechat.Request {
	b.Helper()
	order, err := wechat.Decode(wechat.At(wechat.Pay, wechat.Official),
		fmt.Appendf(nil, `{"openid":"odkx20ENSNa2w5y3g_qOkOvBNM1g","appid":"wx1234567","amt":123,"bill_no":"order-20260101-%012d"}`, n))
	if err != nil {
		b.Fatal(err)
	}
	return order
}

func rememberPay(b *testing.B, l *Ledger, order wechat.Request) {
	f, admission := l.Begin(order)
	if admission != Proceed {
		b.Fatal(admission)
	}
	l.End(f, outcome.Answer{
		Outcome: outcome.Applied, Attempts: 1, Status: http.StatusOK, ContentType: "application/json; encoding=utf-8",
		Body: []byte(`{"errcode":0,"errmsg":"ok","bill_no":"` + order.BillNo() + `","balance":9877,"used_gen_amt":0}`),
	}, false, time.Hour)
}
