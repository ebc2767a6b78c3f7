package wechat

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"midas-sidecar/internal/secrets"
	"midas-sidecar/signer"
)

// Request is what a caller wants of WeChat, checked. It is a value: nothing that
// is done with it changes it for anyone else. The zero Request wants nothing.
type Request struct {
	endpoint   Endpoint
	values     [maxFields]string // by the place of the API's field; "" is left out
	signedWith string
}

// Endpoint returns where the request goes.
func (r Request) Endpoint() Endpoint { return r.endpoint }

// Get returns the value of the field called name as it is signed, or "".
func (r Request) Get(name string) string {
	if r.endpoint.API == nil {
		return ""
	}
	if at := r.endpoint.API.index(name); at >= 0 {
		return r.values[at]
	}
	return ""
}

// BillNo returns the order number, or "" for a call that has none.
func (r Request) BillNo() string { return r.Get(billNo.name) }

// PayBillNo returns the number of the order that a cancelpay takes back, or "".
func (r Request) PayBillNo() string {
	if r.endpoint.API == CancelPay {
		return r.BillNo()
	}
	return r.Get(payBillNo.name)
}

// Scope returns what the bill_no is unique within, besides the app and environment:
// nothing in v1, the player and the zone in v2.
func (r Request) Scope() string {
	if r.endpoint.API.Family == V1 {
		return ""
	}
	return r.OpenID() + " " + r.Get(zoneID.name)
}

// OfferID returns the offer_id that the caller names, or "".
func (r Request) OfferID() string { return r.Get(offerID.name) }

// OpenID returns the player.
func (r Request) OpenID() string { return r.Get(openid.name) }

// ZoneID returns the zone, "" before Complete where the caller names none.
func (r Request) ZoneID() string { return r.Get(zoneID.name) }

// AppID returns the app that the caller names, or "".
func (r Request) AppID() string { return r.Get(appid.name) }

// Amount returns how many coins the call moves, 0 for none.
func (r Request) Amount() int64 {
	n, _ := strconv.ParseInt(r.Get(r.AmountField()), 10, 64) // checked by Decode
	return n
}

// AmountField names the field that Amount is in, "" if there is none.
func (r Request) AmountField() string {
	for _, name := range []string{amt.name, presentCounts.name, amount.name} {
		if r.Get(name) != "" {
			return name
		}
	}
	return ""
}

// CallerSigned names the signature or token that the caller sent of its own, ""
// if none. It is never part of the request.
func (r Request) CallerSigned() string { return r.signedWith }

// To returns the request as one for another environment.
func (r Request) To(where Environment) Request {
	r.endpoint = At(r.endpoint.API, where)
	if r.endpoint.API.Family.inBody {
		r.set(env.name, envNumbers[where])
	}
	return r
}

// followBody turns to the environment that the body names. One that names none goes
// where the endpoint says.
func (r *Request) followBody() {
	if !r.endpoint.API.Family.inBody {
		return
	}
	where := r.endpoint.Environment
	for environment, number := range envNumbers {
		if r.Get(env.name) == number {
			where = environment
		}
	}
	*r = r.To(where)
}

// envNumbers are the values of the field env.
var envNumbers = map[Environment]string{Official: "0", Sandbox: "1"}

// set changes a field that the API has.
func (r *Request) set(name, value string) { r.values[r.endpoint.API.index(name)] = value }

// Fingerprint tells orders apart that carry the same bill_no: it is the same for
// requests that ask for the same thing, whenever they are sent.
func (r Request) Fingerprint() [sha256.Size]byte {
	text := make([]byte, 0, 256)
	for i, f := range r.endpoint.API.fields {
		if f.name != ts.name && !f.incidental && r.values[i] != "" {
			text = append(text, f.name...)
			text = append(text, 0) // in no value: Decode refuses control characters
			text = append(text, r.values[i]...)
			text = append(text, 0)
		}
	}
	return sha256.Sum256(text)
}

// Cancel returns the cancelpay that takes this pay back as a whole. It is the same
// each time, so that it takes back once however often it is sent, and by whom.
func (r Request) Cancel() Request {
	api := r.endpoint.API.Cancel
	cancel := Request{endpoint: At(api, r.endpoint.Environment)}
	for i, f := range api.fields {
		cancel.values[i] = r.Get(f.name)
	}
	if api == CancelPayV2 {
		cancel.set(payBillNo.name, r.BillNo())
		cancel.set(billNo.name, r.refundNumber())
	}
	return cancel
}

// refundNumber is the bill_no of the refund of a whole order. It tells whose it is, has
// as many characters whatever the order's number has, and is another for another player
// or zone, should WeChat ever look for numbers in more than one of them, and for another
// amount: that it is in use then means that all of this order was given back.
func (r Request) refundNumber() string {
	sum := sha256.Sum256(fmt.Append(nil, r.Scope(), " ", r.BillNo(), " ", r.Amount()))
	return ours + hex.EncodeToString(sum[:20])
}

// checkPresence reports the first field that only the caller can fill and did
// not.
func (r Request) checkPresence() error {
	for i, f := range r.endpoint.API.fields {
		if r.values[i] == "" && !f.optional && !f.filled {
			return &FieldError{f.name, "is missing"}
		}
	}
	return nil
}

// Complete fills in what the caller may leave out: appid and offer_id of the app,
// zone_id "1", and in v1 pf "android". A *FieldError says that the caller's appid or
// offer_id is not the app's.
func (r Request) Complete(appID, appOfferID string) (Request, error) {
	for i, f := range r.endpoint.API.fields {
		given, want := r.values[i], f.fallback
		switch f.name {
		case appid.name:
			want = appID
		case offerID.name:
			want = appOfferID
		}
		switch {
		case given == "":
			r.values[i] = want
		case given != want && (f.name == appid.name || f.name == offerID.name):
			return r, &FieldError{f.name, "must be the configured app's"}
		}
	}
	return r, nil
}

// Keys are what a request is signed with. Session is nil where the app sends no
// mp_sig, which is of v1 alone.
type Keys struct {
	Midas       *signer.Key // of the environment that the request goes to
	Session     *signer.Key // the player's
	AccessToken secrets.Value
}

// Sign returns the request as it leaves, with the access_token in the query. now
// becomes ts, in UNIX seconds.
func (r Request) Sign(keys Keys, now time.Time) Outbound {
	return r.endpoint.API.Family.sign(r, keys, now.Unix())
}

// signV1 sends the fields in the order in which they are signed, then sig and mp_sig.
func signV1(r Request, keys Keys, now int64) Outbound {
	var list [maxFields]signer.Param
	params := r.appendParams(list[:0], now)
	text := signer.V1{Path: r.endpoint.Path, Params: params}
	token := keys.AccessToken.Reveal()

	var room [signer.Size]byte
	sig := string(text.AppendSig(room[:0], keys.Midas))
	body := r.appendBody(make([]byte, 0, 512), params)
	body = append(body, `,"sig":"`...)
	body = append(body, sig...)
	if keys.Session != nil {
		body = append(body, `","mp_sig":"`...)
		body = text.AppendMPSig(body, keys.Session, token, sig)
	}
	body = append(body, `"}`...)
	return newOutbound(r.endpoint.Path, tokenQuery(token), body)
}

// signV2 sends the bytes that it signs, and both signatures in the query.
func signV2(r Request, keys Keys, now int64) Outbound {
	var list [maxFields]signer.Param
	body := append(r.appendBody(make([]byte, 0, 512), r.appendParams(list[:0], now)), '}')
	text := signer.V2{Path: r.endpoint.Path, Body: body}
	query := append(make([]byte, 0, 512), tokenQuery(keys.AccessToken.Reveal())...)
	query = append(query, "&signature="...)
	query = text.AppendSignature(query, keys.Session)
	query = append(query, "&sig_method=hmac_sha256&pay_sig="...)
	query = text.AppendPaySig(query, keys.Midas)
	return newOutbound(r.endpoint.Path, string(query), body)
}

// CanonicalTexts returns the texts that the Midas key and the session_key sign, for a
// person to read: keys and token are masked.
func (r Request) CanonicalTexts(now time.Time) (byMidasKey, bySessionKey string) {
	const mask = "******"
	params := r.appendParams(nil, now.Unix())
	if r.endpoint.API.Family == V2 {
		body := string(r.appendBody(nil, params)) + "}"
		return r.endpoint.Path + "&" + body, body
	}
	text := signer.V1{Path: r.endpoint.Path, Params: params}
	return string(text.AppendSigText(nil, mask)), string(text.AppendMPSigText(nil, mask, mask, mask))
}

// appendParams appends the fields that are signed and sent, sorted by name.
func (r Request) appendParams(dst []signer.Param, now int64) []signer.Param {
	for i, f := range r.endpoint.API.fields {
		value := r.values[i]
		if f.name == ts.name {
			value = strconv.FormatInt(now, 10)
		}
		if value != "" && !f.ours {
			dst = append(dst, signer.Param{Name: f.name, Value: value})
		}
	}
	return dst
}

// appendBody appends params as a JSON object whose end is still open.
func (r Request) appendBody(dst []byte, params []signer.Param) []byte {
	for i, p := range params {
		dst = append(dst, "{,"[min(i, 1)])
		dst = append(dst, '"')
		dst = append(dst, p.Name...)
		dst = append(dst, `":`...)
		if r.endpoint.API.fields[r.endpoint.API.index(p.Name)].number {
			dst = append(dst, p.Value...)
		} else {
			dst, _ = jsontext.AppendQuote(dst, p.Value) // valid UTF-8: Decode read it
		}
	}
	return dst
}

// Outbound is a message ready to leave for WeChat. Query and body hold secrets;
// printed or logged it shows its path only.
type Outbound struct {
	path string
	// Behind a func: fmt asks no method of an Outbound in another struct's
	// unexported field and prints what it is made of, here an address.
	secret func() (query string, body []byte)
}

// Path returns the URL's path.
func (o Outbound) Path() string { return o.path }

// Method returns the method: a message without a body asks with GET.
func (o Outbound) Method() string {
	if len(o.Body()) == 0 {
		return "GET"
	}
	return "POST"
}

// Query returns the URL's encoded query, which holds the access_token.
func (o Outbound) Query() string {
	query, _ := o.secret()
	return query
}

// Body returns the bytes to send. They must not be changed.
func (o Outbound) Body() []byte {
	_, body := o.secret()
	return body
}

// Format shows the method and the path alone.
func (o Outbound) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, o.Method()+" "+o.path) }

var _ fmt.Formatter = Outbound{}
