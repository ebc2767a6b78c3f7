package vault

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/hashicorp/vault/api"

	"midas-sidecar/internal/secrets"
)

// kvVersion is the version of a KV secrets engine, 1 or 2.
type kvVersion int32

// read reads a secret with token, whatever the version of the mount.
func (s *Store) read(ctx context.Context, token, path string) (secrets.Secret, error) {
	version, err := s.mountVersion(ctx, token)
	if err != nil {
		return nil, err
	}
	if version == 2 {
		secret, _, err := s.read2(ctx, token, path, nil)
		return secret, err
	}
	answer, err := s.ask(ctx, token, s.mount+"/"+path, nil)
	if err != nil {
		return nil, err
	}
	return stringFields(answer.Data)
}

// read2 reads a secret of a mount of version 2, and what is known of that. Without
// a query that is the secret's latest version.
func (s *Store) read2(ctx context.Context, token, path string, query url.Values) (secret secrets.Secret, metadata any, err error) {
	answer, err := s.ask(ctx, token, s.mount+"/data/"+path, query)
	if err != nil {
		return nil, nil, err
	}
	secret, err = stringFields(answer.Data["data"])
	return secret, answer.Data["metadata"], err
}

// ask forgets the version of the mount where that has become another one.
func (s *Store) ask(ctx context.Context, token, path string, query url.Values) (*api.Secret, error) {
	answer, err := s.client.get(ctx, token, path, query)
	if errors.Is(err, errOtherMount) {
		s.version.Store(0)
	}
	return answer, err
}

func stringFields(data any) (secrets.Secret, error) {
	fields, ok := data.(map[string]any)
	if !ok || fields == nil {
		return nil, errUnreadable
	}
	secret := make(secrets.Secret, len(fields))
	for name, value := range fields {
		if text, ok := value.(string); ok {
			secret[name] = secrets.NewValue(text)
		}
	}
	return secret, nil
}

// mountVersion returns the version of the mount, asking Vault where it is not
// known. Readers that come before the first answer each ask: one small request
// more for each is cheaper than making them wait for one another.
func (s *Store) mountVersion(ctx context.Context, token string) (kvVersion, error) {
	if version := s.version.Load(); version != 0 {
		return kvVersion(version), nil
	}
	version, err := s.askVersion(ctx, token)
	if err != nil {
		return 0, fmt.Errorf("finding the KV version of mount %s: %w", s.mount, err)
	}
	s.version.Store(int32(version))
	return version, nil
}

// askVersion asks as the vault command does: every token may that can read
// anything in the mount.
func (s *Store) askVersion(ctx context.Context, token string) (kvVersion, error) {
	answer, err := s.client.get(ctx, token, "sys/internal/ui/mounts/"+s.mount, nil)
	if errors.Is(err, secrets.ErrNotFound) {
		return 0, errOtherMount // no mount is not the same as no secret
	}
	if err != nil {
		return 0, err
	}
	return parseMount(answer, s.mount)
}

func parseMount(answer *api.Secret, mount string) (kvVersion, error) {
	// Vault answers for the mount that the path lies in, such as "team/" for
	// "team/kv" where there is no "team/kv/".
	path, _ := answer.Data["path"].(string)
	if strings.Trim(path, "/") != mount {
		return 0, errors.New("there is no such mount")
	}
	if kind, _ := answer.Data["type"].(string); kind != "kv" && kind != "generic" {
		return 0, errors.New("it is not a KV secrets engine")
	}
	options, _ := answer.Data["options"].(map[string]any)
	if options["version"] == "2" {
		return 2, nil
	}
	return 1, nil
}
