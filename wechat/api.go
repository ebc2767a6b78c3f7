// Package wechat is the vocabulary of WeChat's virtual payment ("Midas"): which
// APIs there are, on which paths, with which fields; what an errcode means; how a
// caller's unsigned JSON becomes a signed call. It does no I/O.
//
// Sources: https://developers.weixin.qq.com/minigame/en/dev/api-backend/midas-payment/midas.pay.html
// and its siblings midas.cancelPay, midas.getBalance and midas.present.
package wechat

// Environment is where a call goes. Each has its own Midas key and its own coins.
type Environment string

// The environments.
const (
	Official Environment = "official"
	Sandbox  Environment = "sandbox"
)

// API is one of WeChat's payment APIs. The values are the only ones there are;
// compare them by pointer.
type API struct {
	// Name as WeChat writes it in the path: "pay".
	Name string
	// Moves tells whether a call moves coins. A call that only reads may be
	// repeated without thought.
	Moves bool

	fields []field // sorted by name
}

// The v1 APIs.
var (
	GetBalance = &API{Name: "getbalance", fields: v1Fields()}
	Pay        = &API{Name: "pay", Moves: true, fields: v1Fields(amt, appRemark, billNo, payItem)}
	CancelPay  = &API{Name: "cancelpay", Moves: true, fields: v1Fields(billNo, cancelledItem)}
	Present    = &API{Name: "present", Moves: true, fields: v1Fields(billNo, presentCounts)}
)

// APIs are all of them, in the order in which the documents list them.
var APIs = []*API{Pay, CancelPay, GetBalance, Present}

func (a *API) String() string { return a.Name }

// Endpoint is where an API is served: by WeChat and, since the paths are the
// same, by us.
type Endpoint struct {
	API         *API
	Environment Environment
	// Path is the path without query, which v1 signs as org_loc.
	Path string
}

const v1Prefix = "/cgi-bin/midas/"

var endpoints = func() map[string]Endpoint {
	all := make(map[string]Endpoint)
	for _, api := range APIs {
		for _, env := range []Environment{Official, Sandbox} {
			e := At(api, env)
			all[e.Path] = e
		}
	}
	return all
}()

// At returns the endpoint of an API in an environment.
func At(api *API, env Environment) Endpoint {
	path := v1Prefix + api.Name
	if env == Sandbox {
		path = v1Prefix + "sandbox/" + api.Name
	}
	return Endpoint{API: api, Environment: env, Path: path}
}

// EndpointOf returns the endpoint at path, if there is one.
func EndpointOf(path string) (Endpoint, bool) {
	e, ok := endpoints[path]
	return e, ok
}
