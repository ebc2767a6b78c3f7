package payment_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/upstream"
	"midas-sidecar/internal/wechat"
)

// Whatever the exchanges of an order were, the answer says no more than they prove.
func TestNoAnswerSaysMoreThanTheExchangesProve(t *testing.T) {
	for seed := range uint64(10_000) {
		random := rand.New(rand.NewPCG(seed, 0))
		order := anOrder(t, wechat.APIs[random.IntN(len(wechat.APIs))])
		var drawn []drawn
		s := new(script)
		for range 1 + random.IntN(4) {
			d := draw(random)
			drawn = append(drawn, d)
			s.lines = append(s.lines, func(context.Context) upstream.Exchange { return d.Exchange })
		}
		answer := through(s).Process(t.Context(), order, wallet{renewed: []string{"", "2"}[random.IntN(2)]})
		if rule := broken(order.Endpoint().API, drawn[:len(s.sent)], answer); rule != "" {
			t.Fatalf("seed %d, %s %+v: %s: %s %s", seed, order.Endpoint().Path, drawn, rule, answer.Outcome, answer.Body)
		}
	}
}

// drawn is a random exchange. It knows what a reader can rely on.
type drawn struct {
	upstream.Exchange
	readable bool // whole, and not by a gateway
	errcode  int
}

func draw(random *rand.Rand) drawn {
	codes := []int{0, 0, -1, 90000, 90009, 90010, 90011, 90012, 90013, 90014, 90015, 90016, 90018, 40001, 7}
	errcode := codes[random.IntN(len(codes))]
	body := fmt.Sprintf(`{"errcode":%d,"errmsg":"m"}`, errcode)
	status := []int{200, 200, 200, 404, 500, 503}[random.IntN(6)]
	switch random.IntN(6) {
	case 0:
		return drawn{Exchange: upstream.Exchange{Err: errors.New("refused")}}
	case 1:
		return drawn{Exchange: upstream.Exchange{Sent: true, Err: io.ErrUnexpectedEOF}}
	case 2:
		return drawn{Exchange: answers(status, body[:random.IntN(len(body))])}
	default:
		return drawn{answers(status, body), status < 500, errcode}
	}
}

// broken names the promise that an answer breaks, "" for none.
func broken(api *wechat.API, exchanges []drawn, answer outcome.Answer) string {
	done := map[*wechat.API]int{
		wechat.Pay: 90012, wechat.Present: 90012, wechat.CancelPay: 90015,
		wechat.PayV2: 90012, wechat.PresentV2: 90012, wechat.CancelPayV2: 90012,
	}[api]
	sent, doubt := 0, false // doubt: one before the last may have had an effect
	for i, e := range exchanges {
		if e.Sent {
			sent++
		}
		unsure := e.Sent && !e.readable || e.readable && (e.errcode == -1 || e.errcode == 90016 && api == wechat.CancelPay)
		if i < len(exchanges)-1 {
			doubt = doubt || unsure && api.MovesCoins
		}
	}
	last := exchanges[len(exchanges)-1]
	open := last.errcode == -1 || last.errcode == 90016 && api == wechat.CancelPay
	proof := !doubt || last.errcode == 0 || last.errcode == done ||
		api == wechat.CancelPay && (last.errcode == 90000 || last.errcode == 90014) ||
		api == wechat.CancelPayV2 && last.errcode == 90000
	switch {
	case answer.Attempts != sent:
		return "attempts are miscounted"
	case len(answer.Body) == 0 || answer.Status < 200:
		return "there is no answer"
	}
	switch answer.Outcome {
	case outcome.Applied:
		if !last.readable || last.errcode != 0 || answer.Errcode != 0 {
			return "applied without an errcode 0"
		}
	case outcome.AlreadyApplied, outcome.Duplicate:
		if !last.readable || last.errcode != done || doubt != (answer.Outcome == outcome.AlreadyApplied) {
			return "wrong about who was first"
		}
	case outcome.Rejected:
		refused := false // the last that was sent, by a whole answer
		for _, e := range exchanges {
			if e.Sent {
				refused = e.readable && e.errcode != 0 && e.errcode != -1 && e.errcode != done
			}
		}
		if !refused || !proof || answer.Errcode == 0 || answer.Errcode == -1 {
			return "rejected without a refusal that proves it"
		}
	case outcome.Unknown:
		if answer.Errcode != -1 && !(answer.Errcode == 90016 && api == wechat.CancelPay) {
			return "unknown, and the errcode does not say so"
		}
		if last.readable && !open && proof {
			return "unknown, though the last answer proves it"
		}
	case outcome.NotSent:
		if sent > 0 {
			return "not sent, and sent"
		}
	default:
		return "no such outcome"
	}
	return ""
}
