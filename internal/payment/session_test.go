package payment_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/wechat"
)

// WeChat's codes for a player who is not, or no longer, logged in.
var sessionRefusals = []struct {
	api     *wechat.API
	errcode int
}{
	{wechat.Pay, 90009},
	{wechat.Pay, 90010},
	{wechat.CancelPay, 90010},
	{wechat.GetBalance, 90009},
	{wechat.PayV2, 90010},
	{wechat.PayV2, 90016},
	{wechat.CancelPayV2, 90016},
	{wechat.QueryOrderInfo, 90016},
}

func TestAPlayerWhoseSessionIsRefusedAndHasNotChangedHasToLogInAgain(t *testing.T) {
	for _, c := range sessionRefusals {
		for reason, w := range map[string]wallet{
			"unchanged": {},
			"gone":      {renewing: fmt.Errorf("reading it: %w", secrets.ErrNotFound)},
		} {
			t.Run(fmt.Sprintf("%s %s %d, %s", c.api.Family.Name, c.api, c.errcode, reason), func(t *testing.T) {
				order := anOrder(t, c.api)
				s := plays(says(c.errcode, "session"), says(0, "ok"))
				answer := through(s).Process(t.Context(), order, w)
				billNo := ""
				if order.BillNo() != "" {
					billNo = `,"bill_no":"b1"`
				}
				require.Equal(t, fmt.Sprintf(`{"errcode":90010,"errmsg":"openid: WeChat refuses the session_key, and the secret store has no other; `+
					`have the client call wx.login and log the player in again","error":"session_missing","outcome":"rejected","attempts":1%s,"upstream_errcode":%d}`,
					billNo, c.errcode), string(answer.Body))
				require.Equal(t, outcome.Rejected, answer.Outcome)
				require.Equal(t, outcome.SessionMissing, answer.ErrorCode)
				require.Equal(t, 401, answer.Status)
				require.Equal(t, 90010, answer.Errcode)
				require.Equal(t, 1, answer.Attempts)
				require.Len(t, s.sent, 1)
			})
		}
	}
}

func TestARefusedSessionOfWhichNothingNewIsKnownIsPassedOn(t *testing.T) {
	for _, c := range sessionRefusals {
		for reason, w := range map[string]wallet{
			"the store is sealed":         {renewing: errors.New("sealed")},
			"the next is refused as well": {renewed: "2"},
			"there is none to v1":         {unsigned: true},
		} {
			t.Run(fmt.Sprintf("%s %s %d, %s", c.api.Family.Name, c.api, c.errcode, reason), func(t *testing.T) {
				if w.unsigned && c.api.Family == wechat.V2 {
					t.Skip("v2 has always one")
				}
				answer := through(plays(says(c.errcode, "session"), says(c.errcode, "session"))).Process(t.Context(), anOrder(t, c.api), w)
				require.Equal(t, fmt.Sprintf(`{"errcode":%d,"errmsg":"session"}`, c.errcode), string(answer.Body))
				require.Equal(t, outcome.Rejected, answer.Outcome)
				require.Empty(t, answer.ErrorCode)
				require.Equal(t, 1+len(w.renewed), answer.Attempts)
			})
		}
	}
}

func TestARefusedSessionAfterALostAnswerProvesNothing(t *testing.T) {
	for _, c := range sessionRefusals {
		if !c.api.MovesCoins {
			continue
		}
		answer := through(plays(answers(502, ""), says(c.errcode, "session"))).Process(t.Context(), anOrder(t, c.api), wallet{})
		require.Equal(t, outcome.Unknown, answer.Outcome)
		require.Equal(t, outcome.OutcomeUnknown, answer.ErrorCode)
		require.Contains(t, string(answer.Body), fmt.Sprintf(`"upstream_errcode":%d`, c.errcode))
	}
}
