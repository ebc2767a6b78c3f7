package caddymodule

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"midas-sidecar/internal/credentials"
	"midas-sidecar/internal/wechat"
)

// App is one mini game that may pay.
type App struct {
	// OfferID is the offer_id that Midas assigned to the game. Required.
	OfferID string `json:"offer_id,omitempty"`

	// OfferIDV2 is the offer_id of v2, /wxa/game/*, where Midas assigned the game
	// another one for that. Default: OfferID.
	OfferIDV2 string `json:"offer_id_v2,omitempty"`

	// Secret is the path, in the secret store, of the fields midas_key,
	// midas_key_sandbox and app_secret. Default: midas/{appid}.
	Secret string `json:"secret,omitempty"`

	// Session is the path of a player's session_key; {openid} stands for the
	// player. Default: midas/{appid}/sessions/{openid}.
	Session string `json:"session,omitempty"`

	// AccessToken says where the access_token comes from. Default: WeChat's
	// stable_token, asked for with app_secret.
	AccessToken *AccessToken `json:"access_token,omitempty"`

	// MPSig reports whether calls carry mp_sig. WeChat's newest pages of v1 leave
	// it out; without it no session_key is needed. Default: true.
	MPSig *bool `json:"mp_sig,omitempty"`
}

// AccessToken is a secret in which a central token server keeps the access_token.
type AccessToken struct {
	// Secret is the path in the secret store. Required.
	Secret string `json:"secret,omitempty"`

	// Field is the field of that secret. Default: access_token.
	Field string `json:"field,omitempty"`
}

// checkAppID tells what is wrong with an appid, which is part of paths and labels.
func checkAppID(id string) error {
	if !appIDs.MatchString(id) {
		return errors.New("must be 1 to 128 characters of A-Z a-z 0-9 _ -") // not quoted: a placeholder may stand for a secret
	}
	return nil
}

var appIDs = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// checkOfferID tells what is wrong with an offer_id, which nobody but Midas gives a form.
func checkOfferID(id string) error {
	odd := func(r rune) bool { return r == ' ' || r == utf8.RuneError || !unicode.IsPrint(r) }
	if !utf8.ValidString(id) || strings.ContainsFunc(id, odd) {
		return errors.New("must be printable characters without spaces")
	}
	return nil
}

// offerID is text that may be an offer_id.
func (r resolver) offerID(value string) (string, error) {
	id, err := r.text(value)
	if err != nil {
		return "", err
	}
	return id, checkOfferID(id)
}

// checkSession tells what is wrong with the path of session_keys.
func checkSession(path string) error {
	if !strings.Contains(path, "{openid}") {
		return errors.New("must contain {openid}, or all players would share one session_key")
	}
	return nil
}

// resolved is an App whose placeholders are replaced.
type resolved struct {
	offerIDs    offerIDs
	credentials credentials.App
}

// offerIDs are a game's offer_ids, one for each generation of the API. Most games
// have the same for both.
type offerIDs struct{ v1, v2 string }

// of returns the offer_id that calls of the family carry.
func (o offerIDs) of(family *wechat.Family) string {
	if family == wechat.V1 {
		return o.v1
	}
	return o.v2
}

func (a *App) resolve(values resolver, appID string) (resolved, error) {
	appID, err := values.text(appID)
	if err != nil {
		return resolved{}, err
	}
	if err := checkAppID(appID); err != nil {
		return resolved{}, err
	}
	values = values.with("appid", appID)
	r := resolved{credentials: credentials.App{AppID: appID, MPSig: a.MPSig == nil || *a.MPSig}}

	if a.OfferID == "" {
		return r, errors.New("offer_id: is missing")
	}
	if r.offerIDs.v1, err = values.offerID(a.OfferID); err != nil {
		return r, fmt.Errorf("offer_id: %w", err)
	}
	if r.offerIDs.v2, err = values.offerID(cmp.Or(a.OfferIDV2, a.OfferID)); err != nil {
		return r, fmt.Errorf("offer_id_v2: %w", err)
	}
	if r.credentials.Secret, err = values.path(a.Secret, "midas/{appid}"); err != nil {
		return r, fmt.Errorf("secret: %w", err)
	}
	if r.credentials.Session, err = values.with("openid", "{openid}").path(a.Session, "midas/{appid}/sessions/{openid}"); err != nil {
		return r, fmt.Errorf("session: %w", err)
	}
	if err := checkSession(r.credentials.Session); err != nil {
		return r, fmt.Errorf("session: %w", err)
	}
	if a.AccessToken == nil {
		return r, nil
	}
	if a.AccessToken.Secret == "" {
		return r, errors.New("access_token: secret is missing")
	}
	if r.credentials.TokenSecret, err = values.path(a.AccessToken.Secret, ""); err != nil {
		return r, fmt.Errorf("access_token: %w", err)
	}
	if r.credentials.TokenField, err = values.path(a.AccessToken.Field, "access_token"); err != nil {
		return r, fmt.Errorf("access_token: field: %w", err)
	}
	return r, nil
}
