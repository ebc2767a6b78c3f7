package simulator

import (
	"errors"
	"strings"
	"time"

	"midas-sidecar/internal/wechat"
)

// State is all that a simulator knows, and the format of its file. A seed is a
// State with apps and players only.
type State struct {
	Apps   map[string]*App    `json:"apps"` // by appid
	Orders map[OrderID]*Order `json:"orders,omitempty"`
	Tokens map[string]*Tokens `json:"tokens,omitempty"` // by appid
}

// App is a mini game with virtual payment.
type App struct {
	OfferID string `json:"offer_id"`
	// Secret is the AppSecret, for the access_token and the login.
	Secret          string `json:"secret"`
	MidasKey        string `json:"midas_key"`
	MidasKeySandbox string `json:"midas_key_sandbox"`
	// MPSigOptional lets mp_sig be absent, as on the newest of WeChat's pages.
	// One that is present is verified all the same.
	MPSigOptional bool               `json:"mp_sig_optional,omitzero"`
	Players       map[string]*Player `json:"players"` // by openid
}

// Player is one user of an app.
type Player struct {
	// SessionKey is "" while the player is not logged in.
	SessionKey string `json:"session_key,omitempty"`
	// OldSessionKey is the one before the last login. It is refused; it is kept
	// to tell whoever still signs with it.
	OldSessionKey string `json:"old_session_key,omitempty"`
	UnionID       string `json:"unionid,omitempty"`
	Official      Purse  `json:"official,omitzero"`
	Sandbox       Purse  `json:"sandbox,omitzero"`
}

// Purse holds a player's coins in one environment. The other sums that WeChat
// reports follow from these.
type Purse struct {
	Balance    int64 `json:"balance"`               // gift coins included
	GenBalance int64 `json:"gen_balance,omitzero"`  // the gift coins
	CostSum    int64 `json:"cost_sum,omitzero"`     // ever spent, and not given back
	GenCostSum int64 `json:"gen_cost_sum,omitzero"` // the gift coins among them
}

// OrderID is what a bill_no is unique within. v1 asks for one in the whole business,
// https://developers.weixin.qq.com/minigame/en/dev/api-backend/midas-payment/midas.pay.html,
// and OpenID and ZoneID are empty; in v2 it is unique for a player in a zone. A v1 and
// a v2 order never meet. As text it is "appid/environment/bill_no" or
// "appid/environment/openid/zone_id/bill_no".
type OrderID struct {
	AppID       string
	Environment wechat.Environment
	BillNo      string

	OpenID, ZoneID string // of v2
}

func (id OrderID) String() string {
	within := id.AppID + "/" + string(id.Environment) + "/"
	if id.isV2() {
		within += id.OpenID + "/" + id.ZoneID + "/"
	}
	return within + id.BillNo
}

func (id OrderID) isV2() bool { return id.OpenID != "" || id.ZoneID != "" }

// MarshalText makes an OrderID a JSON name.
func (id OrderID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *OrderID) UnmarshalText(text []byte) error {
	parts := strings.Split(string(text), "/")
	switch {
	case len(parts) == 3:
		*id = OrderID{AppID: parts[0], Environment: wechat.Environment(parts[1]), BillNo: parts[2]}
	case len(parts) == 5 && parts[2] != "" && parts[3] != "":
		*id = OrderID{parts[0], wechat.Environment(parts[1]), parts[4], parts[2], parts[3]}
	default:
		return errors.New("must be appid/environment/bill_no or appid/environment/openid/zone_id/bill_no")
	}
	return nil
}

// Order is what a pay or present did, or v2's cancelpay, which is an order itself.
type Order struct {
	API    string    `json:"api"` // "pay", "present" or "cancelpay"
	OpenID string    `json:"openid"`
	Amount int64     `json:"amount"`       // coins taken, or given by a present or cancelpay
	Gen    int64     `json:"gen,omitzero"` // the gift coins among those taken or given back
	Time   time.Time `json:"time"`         // when it was last carried out
	// Applied counts how often it was carried out. It is more than 1 only where
	// the bill_no was used again after its 48 hours.
	Applied int `json:"applied"`
	// Refunded is how many coins of a pay were given back, Returned that all were.
	Refunded int64 `json:"refunded,omitzero"`
	Returned bool  `json:"returned,omitzero"`
	// Of is the pay_bill_no of a cancelpay.
	Of string `json:"of,omitempty"`
}

// Tokens are an app's access_tokens.
type Tokens struct {
	Issued []*Token `json:"issued"` // by stable_token; the last is the latest
	// Plain are those of /cgi-bin/token, which stable_token has nothing to do with.
	Plain []*Token `json:"plain,omitempty"`
	// Forced is when force_refresh last made a token, ForcedToday how often on
	// that day, which is one of China's.
	Forced      time.Time `json:"forced,omitzero"`
	ForcedToday int       `json:"forced_today,omitzero"`
}

// Token is one access_token.
type Token struct {
	AccessToken string    `json:"access_token"`
	Expires     time.Time `json:"expires"`
	// Revoked: a force_refresh ended it before it expired.
	Revoked bool `json:"revoked,omitzero"`
}

// Demo returns the state that a trial begins with: one app with the keys of
// WeChat's documentation, which are public, and one player with 10000 coins in
// each environment.
func Demo() State {
	return State{Apps: map[string]*App{
		"wx1234567": {
			OfferID:         "12345678",
			Secret:          "demo-app-secret-of-the-simulator",
			MidasKey:        "zNLgAGgqsEWJOg1nFVaO5r7fAlIQxr1u",
			MidasKeySandbox: "sandboxKeyForTestsOnly0123456789",
			Players: map[string]*Player{
				"odkx20ENSNa2w5y3g_qOkOvBNM1g": {
					SessionKey: "V7Q38/i2KXaqrQyl2Yx9Hg==",
					Official:   Purse{Balance: 10000},
					Sandbox:    Purse{Balance: 10000},
				},
			},
		},
	}}
}

// player returns nil where there is no such app or player.
func (s *State) player(appid, openid string) *Player {
	if app := s.Apps[appid]; app != nil {
		return app.Players[openid]
	}
	return nil
}

// tokens returns the app's tokens, which may be none yet.
func (s *State) tokens(appid string) *Tokens {
	if tokens := s.Tokens[appid]; tokens != nil {
		return tokens
	}
	return &Tokens{}
}

// midasKey returns the key that signs calls to the environment.
func (a *App) midasKey(env wechat.Environment) string {
	if env == wechat.Sandbox {
		return a.MidasKeySandbox
	}
	return a.MidasKey
}

func (p *Player) purse(env wechat.Environment) *Purse {
	if env == wechat.Sandbox {
		return &p.Sandbox
	}
	return &p.Official
}
