// Package wechat is the vocabulary of WeChat's virtual payment ("Midas"): which
// APIs there are, on which paths, with which fields; what an errcode means; how a
// caller's unsigned JSON becomes a signed call. It does no I/O.
//
// Sources: https://developers.weixin.qq.com/minigame/en/dev/api-backend/midas-payment/midas.pay.html
// and its siblings midas.cancelPay, midas.getBalance and midas.present (v1);
// https://developers.weixin.qq.com/minigame/introduction/commercialization/virtual-payment/coins.html (v2).
package wechat

// Environment is where a call goes. Each has its own Midas key and its own coins.
type Environment string

// The environments.
const (
	Official Environment = "official"
	Sandbox  Environment = "sandbox"
)

// Family is one of the two generations of the API: v1 for games that enabled virtual
// payment before 2022-11-05, v2 for those that came later.
type Family struct {
	// Name is "v1" or "v2".
	Name string

	paths map[Environment]string // what stands before an API's name
	// inBody: the field env names the environment, not the path.
	inBody bool
	sign   func(Request, Keys, int64) Outbound
}

// The families. A v2 call is always signed for the player, too.
var (
	V1 = &Family{Name: "v1", paths: map[Environment]string{Official: "/cgi-bin/midas/", Sandbox: "/cgi-bin/midas/sandbox/"}, sign: signV1}
	V2 = &Family{Name: "v2", paths: map[Environment]string{Official: v2Path, Sandbox: v2Path}, inBody: true, sign: signV2}
)

const v2Path = "/wxa/game/"

// API is one of WeChat's payment APIs. The values are the only ones there are;
// compare them by pointer.
type API struct {
	// Name as WeChat writes it in the path: "pay".
	Name string
	// Family is the one it belongs to.
	Family *Family
	// MovesCoins reports whether a call moves coins. A call that only reads may be
	// repeated without thought.
	MovesCoins bool
	// Cancel is the API that takes back what this one did, nil if none does.
	Cancel *API

	fields []field // sorted by name
}

// The v1 APIs.
var (
	GetBalance = &API{Name: "getbalance", Family: V1, fields: v1Fields()}
	Pay        = &API{Name: "pay", Family: V1, MovesCoins: true, Cancel: CancelPay, fields: v1Fields(amt, appRemark, billNo, payItem)}
	CancelPay  = &API{Name: "cancelpay", Family: V1, MovesCoins: true, fields: v1Fields(billNo, cancelledItem)}
	Present    = &API{Name: "present", Family: V1, MovesCoins: true, fields: v1Fields(billNo, presentCounts)}
)

// The v2 APIs. A cancelpay's bill_no is the refund's own; pay_bill_no is the order's,
// of which it gives amount back.
var (
	GetBalanceV2   = &API{Name: "getbalance", Family: V2, fields: v2Fields(coinType)}
	PayV2          = &API{Name: "pay", Family: V2, MovesCoins: true, Cancel: CancelPayV2, fields: v2Fields(amount, billNoV2, payitem, remark)}
	CancelPayV2    = &API{Name: "cancelpay", Family: V2, MovesCoins: true, fields: v2Fields(amount, billNoV2, payBillNo)}
	PresentV2      = &API{Name: "present", Family: V2, MovesCoins: true, fields: v2Fields(amount, billNoV2)}
	QueryOrderInfo = &API{Name: "queryorderinfo", Family: V2, fields: v2Fields(bizID, outTradeNo)}
)

// APIs are all of them, in the order in which the documents list them.
var APIs = []*API{Pay, CancelPay, GetBalance, Present, PayV2, CancelPayV2, GetBalanceV2, PresentV2, QueryOrderInfo}

func (a *API) String() string { return a.Name }

// CancelOf returns the API whose orders this one takes back, nil if it takes back none.
func (a *API) CancelOf() *API {
	for _, other := range APIs {
		if other.Cancel == a {
			return other
		}
	}
	return nil
}

// Cancels reports whether the API takes back what another did.
func (a *API) Cancels() bool { return a.CancelOf() != nil }

// Endpoint is where an API is served: by WeChat and, since the paths are the
// same, by us.
type Endpoint struct {
	API         *API
	Environment Environment
	// Path is the path without query, which both families sign.
	Path string
}

// endpoints are the endpoints by path. At a path that serves both environments, that
// is the official one's.
var endpoints = func() map[string]Endpoint {
	all := make(map[string]Endpoint)
	for _, api := range APIs {
		for _, env := range []Environment{Sandbox, Official} {
			e := At(api, env)
			all[e.Path] = e
		}
	}
	return all
}()

// At returns the endpoint of an API in an environment.
func At(api *API, env Environment) Endpoint {
	return Endpoint{API: api, Environment: env, Path: api.Family.paths[env] + api.Name}
}

// EndpointOf returns the endpoint at path, if there is one. Where a v2 call goes, its
// body may say otherwise: see Request.Endpoint.
func EndpointOf(path string) (Endpoint, bool) {
	e, ok := endpoints[path]
	return e, ok
}
