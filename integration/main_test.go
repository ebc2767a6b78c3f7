package integration

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
)

// TestMain lets this program play the commands of the README that a bare machine
// does not have.
func TestMain(m *testing.M) {
	var err error
	switch path.Base(os.Args[0]) {
	case "vault":
		err = playVault(os.Args[1:])
	case "curl":
		err = playCurl(os.Args[1:])
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// playVault does what the vault CLI does, for the commands that the README uses.
func playVault(args []string) error {
	client, err := api.NewClient(api.DefaultConfig())
	if err != nil {
		return err
	}
	flags, words, data := split(args)
	command, target := strings.Join(words[:2], " "), words[len(words)-1]
	var answer *api.Secret
	switch {
	case command == "kv put":
		mount, rest, _ := strings.Cut(target, "/")
		answer, err = client.Logical().Write(mount+"/data/"+rest, map[string]any{"data": data})
	case command == "policy write":
		var rules []byte
		if rules, err = io.ReadAll(os.Stdin); err == nil {
			err = client.Sys().PutPolicy(words[2], string(rules))
		}
	case command == "auth enable":
		err = client.Sys().EnableAuthWithOptions(target, &api.EnableAuthOptions{Type: target})
	case words[0] == "write":
		client.SetWrappingLookupFunc(func(string, string) string { return flags["wrap-ttl"] })
		if err = readFiles(data); err == nil {
			answer, err = client.Logical().Write(target, data)
		}
	case words[0] == "read":
		answer, err = client.Logical().Read(target)
	default:
		err = fmt.Errorf("vault %s: not played here", command)
	}
	switch field := flags["field"]; {
	case err != nil || field == "":
	case field == "wrapping_token":
		fmt.Println(answer.WrapInfo.Token)
	default:
		fmt.Println(answer.Data[field])
	}
	return err
}

// readFiles puts the content of a file where a value is @ and its name.
func readFiles(data map[string]any) error {
	for name, value := range data {
		if path, ok := strings.CutPrefix(value.(string), "@"); ok {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			data[name] = string(content)
		}
	}
	return nil
}

// playCurl does what curl does with -i, -H and -d, and without.
func playCurl(args []string) error {
	var url, body string
	header := make(http.Header)
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "-i":
		case "-H":
			i++
			name, value, _ := strings.Cut(args[i], ": ")
			header.Set(name, value)
		case "-d":
			i++
			body = args[i]
		default:
			url = args[i]
		}
	}
	method := http.MethodPost
	if body == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header = header
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return res.Write(os.Stdout)
}

// split separates flags (-name or -name=value) and data (name=value) from the other
// words.
func split(args []string) (flags map[string]string, words []string, data map[string]any) {
	flags, data = make(map[string]string), make(map[string]any)
	for _, arg := range args {
		flag, isFlag := strings.CutPrefix(arg, "-")
		name, value, isPair := strings.Cut(flag, "=")
		switch {
		case isFlag && flag != "":
			flags[name] = value
		case isPair:
			data[name] = value
		default:
			words = append(words, arg)
		}
	}
	return flags, words, data
}
