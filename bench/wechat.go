package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// weChat is a fast WeChat: it answers payments, remembers none, and looks at the
// signatures where it is told to.
type weChat struct {
	manner   atomic.Pointer[manner]
	keys     sync.Map // name of an app or a player → key
	payments atomic.Int64
	verified atomic.Int64
	refused  atomic.Int64
}

// gateway is WeChat at the end of one connection.
type gateway struct {
	*weChat
	pause pause
}

func (g *gateway) close() { g.pause.close() }

func (g *gateway) answer(r *request, out []byte) []byte {
	switch r.path {
	case payPath, payPathV2:
		m := g.manner.Load()
		if m.Delay > 0 {
			g.pause.wait(m.Delay)
		}
		return g.pay(r, m.Verify, out)
	case tokenPath:
		return appendAnswer(out, "200 OK", []byte(`{"access_token":"`+accessToken+`","expires_in":7200}`))
	}
	return appendAnswer(out, "404 Not Found", nil)
}

func (w *weChat) pay(r *request, verify bool, out []byte) []byte {
	var buffer [256]byte
	body := append(buffer[:0], `{"errcode":0,"errmsg":"ok","balance":9872,"used_gen_amt":0,"bill_no":"`...)
	billNo, ok := billNoOf(r.body)
	switch {
	case !ok:
		return w.refuse(out, "40097 no bill_no")
	case verify:
		if err := w.verify(r); err != nil {
			return w.refuse(out, err.Error())
		}
		w.verified.Add(1)
	}
	w.payments.Add(1)
	return appendAnswer(out, "200 OK", append(append(body, billNo...), `"}`...))
}

// refuse answers with a code and the reason, which the load shows.
func (w *weChat) refuse(out []byte, reason string) []byte {
	w.refused.Add(1)
	code, text, _ := strings.Cut(reason, " ")
	return appendAnswer(out, "200 OK", []byte(`{"errcode":`+code+`,"errmsg":`+strconv.Quote(text)+`}`))
}

// billNoOf finds the bill_no in a request or an answer: none here escapes anything.
func billNoOf(body []byte) ([]byte, bool) {
	_, rest, ok := bytes.Cut(body, []byte(`"bill_no":"`))
	billNo, _, closed := bytes.Cut(rest, []byte(`"`))
	return billNo, ok && closed && len(billNo) > 0
}

type pair struct{ name, value string }

// verify checks the signatures as plainly as can be and without the product's own
// signer: a mistake there must not be made again here.
func (w *weChat) verify(r *request) error {
	fields, err := parseFlat(r.body)
	if err != nil {
		return err
	}
	if r.path == payPathV2 {
		return w.verifyV2(r, fields)
	}
	return w.verifyV1(r, fields)
}

// verifyV1 is the signature of WeChat's tutorial.
//
// https://developers.weixin.qq.com/minigame/en/dev/tutorial/open-ability/midas-signature.html
func (w *weChat) verifyV1(r *request, fields []pair) error {
	var signed []pair
	values := make(map[string]string, len(fields))
	for _, f := range fields {
		values[f.name] = f.value
		if f.name != "sig" && f.name != "mp_sig" {
			signed = append(signed, f)
		}
	}
	token, ok := strings.CutPrefix(r.query, "access_token=")
	if !ok || token != accessToken {
		return errors.New("40001 access_token is wrong")
	}
	key := w.key(values["appid"], midasKey)
	sig := hexHMAC(joined(signed)+"&org_loc="+r.path+"&method=POST&secret="+key, key)
	if values["sig"] != sig {
		return errors.New("90011 sig is wrong")
	}
	key = w.key(values["openid"], sessionKey)
	signed = append(signed, pair{"access_token", token}, pair{"sig", sig})
	if values["mp_sig"] != hexHMAC(joined(signed)+"&org_loc="+r.path+"&method=POST&session_key="+key, key) {
		return errors.New("90009 mp_sig is wrong")
	}
	return nil
}

// verifyV2 is the signature of the page about coins.
//
// https://developers.weixin.qq.com/minigame/introduction/commercialization/virtual-payment/coins.html
func (w *weChat) verifyV2(r *request, fields []pair) error {
	query, err := url.ParseQuery(r.query)
	values := make(map[string]string, len(fields))
	for _, f := range fields {
		values[f.name] = f.value
	}
	key := w.key(appOf(values["offer_id"]), midasKey)
	session := w.key(values["openid"], sessionKey)
	switch {
	case err != nil || query.Get("access_token") != accessToken:
		return errors.New("40001 access_token is wrong")
	case query.Get("sig_method") != "hmac_sha256":
		return errors.New("90018 sig_method is wrong")
	case query.Get("pay_sig") != hexHMAC(r.path+"&"+string(r.body), key):
		return errors.New("90011 pay_sig is wrong")
	case query.Get("signature") != hexHMAC(string(r.body), session):
		return errors.New("90010 signature is wrong")
	}
	return nil
}

// key remembers what it takes a hash to find.
func (w *weChat) key(name string, find func(string) string) string {
	if key, ok := w.keys.Load(name); ok {
		return key.(string)
	}
	key := find(name)
	w.keys.Store(name, key)
	return key
}

func joined(pairs []pair) string {
	slices.SortFunc(pairs, func(a, b pair) int { return strings.Compare(a.name, b.name) })
	var text strings.Builder
	for i, p := range pairs {
		if i > 0 {
			text.WriteByte('&')
		}
		text.WriteString(p.name + "=" + p.value)
	}
	return text.String()
}

func hexHMAC(text, key string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

// parseFlat reads an object of plain strings and numbers. Everything that a payment
// of this benchmark holds is one.
func parseFlat(body []byte) (fields []pair, err error) {
	strange := errors.New("47001 the body is not the JSON that is expected here")
	text, ok := strings.CutPrefix(strings.TrimSpace(string(body)), "{")
	if !ok || !strings.HasSuffix(text, "}") || strings.Contains(text, `\`) {
		return nil, strange
	}
	for member := range strings.SplitSeq(strings.TrimSuffix(text, "}"), ",") {
		name, value, ok := strings.Cut(member, ":")
		name, quoted := unquote(name)
		if !ok || !quoted {
			return nil, strange
		}
		value, _ = unquote(value)
		fields = append(fields, pair{name, value})
	}
	return fields, nil
}

func unquote(text string) (inside string, quoted bool) {
	text = strings.TrimSpace(text)
	if len(text) < 2 || text[0] != '"' || text[len(text)-1] != '"' {
		return text, false
	}
	return text[1 : len(text)-1], true
}
