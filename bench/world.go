package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// The apps, players and keys of the benchmark follow from their numbers, so that
// every process knows them without being told.

const (
	payPath   = "/cgi-bin/midas/pay"
	tokenPath = "/cgi-bin/stable_token"
	offerID   = "12345678"
)

// accessToken is as long as WeChat's are.
var accessToken = strings.Repeat("benchmark_access_token_0123456789_", 4)

func appID(i int) string  { return fmt.Sprintf("wx%07d", 1234567+i) }
func openID(i int) string { return fmt.Sprintf("odkx20ENSNa2w5y3g_q%09d", i) }

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
