package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/hashicorp/vault/api"

	"midas-sidecar/internal/secrets"
)

// maxToken is more bytes than any token has.
const maxToken = 64 << 10

// Token is a token made by somebody else.
type Token struct {
	// Token gives the token, which is renewed as long as Vault lets it be. It is
	// asked at the first read, and again when the token is near its end or Vault
	// refuses it. Required.
	Token Source
}

func (a Token) check() error {
	if a.Token == nil {
		return errors.New("token: is required")
	}
	return nil
}

func (a Token) login(ctx context.Context, client *api.Client) (grant, error) {
	token, err := a.Token.read("token")
	if err != nil {
		return grant{}, err
	}
	granted := grant{token: conceal(token)}
	client.SetToken(token)
	asked := time.Now()
	answer, err := client.Auth().Token().LookupSelfWithContext(ctx)
	if err != nil {
		err = explain(ctx, err)
		if errors.Is(err, secrets.ErrUnavailable) || errors.Is(err, errInvalidToken) {
			return grant{}, fmt.Errorf("looking up the token: %w", err)
		}
		return granted, nil // it may do without that right
	}
	lease, _ := answer.TokenTTL()
	granted.renewable, _ = answer.TokenIsRenewable()
	return granted.leased(asked, int(lease.Seconds())), nil
}

// TokenFile is a token in a file that somebody else keeps fresh, such as Vault
// Agent. It is not renewed here.
type TokenFile struct {
	// Path names the file. It is looked at for every read and read again when
	// it changed. Required; it need not exist before it is used.
	Path string
}

func (a TokenFile) check() error {
	if a.Path == "" {
		return errors.New("token_file: must name a file")
	}
	return nil
}

func (a TokenFile) login(context.Context, *api.Client) (grant, error) {
	file, err := os.Open(a.Path)
	if err != nil {
		return grant{}, fmt.Errorf("reading token_file: %w", err)
	}
	defer func() { _ = file.Close() }()

	// Before the content, so that what is written meanwhile counts as a change.
	before, err := file.Stat()
	if err != nil {
		return grant{}, fmt.Errorf("reading token_file: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxToken))
	if err != nil {
		return grant{}, fmt.Errorf("reading token_file: %w", err)
	}
	token, err := trimmed("token_file", string(text))
	if err != nil {
		return grant{}, err
	}
	return grant{token: conceal(token), changed: func() bool { return differs(a.Path, before) }}, nil
}

// differs reports whether the file at path is another one than before or was
// written to. One that is gone tells nothing about the token that it held.
func differs(path string, before os.FileInfo) bool {
	now, err := os.Stat(path)
	if err != nil {
		return false
	}
	return !os.SameFile(before, now) || !now.ModTime().Equal(before.ModTime()) || now.Size() != before.Size()
}
