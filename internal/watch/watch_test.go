package watch_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/payment"
	"midas-sidecar/internal/watch"
	"midas-sidecar/internal/wechat"
)

// watched returns a Watch and what it has logged since the last call.
func watched() (*watch.Watch, func() []string) {
	var log bytes.Buffer
	lines := func() []string {
		defer log.Reset()
		return strings.FieldsFunc(log.String(), func(r rune) bool { return r == '\n' })
	}
	return watch.New(slog.New(slog.NewTextHandler(&log, nil))), lines
}

// answered is an attempt that WeChat answered so.
func answered(code int, errmsg string) payment.Attempt {
	a := wechat.Answer{Errcode: code, Errmsg: errmsg}
	return payment.Attempt{
		AppID: "wx1", Endpoint: wechat.At(wechat.Pay, wechat.Sandbox), ZoneID: "9_9", End: payment.Answered,
		Answer: a, Action: a.Action(wechat.Pay),
	}
}

func TestWatch_zone(t *testing.T) {
	busyZones := func(w *watch.Watch) (zones int) {
		w.BusyZones(func(appID string, environment wechat.Environment, n int) {
			require.Equal(t, "wx1", appID)
			require.Equal(t, wechat.Sandbox, environment)
			zones += n
		})
		return zones
	}
	t.Run("every answer is -1", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, lines := watched()
			for range 19 {
				w.Observe(answered(-1, "system busy"))
			}
			require.Empty(t, lines())
			require.Zero(t, busyZones(w))
			for range 50 {
				w.Observe(answered(-1, "system busy"))
			}
			told := lines()
			require.Len(t, told, 1)
			require.Contains(t, told[0], "level=WARN")
			require.Contains(t, told[0], "appid=wx1 environment=sandbox zone_id=9_9")
			require.Equal(t, 1, busyZones(w))

			w.Observe(answered(90013, "short"))
			told = lines()
			require.Len(t, told, 1)
			require.Contains(t, told[0], "level=INFO")
			require.Zero(t, busyZones(w))
		})
	})
	t.Run("another answer in between", func(t *testing.T) {
		w, lines := watched()
		for range 100 {
			for range 19 {
				w.Observe(answered(-1, "system busy"))
			}
			w.Observe(answered(0, "ok"))
		}
		require.Empty(t, lines())
	})
	t.Run("another zone in between", func(t *testing.T) {
		w, lines := watched()
		other := answered(0, "ok")
		other.ZoneID = "1"
		for range 20 {
			w.Observe(answered(-1, "system busy"))
			w.Observe(other)
		}
		require.Len(t, lines(), 1)
	})
	t.Run("a refusal in disguise is an answer", func(t *testing.T) {
		w, lines := watched()
		for range 100 {
			w.Observe(answered(-1, "1001-0-0 bad parameter(zoneid/pf)"))
		}
		require.Empty(t, lines())
	})
	t.Run("no answer is none", func(t *testing.T) {
		w, lines := watched()
		for range 100 {
			a := answered(-1, "")
			a.End = payment.Lost
			w.Observe(a)
		}
		require.Empty(t, lines())
	})
	t.Run("a zone that nobody uses any more does not count", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, _ := watched()
			for range 20 {
				w.Observe(answered(-1, "system busy"))
			}
			time.Sleep(11 * time.Minute)
			require.Zero(t, busyZones(w))
		})
	})
	t.Run("callers cannot fill the memory with zones", func(t *testing.T) {
		w, lines := watched()
		for n := range 20_000 {
			a := answered(-1, "system busy")
			a.ZoneID = fmt.Sprint(n % 10_000)
			w.Observe(a)
		}
		require.Empty(t, lines())
		for range 20 {
			w.Observe(answered(-1, "system busy"))
		}
		require.Len(t, lines(), 1)
	})
}

func TestWatch_businessCode(t *testing.T) {
	t.Run("once each, with its text", func(t *testing.T) {
		w, lines := watched()
		for range 3 {
			w.Observe(answered(-1, "2001-7-0 something new"))
			w.Observe(answered(-1, "2001-8-0 something else"))
			w.Observe(answered(-1, "1001-0-0 known"))
			w.Observe(answered(90018, "2001-9-0 no -1"))
		}
		told := lines()
		require.Len(t, told, 2)
		require.Contains(t, told[0], `text="2001-7-0 something new"`)
		require.Contains(t, told[1], `text="2001-8-0 something else"`)
	})
	t.Run("without what was sent", func(t *testing.T) {
		for errmsg, text := range map[string]string{
			`2001-1-0 post body {"openid":"canary"}`:                      "2001-1-0 post body ",
			"2001-2-0 of odkx20ENSNa2w5y3g_qOkOvBNM1g":                    "2001-2-0 of ",
			"2001-3-0 two\nlines":                                         "2001-3-0 two",
			"2001-4-0 " + strings.Repeat("long ", 100):                    "2001-4-0 " + strings.Repeat("long ", 100)[:111],
			"2001-5-0 余额不足":                                               "2001-5-0 余额不足",
			"2001-6-0 token=" + strings.Repeat("canary", 5) + " and more": "2001-6-0 ",
		} {
			w, lines := watched()
			w.Observe(answered(-1, errmsg))
			told := lines()
			require.Len(t, told, 1, errmsg)
			require.Contains(t, told[0], fmt.Sprintf("text=%q", text))
		}
	})
	t.Run("not without end", func(t *testing.T) {
		w, lines := watched()
		for n := range 1000 {
			w.Observe(answered(-1, fmt.Sprintf("2001-%d-0", n)))
		}
		require.LessOrEqual(t, len(lines()), 101) // and one of the zone
	})
}

func TestWatch_otherApp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lines := watched()
		for range 5 {
			w.Observe(answered(90007, "invalid openid hint: canary"))
		}
		told := lines()
		require.Len(t, told, 1)
		require.Contains(t, told[0], "different apps")
		require.NotContains(t, told[0], "canary")

		time.Sleep(10 * time.Minute)
		w.Observe(answered(90007, "invalid openid hint"))
		require.Len(t, lines(), 1)
	})
}

func TestWatch_clock(t *testing.T) {
	// ahead is an answer from a WeChat whose clock is that far ahead.
	ahead := func(d time.Duration) payment.Attempt {
		return payment.Attempt{Date: time.Now().Add(d).UTC().Format(http.TimeFormat)}
	}
	synctest.Test(t, func(t *testing.T) {
		w, lines := watched()
		_, known := w.ClockOffset()
		require.False(t, known)
		for _, step := range []struct {
			ahead time.Duration
			level string
		}{
			{0, ""}, {59 * time.Second, ""}, {-59 * time.Second, ""},
			{90 * time.Second, "WARN"}, {90 * time.Second, ""}, {2 * time.Hour, ""}, {58 * time.Second, ""},
			{0, "INFO"}, {0, ""},
			{-90 * time.Second, "WARN"}, {90 * time.Second, "WARN"}, {10 * time.Second, "INFO"},
		} {
			time.Sleep(time.Second)
			w.Observe(ahead(step.ahead))
			told := lines()
			if step.level == "" {
				require.Empty(t, told, step)
			} else {
				require.Len(t, told, 1, step)
				require.Contains(t, told[0], "level="+step.level)
				require.Contains(t, told[0], "wechat_ahead="+step.ahead.String())
			}
			offset, known := w.ClockOffset()
			require.True(t, known)
			require.Equal(t, step.ahead, offset)
		}

		time.Sleep(1700 * time.Millisecond)
		w.Observe(ahead(0))
		offset, _ := w.ClockOffset()
		require.Zero(t, offset, "a date without its fraction of a second")
		for _, date := range []string{"", "yesterday"} {
			time.Sleep(time.Second)
			w.Observe(payment.Attempt{Date: date})
		}
		require.Empty(t, lines())
	})
}
