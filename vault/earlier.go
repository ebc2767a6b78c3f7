package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"midas-sidecar/internal/secrets"
)

// maxEarlier is how many versions before the current one are of interest.
const maxEarlier = 3

// Earlier returns the newest of the three versions before the current one that is
// there and for which other is true, secrets.ErrNotFound where there is none. It is
// for a key that was replaced in Vault before, or without, being replaced where it is
// used: the key that is refused tells nothing about the one before it. A mount of
// version 1 keeps no versions.
func (s *Store) Earlier(ctx context.Context, path string, other func(secrets.Secret) bool) (secrets.Secret, error) {
	if err := CheckPath(path); err != nil {
		return nil, fmt.Errorf("path %w", err)
	}
	ctx, cancel := s.client.bounded(ctx)
	defer cancel()
	var secret secrets.Secret
	err := s.session.do(ctx, func(token string) (err error) {
		secret, err = s.earlier(ctx, token, path, other)
		return err
	})
	return secret, err
}

func (s *Store) earlier(
	ctx context.Context, token, path string, other func(secrets.Secret) bool,
) (secrets.Secret, error) {
	kv, err := s.mountVersion(ctx, token)
	if err != nil {
		return nil, err
	}
	if kv != 2 {
		return nil, secrets.ErrNotFound
	}
	_, metadata, err := s.read2(ctx, token, path, nil)
	if err != nil {
		return nil, err
	}
	current, err := versionIn(metadata)
	if err != nil {
		return nil, err
	}
	for version := current - 1; version >= max(1, current-maxEarlier); version-- {
		query := url.Values{"version": {strconv.FormatInt(version, 10)}}
		secret, _, err := s.read2(ctx, token, path, query)
		switch {
		case errors.Is(err, secrets.ErrNotFound):
			// Deleted, destroyed, or more than the mount keeps.
		case err != nil:
			return nil, err
		case other(secret):
			return secret, nil
		}
	}
	return nil, secrets.ErrNotFound
}

func versionIn(metadata any) (int64, error) {
	fields, _ := metadata.(map[string]any)
	number, _ := fields["version"].(json.Number)
	version, err := number.Int64()
	if err != nil {
		return 0, errUnreadable
	}
	return version, nil
}
