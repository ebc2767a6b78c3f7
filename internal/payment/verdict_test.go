package payment

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/ledger"
	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/wechat"
)

// situation is everything that a verdict rests on.
type situation struct {
	evidence
	reply
}

// The verdicts, each with its reason: the first row that fits says what decide returns.
var verdicts = []struct {
	reason string
	fits   func(s situation) bool
	want   decision
}{
	{
		"nothing left this host, and no earlier call left a doubt",
		func(s situation) bool { return !s.sent && !s.mayBeDoneElsewhere() },
		decision{outcome.NotSent, sendAgain},
	},
	{
		"nothing left this host, but an earlier call may have done it",
		func(s situation) bool { return !s.sent },
		decision{outcome.Unknown, sendAgain},
	},
	{
		"an attempt without a readable end says nothing",
		func(s situation) bool { return !s.answered },
		decision{outcome.Unknown, sendAgain},
	},
	{
		"WeChat says that it is done",
		func(s situation) bool { return s.action == wechat.Applied },
		decision{outcome.Applied, finish},
	},
	{
		"done before, and a number that was told to be used may be another call's",
		func(s situation) bool { return s.action == wechat.Done && s.ConfirmedApplied },
		decision{outcome.Duplicate, finish},
	},
	{
		"done before, and the number is used by another API, or the order was taken back",
		func(s situation) bool { return s.action == wechat.Done && s.NumberReused },
		decision{outcome.Duplicate, finish},
	},
	{
		"done before, by a lost attempt of this call",
		func(s situation) bool { return s.action == wechat.Done && s.lost },
		decision{outcome.AlreadyApplied, finish},
	},
	{
		"done before, by a lost attempt of an earlier call",
		func(s situation) bool { return s.action == wechat.Done && s.MaybeApplied },
		decision{outcome.AlreadyApplied, finish},
	},
	{
		"done before, and not by us",
		func(s situation) bool { return s.action == wechat.Done },
		decision{outcome.Duplicate, finish},
	},
	{
		"WeChat itself does not know, or not yet",
		func(s situation) bool { return s.action == wechat.Unsure },
		decision{outcome.Unknown, sendAgain},
	},
	{
		"nothing to take back, while the pay may land yet",
		func(s situation) bool { return s.action == wechat.Refused && s.noSuchOrder && s.early },
		decision{outcome.Unknown, sendAgain},
	},
	{
		"what was refused may have been replaced, and proves nothing about a lost attempt",
		func(s situation) bool { return s.isRenewable() && s.mayBeDoneElsewhere() && !s.rulesOutApplied },
		decision{outcome.Unknown, renew},
	},
	{
		"what was refused may have been replaced",
		func(s situation) bool { return s.isRenewable() },
		decision{outcome.Rejected, renew},
	},
	{
		"a refusal proves nothing about another attempt",
		func(s situation) bool { return s.mayBeDoneElsewhere() && !s.rulesOutApplied },
		decision{outcome.Unknown, finish},
	},
	{
		"WeChat refuses",
		func(situation) bool { return true },
		decision{outcome.Rejected, finish},
	},
}

// mayBeDoneElsewhere reports whether another attempt may have moved coins that are not
// known to be back.
func (s situation) mayBeDoneElsewhere() bool {
	return s.movesCoins && !s.Returned && (s.lost || s.MaybeApplied || s.ConfirmedApplied)
}

func (s situation) isRenewable() bool {
	return s.action == wechat.TokenRefused || s.action == wechat.SessionRefused || s.action == wechat.KeyRefused
}

// bools yields every combination of n truth values.
func bools(n int, yield func(b []bool)) {
	values := make([]bool, n)
	for bits := range 1 << n {
		for i := range values {
			values[i] = bits>>i&1 == 1
		}
		yield(values)
	}
}

// situations yields all that there can be.
func situations(yield func(situation)) {
	bools(6, func(b []bool) {
		e := evidence{
			Facts:      ledger.Facts{MaybeApplied: b[0], ConfirmedApplied: b[1], NumberReused: b[2], Returned: b[3]},
			movesCoins: b[4],
			lost:       b[5],
		}
		yield(situation{e, reply{}})
		bools(3, func(b []bool) {
			yield(situation{e, reply{sent: true, early: b[0]}})
			for action := wechat.Refused; action <= wechat.KeyRefused; action++ {
				yield(situation{e, reply{
					sent: true, answered: true, action: action,
					early: b[0], noSuchOrder: b[1], rulesOutApplied: b[2],
				}})
			}
		})
	})
}

func TestDecide(t *testing.T) {
	used := make(map[string]int)
	situations(func(s situation) {
		for _, v := range verdicts {
			if v.fits(s) {
				used[v.reason]++
				require.Equal(t, v.want, decide(s.evidence, s.reply), "%s: %+v", v.reason, s)
				return
			}
		}
	})
	for _, v := range verdicts {
		require.NotZero(t, used[v.reason], "no situation: %s", v.reason)
	}
}

// What must hold of every verdict, whatever the rules are.
func TestDecide_invariants(t *testing.T) {
	situations(func(s situation) {
		d := decide(s.evidence, s.reply)
		why := fmt.Sprintf("%+v: %+v", s, d)
		switch d.outcome {
		case outcome.Applied, outcome.AlreadyApplied, outcome.Duplicate:
			require.True(t, s.answered && (s.action == wechat.Applied || s.action == wechat.Done), why)
			require.Equal(t, finish, d.next, why)
		case outcome.Rejected:
			require.True(t, s.answered, why)
			require.True(t, s.rulesOutApplied || !s.mayBeDoneElsewhere(), why)
		case outcome.NotSent:
			require.False(t, s.sent || s.mayBeDoneElsewhere(), why)
		case outcome.Unknown:
			require.True(t, !s.answered || s.action != wechat.Applied && s.action != wechat.Done, why)
		}
		if d.outcome == outcome.AlreadyApplied {
			require.True(t, s.lost || s.MaybeApplied, why)
			require.False(t, s.ConfirmedApplied || s.NumberReused, why)
		}
	})
}
