//go:build unix

package integration

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
)

// The three Caddyfiles of the README's section "Deployments", in its order.
const (
	loopback = iota
	unixSocket
	clientCertificates
)

func TestOnLoopbackTheHostPaysAndNobodyElseReachesIt(t *testing.T) {
	d := deployed(t, loopback)
	require.Equal(t, "applied", d.pay(t, http.DefaultClient, "http://127.0.0.1:"+d.port, "b1"))
	for _, address := range otherAddresses(t) {
		_, err := net.DialTimeout("tcp", net.JoinHostPort(address, d.port), time.Second)
		require.Error(t, err, address)
	}
}

func TestThroughAUnixSocketThoseOfItsGroupPayAndNobodyElse(t *testing.T) {
	d := deployed(t, unixSocket)
	socket, admin := filepath.Join(d.dir, "pay.sock"), filepath.Join(d.dir, "admin.sock")
	require.Equal(t, "applied", d.pay(t, d.by("pay.sock"), "http://localhost", "b1"))
	d.runsTheREADMEs(t, "--unix-socket", "Unix_1")
	require.Equal(t, os.FileMode(0o660), modeOf(t, socket))
	require.Equal(t, os.FileMode(0o600), modeOf(t, admin))

	curl, err := exec.LookPath("curl")
	if os.Getuid() != 0 || err != nil {
		t.Skip("no other user tries the sockets: that takes root, and curl")
	}
	try := func(socket string, groups ...uint32) (string, error) {
		command := exec.Command(curl, "-sS", "-i", "--unix-socket", socket, "http://localhost/cgi-bin/midas/pay",
			"-H", "Content-Type: application/json", "-d", order("b2"))
		asNobody(command, groups...)
		output, err := command.CombinedOutput()
		return string(output), err
	}
	_, err = try(socket)
	require.Error(t, err, "another user")
	_, err = try(admin, socketGroup)
	require.Error(t, err, "the group at the admin API")
	shown, err := try(socket, socketGroup)
	require.NoError(t, err, shown)
	require.Contains(t, shown, "Midas-Outcome: applied")
}

func TestWithClientCertificatesThoseWhomTheAuthoritySignedPayAndNobodyElse(t *testing.T) {
	d := deployed(t, clientCertificates)
	url := "https://midas.internal:" + d.port
	require.Equal(t, "applied", d.pay(t, d.client(t, "caller"), url, "b1"))
	d.runsTheREADMEs(t, "--cert ", "Certified_1")

	stranger := authority(t, d.dir, "stranger-ca")
	stranger.sign(t, d.dir, "stranger", "stranger")
	for _, name := range []string{"", "stranger"} {
		_, err := d.client(t, name).Get(url)
		require.Error(t, err, name)
		require.Contains(t, err.Error(), "tls: ", name)
	}
	require.Equal(t, int64(10000-123-5), d.weChat.Purse(appID, player, wechat.Official).Balance)
}

// Without the admin API, which would let a stolen game server change the config.
func TestWithoutAnAdminAPIASignalReloadsTheCaddyfile(t *testing.T) {
	d := deployed(t, loopback)
	// Caddy listens a moment before it listens to signals.
	require.Equal(t, "applied", d.pay(t, http.DefaultClient, "http://127.0.0.1:"+d.port, "b1"))
	d.allowsNothing(t)
	require.NoError(t, d.process.Process.Signal(syscall.SIGUSR1))
	d.forbidsSoon(t, http.DefaultClient, "http://127.0.0.1:"+d.port)
}

func TestThroughTheAdminSocketReloadAndStatusWork(t *testing.T) {
	d := deployed(t, unixSocket)
	d.allowsNothing(t)
	require.NoError(t, <-run(t, "reload", "--config", d.config).ended)
	d.forbidsSoon(t, d.by("pay.sock"), "http://localhost")
	res, err := d.by("admin.sock").Get("http://localhost/midas/status")
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	require.Equal(t, http.StatusOK, res.StatusCode)
}

// allowsNothing changes the Caddyfile so that no payment is allowed.
func (d *deployment) allowsNothing(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(d.config)
	require.NoError(t, err)
	changed, ok := strings.CutSuffix(string(text), "\tmidas\n\trespond 404\n}\n")
	require.True(t, ok)
	require.NoError(t, os.WriteFile(d.config, []byte(changed+"\tmidas {\n\t\tapis present\n\t}\n\trespond 404\n}\n"), 0o600))
}

func (d *deployment) forbidsSoon(t *testing.T, client *http.Client, url string) {
	t.Helper()
	require.Eventually(t, func() bool {
		res, err := client.Post(url+"/cgi-bin/midas/pay", "application/json", strings.NewReader(order("b1")))
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.Header.Get("Midas-Error") == "forbidden"
	}, 10*time.Second, 20*time.Millisecond)
}

// by is a client of one of the deployment's sockets.
func (d *deployment) by(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(d.dir, socket))
	}}}
}

// deployment is one of the README's, which runs.
type deployment struct {
	weChat    *simulator.Simulator
	dir, port string
	moved     *strings.Replacer
	process   *process
	config    string
}

// socketGroup is the group of those who may pay, where the test may choose it.
const socketGroup = 4242

// deployed runs one of the README's Caddyfiles, moved to a port and files of the
// test's, and makes sure that it is not warned of.
func deployed(t *testing.T, which int) *deployment {
	t.Helper()
	weChat, weChatURL := simulated(t)
	d := &deployment{weChat: weChat, dir: openDir(t), port: freePort(t)}
	if os.Getuid() == 0 {
		require.NoError(t, os.Chown(d.dir, -1, socketGroup))
		require.NoError(t, os.Chmod(d.dir, 0o755|os.ModeSetgid))
	}
	d.moved = strings.NewReplacer("/run/midas/", d.dir+"/", "/etc/midas/", d.dir+"/", ":8080", ":"+d.port, ":8443", ":"+d.port)
	server := authority(t, d.dir, "server-ca")
	server.sign(t, d.dir, "server", "midas.internal")
	callers := authority(t, d.dir, "callers-ca")
	callers.sign(t, d.dir, "caller", "game")

	app := simulator.Demo().Apps[appID]
	keys, err := json.Marshal(map[string]map[string]string{
		"midas/" + appID:                         {"midas_key": app.MidasKey, "app_secret": app.Secret},
		"midas/" + appID + "/sessions/" + player: {"session_key": app.Players[player].SessionKey},
	})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(d.dir, "keys.json"), keys, 0o600))
	global := fmt.Sprintf("{\n midas {\n secrets file %s\n app %s {\n offer_id 12345678\n }\n upstream %s\n }\n",
		filepath.Join(d.dir, "keys.json"), appID, weChatURL)
	var caddyfiles []string
	for _, b := range readme(t) {
		if b.section == "Deployments" && b.language == "caddyfile" {
			caddyfiles = append(caddyfiles, b.text)
		}
	}
	require.Len(t, caddyfiles, 3)
	others, ok := strings.CutPrefix(d.moved.Replace(caddyfiles[which]), "{\n")
	require.True(t, ok, "without global options the admin API is on its port")
	text := global + others
	text = strings.Replace(text, "https://midas.internal:"+d.port+" {\n", "https://midas.internal:"+d.port+" {\n bind 127.0.0.1\n", 1)
	config := filepath.Join(d.dir, "Caddyfile")
	require.NoError(t, os.WriteFile(config, []byte(text), 0o600))

	process := run(t, "run", "--config", config)
	require.Eventually(t, func() bool {
		return strings.Contains(process.output.String(), "serving initial configuration")
	}, 20*time.Second, 10*time.Millisecond)
	require.NotContains(t, process.output.String(), "anyone who reaches this listener")
	require.NotContains(t, process.output.String(), "admin API")
	d.process, d.config = process, config
	return d
}

// pay pays 123 coins and returns the outcome.
func (d *deployment) pay(t *testing.T, client *http.Client, url, billNo string) string {
	t.Helper()
	res, err := client.Post(url+"/cgi-bin/midas/pay", "application/json", strings.NewReader(order(billNo)))
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return cmp.Or(res.Header.Get("Midas-Outcome"), string(body))
}

// client trusts the server's authority, and shows the certificate of that name.
func (d *deployment) client(t *testing.T, name string) *http.Client {
	t.Helper()
	ca, err := os.ReadFile(filepath.Join(d.dir, "server-ca.pem"))
	require.NoError(t, err)
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	require.True(t, config.RootCAs.AppendCertsFromPEM(ca))
	if name != "" {
		shown, err := tls.LoadX509KeyPair(filepath.Join(d.dir, name+".pem"), filepath.Join(d.dir, name+".key"))
		require.NoError(t, err)
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &shown, nil }
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+d.port)
	}}}
}

// runsTheREADMEs runs the README's line that has a word, if curl is installed.
func (d *deployment) runsTheREADMEs(t *testing.T, word, billNo string) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Log("the README's line is not run: curl is not installed")
		return
	}
	curlrc := fmt.Sprintf("resolve = \"midas.internal:%s:127.0.0.1\"\n", d.port)
	require.NoError(t, os.WriteFile(filepath.Join(d.dir, ".curlrc"), []byte(curlrc), 0o600))
	for _, b := range readme(t) {
		if b.section == "Deployments" && b.language == "sh" && strings.Contains(b.text, word) {
			require.Contains(t, b.text, billNo)
			require.Contains(t, newShell(t, t.TempDir(), "CURL_HOME="+d.dir).run(t, d.moved.Replace(b.text)), "applied")
			return
		}
	}
	require.Fail(t, "the README has no such line", word)
}

// asNobody lets a command run as nobody, where the test may choose who runs it.
func asNobody(command *exec.Cmd, groups ...uint32) {
	if os.Getuid() == 0 {
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody, Groups: groups}}
	}
}

// nobody is a user, and a group, that owns nothing.
const nobody = 65534

// openDir is a directory that every user may enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "midas-sidecar-test-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

func modeOf(t *testing.T, file string) os.FileMode {
	t.Helper()
	info, err := os.Stat(file)
	require.NoError(t, err)
	return info.Mode().Perm()
}

// otherAddresses are those of this host that are not of loopback.
func otherAddresses(t *testing.T) (others []string) {
	t.Helper()
	all, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, address := range all {
		if network, ok := address.(*net.IPNet); ok && !network.IP.IsLoopback() && !network.IP.IsLinkLocalUnicast() {
			others = append(others, network.IP.String())
		}
	}
	return others
}

// signer is a certificate authority, whose certificate is in <name>.pem.
type signer struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

func authority(t *testing.T, dir, name string) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	s := signer{key, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	s.issue(t, filepath.Join(dir, name+".pem"), s.certificate, key)
	return s
}

// sign makes a certificate for a host or a caller, in <name>.pem and <name>.key.
func (s signer) sign(t *testing.T, dir, name, subject string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	s.issue(t, filepath.Join(dir, name+".pem"), &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: subject}, DNSNames: []string{subject},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	writePEM(t, filepath.Join(dir, name+".key"), "PRIVATE KEY", der)
}

func (s signer) issue(t *testing.T, file string, certificate *x509.Certificate, key *ecdsa.PrivateKey) {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, certificate, s.certificate, key.Public(), s.key)
	require.NoError(t, err)
	writePEM(t, file, "CERTIFICATE", der)
}
