package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
)

// block is a fenced block of the README.
type block struct{ section, language, text string }

var fence = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

func readme(t *testing.T) []block {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	var blocks []block
	for section := range strings.SplitSeq("\n"+string(text), "\n## ") {
		title, _, _ := strings.Cut(section, "\n")
		for _, match := range fence.FindAllStringSubmatch(section+"\n", -1) {
			blocks = append(blocks, block{title, match[1], match[2]})
		}
	}
	return blocks
}

// A command that appears in the README is one that a test or CI runs.
func TestEveryCommandInTheREADMEIsRun(t *testing.T) {
	runBy := map[string]string{
		"go run ./cmd/midas-sidecar demo": "TestTheDemoPaysServesAndEndsCleanly",
		"curl ":                           "TestTheREADMELeadsANewUserToAPayment",
		"curl -i 'http":                   "TestTheREADMEsLoginLogsIn",
		"curl -i --unix-socket ":          "TestThroughAUnixSocketThoseOfItsGroupPayAndNobodyElse",
		"curl -i https://midas.internal":  "TestWithClientCertificatesThoseWhomTheAuthoritySignedPayAndNobodyElse",
		"vault ":                          "TestTheREADMELeadsANewUserToAPayment",
		"go build ":                       "TestTheREADMELeadsANewUserToAPayment",
		"make test":                       "CI",
	}
	for _, b := range readme(t) {
		if b.language == "sh" {
			known := false
			for command := range runBy {
				known = known || strings.HasPrefix(b.text, command)
			}
			require.True(t, known, "nothing runs: %s", b.text)
		}
	}
}

func TestTheREADMEsCaddyfilesAreCleanAndTheFirstIsTheOneAtTheTop(t *testing.T) {
	var caddyfiles []string
	for _, b := range readme(t) {
		if b.language == "caddyfile" {
			require.Equal(t, string(caddyfile.Format([]byte(b.text))), b.text)
			caddyfiles = append(caddyfiles, b.text)
		}
	}
	top, err := os.ReadFile("../Caddyfile")
	require.NoError(t, err)
	comments := regexp.MustCompile(`(?m)^\s*#.*\n`)
	blank := regexp.MustCompile(`(?m)^\n`)
	bare := func(text string) string {
		return blank.ReplaceAllString(comments.ReplaceAllString(text, ""), "")
	}
	require.Equal(t, bare(string(top)), bare(caddyfiles[0]))

	for _, text := range caddyfiles {
		config := filepath.Join(t.TempDir(), "Caddyfile")
		require.NoError(t, os.WriteFile(config, []byte(text), 0o600))
		require.NoError(t, <-run(t, "adapt", "--validate=false", "--config", config).ended)
	}
}

// The section "Production in five minutes", as a new user would follow it, and then
// the clients of all languages that are installed here.
func TestTheREADMELeadsANewUserToAPayment(t *testing.T) {
	v := startOwnVault(t)
	v.mountKV(t, "secret", 2)
	weChat, weChatURL := simulated(t)
	port, dir := freePort(t), t.TempDir()
	moved := strings.NewReplacer(
		"/run/secrets/", dir+"/",
		"127.0.0.1:8080", "127.0.0.1:"+port,
		"http://:8080", "http://:"+port,
		"http://127.0.0.1:9090/", weChatURL+"/",
		"\tmidas {\n", "\tmidas {\n\t\tupstream "+weChatURL+"\n",
		"{$VAULT_ADDR:http://127.0.0.1:8200}", v.Address,
	)
	shell := newShell(t, dir, "VAULT_ADDR="+v.Address, "VAULT_TOKEN="+v.root.Token())

	require.NoError(t, os.WriteFile(filepath.Join(dir, "issuer.pem"), []byte(newIssuer(t).publicKey(t)), 0o600))
	for _, name := range []string{"client.pem", "cluster-ca.pem"} {
		require.NoError(t, os.Rename(newCertificate(t, dir, name).certFile, filepath.Join(dir, name)))
	}

	config := filepath.Join(dir, "Caddyfile")
	started, answer := false, ""
	for _, b := range readme(t) {
		text := moved.Replace(b.text)
		switch {
		case b.section == "Deployments", b.section == loginSection: // tried by its own tests
		case b.language == "sh" && strings.HasPrefix(text, "vault "):
			shell.run(t, text)
		case b.language == "caddyfile" && !started:
			require.NoError(t, os.WriteFile(config, []byte(text), 0o600))
		case b.language == "sh" && strings.HasPrefix(text, "go build "):
			require.Equal(t, "go build -trimpath -o midas-sidecar ./cmd/midas-sidecar\n"+
				"./midas-sidecar validate --config Caddyfile\n./midas-sidecar run --config Caddyfile\n", text)
			require.NoError(t, <-run(t, "validate", "--config", config).ended)
			run(t, "run", "--config", config).waitFor(t, "http://127.0.0.1:"+port)
			started = true
		case b.language == "sh" && strings.HasPrefix(text, "curl ") && started:
			answer = shell.run(t, text)
			require.Regexp(t, `Midas-Outcome: (already_)?applied|"rules":`, answer)
		case b.language == "http" && started: // what the curl above it answers, headers of Caddy's own aside
			for line := range strings.Lines(text) {
				require.Contains(t, answer, strings.TrimSpace(line))
			}
		case started:
			shell.tryClient(t, b.language, text)
		}
	}
	require.Equal(t, int64(9877), weChat.Purse(appID, player, wechat.Sandbox).Balance)
	for id, order := range weChat.State().Orders {
		require.Equal(t, 1, order.Applied, id)
	}
}

// shell runs the README's lines in a directory of its own. The commands vault and,
// where there is none, curl are played by this test's own program: see TestMain.
type shell struct {
	dir string
	env []string
}

func newShell(t *testing.T, dir string, env ...string) *shell {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	bin := filepath.Join(dir, "bin")
	require.NoError(t, os.Mkdir(bin, 0o700))
	require.NoError(t, os.Symlink(program, filepath.Join(bin, "vault")))
	if _, err := exec.LookPath("curl"); err != nil {
		require.NoError(t, os.Symlink(program, filepath.Join(bin, "curl")))
	}
	return &shell{dir, append(append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH")), env...)}
}

func (s *shell) run(t *testing.T, script string) string {
	t.Helper()
	return s.command(t, "sh", "-euc", script)
}

func (s *shell) command(t *testing.T, name string, args ...string) string {
	t.Helper()
	command := exec.Command(name, args...)
	command.Dir, command.Env = s.dir, s.env
	output, err := command.CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, output)
	return string(output)
}

// clients says how to run a program in each language.
var clients = map[string]struct {
	file    string
	command []string
}{
	"go":     {"pay.go", []string{"go", "run"}},
	"python": {"pay.py", []string{"python3"}},
	"js":     {"pay.mjs", []string{"node"}},
	"java":   {"Pay.java", []string{"java"}},
	"php":    {"pay.php", []string{"php"}},
	"csharp": {"Pay.cs", []string{"dotnet", "run"}},
}

// tryClient runs a client if its language is installed.
func (s *shell) tryClient(t *testing.T, language, program string) {
	t.Helper()
	client, ok := clients[language]
	if !ok {
		return // a configuration or an answer, not a program
	}
	if _, err := exec.LookPath(client.command[0]); err != nil {
		t.Logf("the client in %s is not tried: %s is not installed", language, client.command[0])
		return
	}
	file := filepath.Join(s.dir, client.file)
	require.NoError(t, os.WriteFile(file, []byte(program), 0o600))
	require.Contains(t, s.command(t, client.command[0], slices.Concat(client.command[1:], []string{file})...), "applied")
}

// The README's sample keys are those of the simulator, which are WeChat's own
// samples.
func TestTheREADMEsKeysAreTheSimulators(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	app := simulator.Demo().Apps[appID]
	for _, key := range []string{app.MidasKey, app.MidasKeySandbox, app.Secret, app.Players[player].SessionKey, app.OfferID, player} {
		require.Contains(t, string(text), key, "%.4s…", key)
	}
}
