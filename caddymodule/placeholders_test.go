package caddymodule_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// shown is a site that shows the placeholders in a header of its answers.
const shown = "header >X-Order \"{http.midas.api} {http.midas.outcome} {http.midas.errcode} {http.midas.attempts}\"\n midas"

func TestPlaceholdersTellWhatBecameOfAnOrder(t *testing.T) {
	w := newWorld(t, demoApp+hasty, shown)
	order := func(path, body string) string { return w.post(path, body).header.Get("X-Order") }
	require.Equal(t, "pay applied 0 1", order("/cgi-bin/midas/pay", pay("b1", 1)))
	require.Equal(t, "pay applied 0 1", order("/cgi-bin/midas/pay", pay("b1", 1)), "replayed")
	require.Equal(t, "pay rejected 90013 1", order("/cgi-bin/midas/pay", pay("b2", 1_000_000)))
	require.Equal(t, "cancelpay applied 0 1", order("/cgi-bin/midas/cancelpay", `{"openid":"`+player+`","bill_no":"b1"}`))
	require.Equal(t, "pay applied 0 1", order("/wxa/game/pay", pay2("b1", 2)))
	require.Equal(t, "cancelpay applied 0 1", order("/wxa/game/cancelpay", fmt.Sprintf(refund2, 1, "r1", "b1")))
	require.Equal(t, "queryorderinfo applied 0 1", order("/wxa/game/queryorderinfo", `{"openid":"`+player+`","out_trade_no":"b1","biz_id":1}`))
	require.Equal(t, "pay not_sent 90018 0", order("/cgi-bin/midas/pay", "{"))
	w.weChat.Misbehave(always("busy_before"))
	a := w.post("/cgi-bin/midas/pay", pay("b3", 1))
	require.Equal(t, "pay unknown -1 "+a.header.Get("Midas-Attempts"), a.header.Get("X-Order"))
}

func TestAnAccessLogCanHoldPlaceholders(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access")
	w := newWorld(t, "", "log {\n output file "+file+"\n }\n log_append outcome {http.midas.outcome}\n log_append attempts {http.midas.attempts}\n midas")
	w.paysAnew()
	require.Eventually(t, func() bool {
		text, _ := os.ReadFile(file)
		return strings.Contains(string(text), `"outcome":"applied"`) && strings.Contains(string(text), `"attempts":`)
	}, 5*time.Second, 5*time.Millisecond)
}
