package payment_test

import (
	"context"
	"fmt"
	"slices"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
)

// audit compares every answer with the books.
func (h *history) audit() {
	require.NoError(h.t, h.weChat.Settle(context.Background()))
	for _, c := range h.calls {
		why := func(rule string) string { return fmt.Sprintf("%s: %v", rule, c) }
		switch api := c.request.Endpoint().API; {
		case !api.MovesCoins:
			require.NotContains(h.t, []outcome.Outcome{outcome.AlreadyApplied, outcome.Duplicate}, c.answer.Outcome, why("a call that reads"))
		case api == wechat.CancelPay:
			h.auditCancel(c, why)
		default:
			h.auditOrder(c, why)
		}
		require.LessOrEqual(h.t, c.ended.Sub(c.began), 4*h.processor.Deadline, why("took too long"))
		if c.answer.Outcome == outcome.NotSent {
			require.Zero(h.t, c.answer.Attempts, why("not sent and sent"))
		}
	}
	h.auditBooks()
}

// auditOrder judges what was said about a pay or present, or a refund under a number of
// its own.
func (h *history) auditOrder(c *call, why func(string) string) {
	applied := c.known && c.order.Applied > 0 && c.order.API == c.request.Endpoint().API.Name && c.order.Amount == c.request.Amount() &&
		c.order.Of == c.request.PayBillNo()
	switch c.answer.Outcome {
	case outcome.Applied, outcome.AlreadyApplied:
		// Without a memory, a bill_no that is used again cannot be told from a
		// repeat.
		if h.remembers(c) {
			require.True(h.t, applied, why("said applied, and is not"))
			require.Zero(h.t, c.before.Refunded, why("said applied, and was taken back before"))
			require.False(h.t, c.answer.Outcome == outcome.AlreadyApplied && c.order.Refunded > 0 && !h.cancelledAtOnce(c), why("said applied, and was taken back meanwhile"))
		}
	case outcome.Duplicate:
		require.True(h.t, c.known, why("said duplicate of nothing"))
	case outcome.Rejected:
		// Taken back is as good as never applied. A part is not.
		require.True(h.t, !applied || c.order.Returned || h.elsewhere(c) || landedAfter(c) || !h.remembersCancels(c), why("said rejected, and is applied"))
		if c.answer.ErrorCode == outcome.TakenBack && h.remembers(c) {
			require.True(h.t, c.order.Returned, why("said taken back, and is not"))
		}
	case outcome.NotSent:
		if c.answer.ErrorCode != outcome.BillNoConflict {
			require.True(h.t, !applied || c.order.Returned || h.elsewhere(c), why("said not sent, and is applied"))
		}
	case outcome.Unknown: // may be anything
	}
}

// remembers reports whether all that used the call's number was remembered, but for what
// took it back, which is noted with the order itself.
func (h *history) remembers(c *call) bool {
	return !slices.ContainsFunc(h.calls, func(other *call) bool {
		return other.forgets && other.request.BillNo() == c.request.BillNo() && other.request.Endpoint().API != wechat.CancelPay
	})
}

// remembersCancels reports whether no cancel of the order could be mistaken for another of
// the same number.
func (h *history) remembersCancels(c *call) bool {
	return !slices.ContainsFunc(h.calls, func(other *call) bool {
		return other.request.Endpoint().API.Cancels() && paidBy(other.request) == orderOf(c.request) && !h.remembers(other)
	})
}

// elsewhere reports whether another call about the order was told its true end at the
// same time, or before and there is no memory that could know. What is said then is
// about this call alone.
func (h *history) elsewhere(c *call) bool {
	return slices.ContainsFunc(h.calls, func(other *call) bool {
		told := other.answer.Outcome != outcome.Rejected && other.answer.Outcome != outcome.NotSent || other.answer.ErrorCode == outcome.TakenBack
		atOnce := !other.ended.Before(c.began) && !c.ended.Before(other.began)
		return other != c && orderOf(other.request) == orderOf(c.request) && told && (atOnce || other.forgets)
	})
}

// cancelledAtOnce reports whether a cancel began in the very moment in which the call
// ended: the books were read after both.
func (h *history) cancelledAtOnce(c *call) bool {
	return slices.ContainsFunc(h.calls, func(other *call) bool {
		return other.request.Endpoint().API.Cancels() && paidBy(other.request) == orderOf(c.request) && other.began.Equal(c.ended)
	})
}

// landedAfter reports whether a cancel was told that there is no such order in the very
// moment in which there came to be one: what landed late landed after that answer.
func landedAfter(c *call) bool {
	return c.request.Endpoint().API.Cancels() && c.answer.Errcode == wechat.NoSuchOrder && c.order.Time.Equal(c.ended)
}

func (h *history) auditCancel(c *call, why func(string) string) {
	returned := c.known && c.order.Returned
	switch c.answer.Outcome {
	case outcome.Applied, outcome.AlreadyApplied, outcome.Duplicate:
		require.True(h.t, returned, why("said cancelled, and is not"))
	case outcome.Rejected:
		require.True(h.t, !returned || h.elsewhere(c) || landedAfter(c), why("said that it cannot be cancelled, and is"))
	case outcome.NotSent, outcome.Unknown: // another call may have cancelled it
	}
}

// auditBooks judges what was done: no order twice, no coin lost, and no attempt that
// nobody was told of.
func (h *history) auditBooks() {
	balance := map[wechat.Environment]int64{wechat.Official: coins, wechat.Sandbox: coins}
	state := h.weChat.State()
	refunded := make(map[simulator.OrderID]int64)
	for id, order := range state.Orders {
		require.Equal(h.t, 1, order.Applied, "%v was carried out more than once", id)
		switch order.API {
		case "present":
			balance[id.Environment] += order.Amount
		case "cancelpay":
			balance[id.Environment] += order.Amount
			id.BillNo = order.Of
			refunded[id] += order.Amount
		default:
			balance[id.Environment] -= order.Amount
			if id.OpenID == "" && order.Returned { // by v1's cancelpay, which is no order
				balance[id.Environment] += order.Amount
			}
		}
	}
	for id, coins := range refunded {
		require.Equal(h.t, coins, state.Orders[id].Refunded, "refunds of %v", id)
		require.LessOrEqual(h.t, coins, state.Orders[id].Amount, "refunds of %v", id)
	}
	for env, want := range balance {
		require.Equal(h.t, want, h.weChat.Purse(appID, player, env).Balance, "%s coins", env)
	}

	told := make(map[*wechat.API]map[simulator.OrderID]int)
	for _, c := range h.calls {
		api := c.request.Endpoint().API
		if told[api] == nil {
			told[api] = make(map[simulator.OrderID]int)
		}
		told[api][orderOf(c.request)] += c.answer.Attempts
	}
	for _, c := range h.calls {
		if api := c.request.Endpoint().API; api.MovesCoins && !(api == wechat.CancelPay && h.processor.CancelUnknown) {
			require.LessOrEqual(h.t, h.weChat.Attempts(api, orderOf(c.request)), told[api][orderOf(c.request)], "attempts that nobody was told of: %v", c)
		}
	}
}
