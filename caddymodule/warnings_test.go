package caddymodule_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/require"
)

const basicAuth = "basic_auth {\n game $2a$04$d12VQXHPD3nYoMBzQdYIA.hRD88l8WTsyTPJCzL0n3.vcmx.eCAEq\n }\n"

// clientAuth is TLS with a certificate of the test's, which callers must show.
func clientAuth(t *testing.T, mode string) string {
	t.Helper()
	line, certificate := serverTLS(t)
	return fmt.Sprintf("%s {\n client_auth {\n mode %s\n trust_pool file %q\n }\n }\n", line, mode, certificate)
}

func TestWhereAnyoneFromOutsideMayPayTheLogWarnsAtTheStart(t *testing.T) {
	// A site address alone, even of loopback, does not bind.
	require.Equal(t, []string{":0"}, exposed(t, "http://127.0.0.1:0 {\n midas\n }"))
	require.Equal(t, []string{"0.0.0.0:0"}, exposed(t, "http://:0 {\n bind 0.0.0.0\n midas\n }"))
}

func TestWhatCannotBeReachedFromOutsideIsNotWarnedOf(t *testing.T) {
	for name, bind := range map[string]string{
		"loopback":    "127.0.0.1",
		"localhost":   "localhost",
		"unix socket": "unix/" + filepath.Join(t.TempDir(), "midas.sock") + "|0660",
	} {
		t.Run(name, func(t *testing.T) {
			require.Empty(t, exposed(t, "http://:0 {\n bind "+bind+"\n midas\n }"))
		})
	}
}

func TestOfTheAddressesOfAServerThoseAreNamedThatCanBeReached(t *testing.T) {
	require.Equal(t, []string{"0.0.0.0:0"}, exposed(t, "http://:0 {\n bind 127.0.0.1 0.0.0.0\n midas\n }"))
}

func TestEachServerIsWarnedOfByItself(t *testing.T) {
	require.ElementsMatch(t, []string{"0.0.0.0:0", ":0"}, exposed(t, `
		http://:0 {
			bind 0.0.0.0
			midas
		}
		http://a.test:0 {
			midas
		}
		http://b.test:0 {
			bind 127.0.0.1
			midas
		}`))
}

func TestASiteThatServesOtherThingsIsNotWarnedOf(t *testing.T) {
	require.Empty(t, exposed(t, "http://:0 {\n midas_health\n respond hello\n }"))
}

func TestWhereEveryCallerIsAuthenticatedNothingIsWarnedOf(t *testing.T) {
	for name, site := range map[string]string{
		"basic_auth":                basicAuth + "midas",
		"in a handle block":         "handle /cgi-bin/* {\n" + basicAuth + "midas\n }",
		"before a handle block":     basicAuth + "handle /cgi-bin/* {\n midas\n }",
		"for the same paths":        "@pay path /cgi-bin/*\n basic_auth @pay {\n game $2a$04$d12VQXHPD3nYoMBzQdYIA.hRD88l8WTsyTPJCzL0n3.vcmx.eCAEq\n }\n midas @pay",
		"in a route block":          "route {\n" + basicAuth + "midas\n }",
		"by another server":         "forward_auth 127.0.0.1:9 {\n uri /check\n }\n midas",
		"private addresses":         "@game remote_ip private_ranges\n midas @game",
		"one private address":       "@game remote_ip 10.1.2.3 192.168.7.0/24\n midas @game",
		"private clients":           "@game client_ip private_ranges\n midas @game",
		"private or basic_auth":     "@game remote_ip private_ranges\n midas @game\n handle {\n" + basicAuth + "midas\n }",
		"in the block of a matcher": "@game remote_ip private_ranges\n handle @game {\n midas\n }",
		"before, in a block":        "route {\n route {\n" + basicAuth + "}\n midas\n }",
		"when an error is shown":    "handle_errors {\n" + basicAuth + "midas\n }",
	} {
		t.Run(name, func(t *testing.T) {
			require.Empty(t, exposed(t, "http://:0 {\n"+site+"\n }"))
		})
	}
}

func TestWhereAuthenticationCanBePassedByTheLogWarns(t *testing.T) {
	t.Setenv("OTHERS", "203.0.113.0/24")
	for name, site := range map[string]string{
		"for other paths":        "basic_auth /admin/* {\n game $2a$04$d12VQXHPD3nYoMBzQdYIA.hRD88l8WTsyTPJCzL0n3.vcmx.eCAEq\n }\n midas",
		"after the handler":      "route {\n midas\n" + basicAuth + "}",
		"in another block":       "handle /admin/* {\n" + basicAuth + "midas\n }\n handle {\n midas\n }",
		"in a block not taken":   "handle /cgi-bin/* {\n header X-Game 1\n }\n handle {\n" + basicAuth + "}\n midas",
		"public addresses":       "@game remote_ip 203.0.113.0/24\n midas @game",
		"more than private":      "@game remote_ip private_ranges 0.0.0.0/0\n midas @game",
		"wider than private":     "@game remote_ip 10.0.0.0/7\n midas @game",
		"public clients":         "@game client_ip 203.0.113.7\n midas @game",
		"unknown addresses":      "@game remote_ip 10.0.0.0/8 {env.OTHERS}\n midas @game",
		"private, or a header":   "@game `remote_ip('10.0.0.0/8') || header({'X-Game': '1'})`\n midas @game",
		"any header":             "@game header X-Game 1\n midas @game",
		"when an error is shown": basicAuth + "handle_errors {\n midas\n }",
		"and errors are shown":   "midas\n handle_errors {\n respond sorry\n }",
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, []string{":0"}, exposed(t, "http://:0 {\n"+site+"\n }"))
		})
	}
}

func TestANamedRouteIsFollowed(t *testing.T) {
	site := "http://:0 {\n invoke pay\n }"
	require.Equal(t, []string{":0"}, exposed(t, "&(pay) {\n midas\n }\n"+site))
	require.Equal(t, []string{":0"}, exposed(t, "&(pay) {\n route {\n invoke pay\n midas\n }\n }\n"+site))
	require.Equal(t, []string{":0"}, exposed(t, "&(pay) {\n invoke pay_now\n }\n&(pay_now) {\n midas\n }\n"+site))
	require.Empty(t, exposed(t, "&(pay) {\n route {\n"+basicAuth+"midas\n }\n }\n"+site))
	check := "&(check) {\n" + basicAuth + "}\nhttp://:0 {\n route {\n invoke check\n midas\n }\n }"
	require.Empty(t, exposed(t, check))
	require.Equal(t, []string{":0"}, exposedWith(t, check, `"name":"check"`, `"name":"nowhere"`))
}

// A Caddyfile cannot say that a block has error routes of its own.
func TestTheErrorRoutesOfABlockAreFollowed(t *testing.T) {
	const subroute, midas, auth = `"handler":"subroute"`, `{"handler":"midas"}`, `{"handler":"authentication"}`
	errors := func(handler string) string {
		return subroute + `,"errors":{"routes":[{"handle":[` + handler + `]}]}`
	}
	for name, c := range map[string]struct {
		block, handler string
		want           []string
	}{
		"they pay":                              {"route {\n" + basicAuth + "respond hello\n }", midas, []string{":0"}},
		"they do not, but the block does":       {"route {\n midas\n }", auth, []string{":0"}},
		"they authenticate, the block does not": {"route {\n header X-Game 1\n }\n midas", auth, []string{":0"}},
		"the block authenticates":               {"route {\n route {\n" + basicAuth + "}\n midas\n }", `{"handler":"static_response"}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, exposedWith(t, "http://:0 {\n"+c.block+"\n }", subroute, errors(c.handler)))
		})
	}
}

func TestWhereCallersMustShowACertificateNothingIsWarnedOf(t *testing.T) {
	require.Empty(t, exposed(t, "https://midas.test:0 {\n"+clientAuth(t, "require_and_verify")+"midas\n }"))
	require.Empty(t, exposed(t, "https://:0 {\n"+clientAuth(t, "require_and_verify")+"midas\n }"), "whatever the name")
	require.Empty(t, exposed(t, besideAnOpenSite(t)))
}

// Only the listed certificates are taken, whoever signed them.
func TestAListOfCertificatesNeedsNoAuthority(t *testing.T) {
	line, certificate := serverTLS(t)
	for _, mode := range []string{"require_and_verify", "require"} {
		site := fmt.Sprintf("https://midas.test:0 {\n%s {\n client_auth {\n mode %s\n verifier leaf file %q\n }\n }\n midas\n }", line, mode, certificate)
		require.Empty(t, exposed(t, site), mode)
	}
}

// besideAnOpenSite is a site with certificates for callers next to one without.
func besideAnOpenSite(t *testing.T) string {
	open, _ := serverTLS(t)
	return "https://midas.test:0 {\n" + clientAuth(t, "require_and_verify") + "midas\n }\n" +
		"https://open.test:0 {\n" + open + "\n respond hello\n }"
}

func TestATLSPolicyIsHeldAgainstACallerFromTheInternet(t *testing.T) {
	const policies = `"tls_connection_policies":[`
	for name, c := range map[string]struct {
		policy string
		want   []string
	}{
		"for callers from inside": {`{"match":{"remote_ip":{"ranges":["10.0.0.0/8"]}}},`, nil},
		"for callers from there":  {`{"match":{"remote_ip":{"ranges":["203.0.113.0/24"]}}},`, []string{":0"}},
		"for an address of ours":  {`{"match":{"local_ip":{"ranges":["127.0.0.1"]}}},`, nil},
		"for the name":            {`{"match":{"sni":["midas.test"]}},`, []string{":0"}},
		"that takes nobody":       {`{"match":{"sni":["midas.test"]},"drop":true},`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, exposedWith(t, besideAnOpenSite(t), policies, policies+c.policy))
		})
	}
	nameless := "https://:0 {\n" + clientAuth(t, "require_and_verify") + "midas\n }"
	require.Empty(t, exposedWith(t, nameless, policies, policies+`{"match":{"sni":["open.test"]},"drop":true},`))
}

func TestACertificateThatNeedNotBeShownOrIsNotVerifiedIsWarnedOf(t *testing.T) {
	for _, mode := range []string{"request", "require", "verify_if_given"} {
		require.Equal(t, []string{":0"}, exposed(t, "https://midas.test:0 {\n"+clientAuth(t, mode)+"midas\n }"), mode)
	}
	bare, _ := serverTLS(t)
	anyAuthority := bare + " {\n client_auth {\n mode require_and_verify\n }\n }\n"
	require.Equal(t, []string{":0"}, exposed(t, "https://midas.test:0 {\n"+anyAuthority+"midas\n }"), "any public authority")
	open, _ := serverTLS(t)
	certificate := clientAuth(t, "require_and_verify")
	for name, sites := range map[string]string{
		"another site is open":      "https://midas.test:0 {\n" + certificate + "midas\n }\n https://open.test:0 {\n " + open + "\n midas\n }",
		"one of the names is open":  "https://a.midas.test:0 {\n" + certificate + "respond hello\n }\n https://*.midas.test:0 {\n " + open + "\n midas\n }",
		"a name of many is open":    "https://*.midas.test:0 {\n" + certificate + "midas\n }\n https://a.midas.test:0 {\n " + open + "\n respond hello\n }",
		"any name may be asked for": "https://a.midas.test:0, https://:0 {\n" + certificate + "midas\n }\n https://b.midas.test:0 {\n " + open + "\n midas\n }",
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, []string{":0"}, exposed(t, sites))
		})
	}
}

func TestANameThatIsAPlaceholderIsWarnedOf(t *testing.T) {
	open, _ := serverTLS(t)
	sites := "https://open.test:0 {\n" + open + "\n midas\n }\n https://:0 {\n" + clientAuth(t, "require_and_verify") + "respond hello\n }"
	require.Equal(t, []string{":0"}, exposedWith(t, sites, `"host":["open.test"]`, `"host":["{env.MIDAS_HOST}"]`))
}

// Under domain fronting, the name of the handshake says nothing about the site.
func TestACertificateForAnotherHostNameThanTheRequestsIsWarnedOf(t *testing.T) {
	site := "https://midas.test:0 {\n" + clientAuth(t, "require_and_verify") + "midas\n }"
	require.Equal(t, []string{":0"}, exposed(t, site, "servers {\n strict_sni_host insecure_off\n }"))
}

// Caddy speaks no TLS on the HTTP port, whatever the server's policies say.
func TestTheHTTPPortIsWarnedOfThoughTheServerHasCertificates(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	port := listener.Addr().(*net.TCPAddr).Port

	site := "https://midas.test:0 {\n" + clientAuth(t, "require_and_verify") + "midas\n }"
	with := func(httpPort int) []string {
		return exposedWith(t, site,
			`"http":{`, fmt.Sprintf(`"http":{"http_port":%d,`, httpPort),
			`"listen":[":0"]`, fmt.Sprintf(`"listen":[":0",":%d"]`, port))
	}
	require.Equal(t, []string{fmt.Sprintf(":%d", port)}, with(port))
	require.Empty(t, with(port-1))
	require.Empty(t, with(port+1))
}

func TestAnAdminAPIThatListensOnAPortIsWarnedOf(t *testing.T) {
	t.Setenv("ADMIN_HOST", "localhost")
	standard := caddy.DefaultAdminListen
	caddy.DefaultAdminListen = "localhost:0"
	t.Cleanup(func() { caddy.DefaultAdminListen = standard })
	for name, c := range map[string]struct{ options, listen string }{
		"where nothing is said of it": {"", "localhost:0"},
		"with an option but no place": {"admin {\n enforce_origin\n }", "localhost:0"},
		"on loopback":                 {"admin 127.0.0.1:0", "127.0.0.1:0"},
		"on every interface":          {"admin :0", ":0"},
		"at a placeholder":            {"admin {env.ADMIN_HOST}:0", "localhost:0"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, []string{c.listen}, adminWarnings(t, c.options))
		})
	}
}

func TestAnAdminAPIThatOtherUsersCannotReachIsNotWarnedOf(t *testing.T) {
	require.Empty(t, adminWarnings(t, "admin off"))
	require.Empty(t, adminWarnings(t, "admin unix/"+filepath.Join(t.TempDir(), "admin.sock")+"|0600"))
}

// adminWarnings starts a sidecar with this option in place of "admin off", and returns the
// addresses of the admin API that its log warns of.
func adminWarnings(t *testing.T, option string) (addresses []string) {
	t.Helper()
	config, log := exposureConfig(t, option, "")
	for _, w := range warnings(t, config, log) {
		if strings.Contains(w.Msg, "admin API") {
			var listen string
			require.NoError(t, json.Unmarshal(w.Listen, &listen))
			addresses = append(addresses, listen)
		}
	}
	return addresses
}

// exposed starts a sidecar with these sites, and returns the addresses that its log
// warns of.
func exposed(t *testing.T, sites string, options ...string) []string {
	t.Helper()
	config, log := exposureConfig(t, "admin off\n"+strings.Join(options, "\n"), sites)
	return warnedOf(t, config, log)
}

// exposedWith is exposed where parts of the JSON are others, given as by
// strings.NewReplacer: what a Caddyfile cannot say.
func exposedWith(t *testing.T, sites string, oldNew ...string) []string {
	t.Helper()
	config, log := exposureConfig(t, "admin off", sites)
	for i := 0; i < len(oldNew); i += 2 {
		require.Contains(t, string(config), oldNew[i])
	}
	return warnedOf(t, []byte(strings.NewReplacer(oldNew...).Replace(string(config))), log)
}

func exposureConfig(t *testing.T, options, sites string) (config []byte, log string) {
	t.Helper()
	log = filepath.Join(t.TempDir(), "log")
	config, err := adapt(fmt.Sprintf(`{
		persist_config off
		auto_https off
		log {
			output file %q
			format json
		}
		midas {
			secrets file /nowhere
			app %s {
				offer_id 12345678
			}
		}
		%s
	}
	%s`, log, appID, options, sites))
	require.NoError(t, err)
	return config, log
}

func warnedOf(t *testing.T, config []byte, log string) (addresses []string) {
	t.Helper()
	for _, w := range warnings(t, config, log) {
		if strings.HasPrefix(w.Msg, "anyone who reaches this listener can spend players' coins") {
			var listen []string
			require.NoError(t, json.Unmarshal(w.Listen, &listen))
			require.NotEmpty(t, listen)
			addresses = append(addresses, listen...)
		}
	}
	return addresses
}

// warning is a line of the log.
type warning struct {
	Level, Msg, Field string
	Listen            json.RawMessage
}

// warnings starts a sidecar and returns what its log warns of.
func warnings(t *testing.T, config []byte, log string) (all []warning) {
	t.Helper()
	require.NoError(t, caddy.Load(config, true))
	require.NoError(t, caddy.Stop())
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		var w warning
		require.NoError(t, json.Unmarshal([]byte(line), &w))
		if w.Level == "warn" {
			all = append(all, w)
		}
	}
	return all
}

// serverTLS is a line of TLS with a certificate of the test's, which signs itself.
func serverTLS(t *testing.T) (line, certificate string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"midas.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	}
	return fmt.Sprintf("tls %q %q", certFile, keyFile), certFile
}
