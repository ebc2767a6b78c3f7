// Command vaultserver is a real HashiCorp Vault for the tests: Vault's own
// core, HTTP API, KV secrets engine and auth methods, with storage in memory and
// nothing else built in.
//
// It prints "listening on <address>" once it accepts connections and stops when
// its standard input is closed, so that it never outlives the test that started
// it. Tests initialise, unseal and mount through the HTTP API, as an operator
// would.
//
// It lives in a module of its own: Vault's dependencies (and its licence,
// BUSL-1.1) stay out of the product.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "`address` to listen on")
	certFile := flag.String("tls-cert", "", "PEM `file` of a certificate: speak TLS, and ask for the client's certificate")
	keyFile := flag.String("tls-key", "", "PEM `file` of its key")
	level := flag.String("log-level", "error", "log `level`: trace, debug, info, warn, error or off")
	flag.Parse()

	if err := serve(*listen, *certFile, *keyFile, hclog.LevelFromString(*level)); err != nil {
		log.Fatal("vaultserver: ", err)
	}
}

func serve(address, certFile, keyFile string, level hclog.Level) error {
	logger := hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: level})

	storage, err := inmem.NewInmem(nil, logger)
	if err != nil {
		return fmt.Errorf("creating storage: %w", err)
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical: storage,
		Logger:   logger,
		// Locking memory needs a privilege that tests should not need.
		DisableMlock:       true,
		LogicalBackends:    builtin[consts.PluginTypeSecrets],
		CredentialBackends: builtin[consts.PluginTypeCredential],
		BuiltinRegistry:    registry{},
	})
	if err != nil {
		return fmt.Errorf("creating core: %w", err)
	}

	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	server := &http.Server{
		Handler: vaulthttp.Handler.Handler(&vault.HandlerProperties{
			Core:           core,
			ListenerConfig: &configutil.Listener{},
		}),
		ReadHeaderTimeout: 10 * time.Second,
		// As Vault's own listener does: whether a certificate is good, the auth
		// method decides.
		TLSConfig: &tls.Config{ClientAuth: tls.RequestClientCert},
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()

	fmt.Println("listening on", listener.Addr())
	if certFile != "" {
		return server.ServeTLS(listener, certFile, keyFile)
	}
	return server.Serve(listener)
}
