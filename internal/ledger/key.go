package ledger

import (
	"crypto/sha256"
	"iter"
	"slices"

	"midas-sidecar/internal/wechat"
)

// hash stands for a text: half of its SHA-256. Among 100,000 orders, two share one by
// chance once in 10^28 ledgers. Callers choose what their orders say: finding two that
// share one takes 2^64 tries and harms no other caller, meeting another's takes 2^128.
type hash [sha256.Size / 2]byte

// key is what an order is remembered under.
type key struct {
	api    *wechat.API
	number hash // its bill_no, and all that WeChat knows numbers by
}

// keyOf returns the key of an order.
func keyOf(order wechat.Request) key { return keyFor(order, order.Endpoint().API, order.BillNo()) }

// keyFor returns the key of that API's order numbered billNo, where order goes.
func keyFor(order wechat.Request, api *wechat.API, billNo string) key {
	var room [256]byte
	text := room[:0]
	for _, part := range [...]string{
		order.AppID(), string(order.Endpoint().Environment), api.Family.Name, order.Scope(), billNo,
	} {
		text = append(text, part...)
		text = append(text, 0) // in no part: Decode refuses control characters
	}
	sum := sha256.Sum256(text)
	return key{api, hash(sum[:])}
}

// id is the key as one hash, which differs between the APIs of a number.
func (k key) id() hash {
	id := k.number
	id[0] ^= byte(1 + slices.Index(wechat.APIs, k.api)) //nolint:gosec // they are few
	return id
}

// otherAPIs yields the ids of the same number under the family's other APIs: a number is
// one for all of them. Only v1's cancelpay has none of its own, for it names a pay's.
func (k key) otherAPIs() iter.Seq[hash] {
	return func(yield func(hash) bool) {
		if k.api == wechat.CancelPay {
			return
		}
		for _, api := range wechat.APIs {
			shares := api.MovesCoins && api.Family == k.api.Family && api != k.api && api != wechat.CancelPay
			if shares && !yield(key{api, k.number}.id()) {
				return
			}
		}
	}
}

// cancelTarget is what a cancel takes back.
type cancelTarget struct {
	key
	id     hash
	amount int64 // 0 for all there is
}

// cancelTargetOf returns what the order takes back, nil if it takes back nothing.
func cancelTargetOf(order wechat.Request) *cancelTarget {
	api := order.Endpoint().API.CancelOf()
	if api == nil {
		return nil
	}
	pay := keyFor(order, api, order.PayBillNo())
	return &cancelTarget{pay, pay.id(), order.Amount()}
}
