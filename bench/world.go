package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The apps, players and keys of the benchmark follow from their numbers, so that
// every process knows them without being told.

const (
	payPath   = "/cgi-bin/midas/pay"
	payPathV2 = "/wxa/game/pay"
	tokenPath = "/cgi-bin/stable_token"
)

// apiFamily is one of the generations of the API: what a payment is called in it.
type apiFamily struct{ name, path, amount string }

var apiFamilies = []apiFamily{{"v1", payPath, "amt"}, {"v2", payPathV2, "amount"}}

const (
	firstApp   = 1234567
	firstOffer = 12345678
)

// familyOf returns the family of a name, v1 where there is none.
func familyOf(name string) apiFamily {
	return apiFamilies[max(0, slices.IndexFunc(apiFamilies, func(f apiFamily) bool { return f.name == name }))]
}

// accessToken is as long as WeChat's are.
var accessToken = strings.Repeat("benchmark_access_token_0123456789_", 4)

func appID(i int) string  { return fmt.Sprintf("wx%07d", firstApp+i) }
func openID(i int) string { return fmt.Sprintf("odkx20ENSNa2w5y3g_q%09d", i) }

// offerID is the app's own: by it alone a payment of v2 says whose it is.
func offerID(i int) string { return strconv.Itoa(firstOffer + i) }

// appOf is the app that has the offer_id.
func appOf(offer string) string {
	n, _ := strconv.Atoi(offer)
	return appID(n - firstOffer)
}

// billNo is one for each payment; the layout is fixed, so that load can write over it.
func billNo(i int64) string { return fmt.Sprintf("B%019d", i) }

func midasKey(app string) string {
	sum := sha256.Sum256([]byte("midas_key of " + app))
	return hex.EncodeToString(sum[:16])
}

func sessionKey(player string) string {
	sum := sha256.Sum256([]byte("session_key of " + player))
	return base64.StdEncoding.EncodeToString(sum[:16])
}
