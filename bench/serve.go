package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// places are where the stand-ins for WeChat and Vault listen.
type places struct{ WeChat, Vault string }

// manner is how WeChat answers from now on.
type manner struct {
	Verify bool
	Delay  time.Duration
}

// counters are what WeChat and Vault have seen since they started.
type counters struct {
	Payments    int64
	Verified    int64 // of them, with signatures that were right
	Refused     int64
	Connections int64 // to WeChat
	VaultCalls  int64
}

func (c counters) since(before counters) counters {
	return counters{
		Payments: c.Payments - before.Payments, Verified: c.Verified - before.Verified, Refused: c.Refused - before.Refused,
		Connections: c.Connections - before.Connections, VaultCalls: c.VaultCalls - before.VaultCalls,
	}
}

// serve stands in for WeChat and Vault. It says where, and then answers each manner
// that it is told with the counters.
func serve(in *json.Decoder, out *json.Encoder) error {
	toWeChat, err := listen()
	if err != nil {
		return err
	}
	toVault, err := listen()
	if err != nil {
		return err
	}
	var (
		w weChat
		v vault
	)
	w.manner.Store(&manner{})
	go toWeChat.serve(func() handler { return &gateway{weChat: &w} })
	go toVault.serve(func() handler { return &v })
	if err := out.Encode(places{toWeChat.address(), toVault.address()}); err != nil {
		return err
	}
	for {
		var m manner
		if err := in.Decode(&m); err != nil {
			return err
		}
		w.manner.Store(&m)
		c := counters{
			Payments: w.payments.Load(), Verified: w.verified.Load(), Refused: w.refused.Load(),
			Connections: toWeChat.connections.Load(), VaultCalls: v.calls.Load(),
		}
		if err := out.Encode(c); err != nil {
			return err
		}
	}
}

// vault answers as a Vault with a KV engine of version 2 that holds the secrets of
// every app and player.
type vault struct{ calls atomic.Int64 }

func (*vault) close() {}

func (v *vault) answer(r *request, out []byte) []byte {
	v.calls.Add(1)
	var data string
	secret, isSecret := strings.CutPrefix(r.path, "/v1/secret/data/midas/")
	app, player, isSession := strings.Cut(secret, "/sessions/")
	switch {
	case r.path == "/v1/auth/token/lookup-self":
		data = `{"ttl":0,"renewable":false}`
	case r.path == "/v1/sys/internal/ui/mounts/secret":
		data = `{"path":"secret/","type":"kv","options":{"version":"2"}}`
	case isSession:
		data = fmt.Sprintf(`{"data":{"session_key":%q},"metadata":{"version":1}}`, sessionKey(player))
	case isSecret:
		data = fmt.Sprintf(`{"data":{"midas_key":%q,"midas_key_sandbox":"of-the-sandbox","app_secret":"of-the-app"},"metadata":{"version":1}}`, midasKey(app))
	default:
		return appendAnswer(out, "404 Not Found", []byte(`{"errors":[]}`))
	}
	return appendAnswer(out, "200 OK", []byte(`{"data":`+data+`}`))
}
