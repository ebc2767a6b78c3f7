package secrets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
)

// statEvery is how often the file is looked at, at most: a change is seen within
// this time, and a busy sidecar does not ask the file system at every payment.
const statEvery = time.Second

// tick is how long a file may be written again without its time of change telling so.
const tick = 2 * time.Second

// File is a store in a JSON file, {"<path>": {"<field>": "<value>"}}: what a Vault
// Agent template writes, a mounted secret, or a trial by hand. It is read only.
// Replacing the file replaces the secrets within a second; while the file is
// missing or broken the last good content is used, for a time.
type File struct {
	path  string
	stale time.Duration
	log   *slog.Logger

	mu      sync.Mutex
	looked  time.Time
	seen    os.FileInfo // of the file last read, nil where it could not be
	read    time.Time   // when that was
	secrets map[string]Secret
	version uint64
	err     error     // why the file as it is now cannot be used
	good    time.Time // when it last could
	broken  time.Time // when it was first found that it cannot
}

// NewFile returns the store in the file at path, which need not exist yet. Its last
// good content is used for the time stale while it is missing or broken. log is
// told of every change.
func NewFile(path string, stale time.Duration, log *slog.Logger) *File {
	return &File{path: path, stale: stale, log: log}
}

// SetStale changes how long the last good content is used.
func (f *File) SetStale(stale time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stale = stale
}

// Look reads the file now, whatever its time of change says, and however short ago it
// was looked at: somebody knows that a secret is no longer good.
func (f *File) Look() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looked, f.seen = time.Time{}, nil
	f.look()
}

// Read returns the fields of the secret at path.
func (f *File) Read(_ context.Context, path string) (Secret, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look()
	if f.secrets == nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, f.err)
	}
	secret, ok := f.secrets[path]
	if !ok {
		return nil, ErrNotFound
	}
	return secret, nil
}

// Version grows when the content changes, so that nothing is cached beyond it.
func (f *File) Version() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look()
	return f.version
}

// Trouble returns why the file cannot be used, nil where it can.
func (f *File) Trouble() *Trouble {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.look(); f.err == nil {
		return nil
	}
	return &Trouble{Since: f.broken, Failure: f.err}
}

// look takes over the file's content if it has changed, and drops it when it has
// been out of date for too long.
func (f *File) look() {
	now := time.Now()
	if now.Sub(f.looked) < statEvery {
		return
	}
	f.looked = now
	f.follow()
	switch {
	case f.err == nil:
		f.good = now
	case f.secrets != nil && now.Sub(f.good) > f.stale:
		f.secrets = nil
		f.version++
		f.log.Error("secrets file cannot be used, nor can its last good content any longer", "path", f.path, "error", f.err)
	}
}

func (f *File) follow() {
	info, err := os.Stat(f.path)
	if err == nil && f.seen != nil && os.SameFile(info, f.seen) &&
		info.ModTime().Equal(f.seen.ModTime()) && info.Size() == f.seen.Size() &&
		f.read.Sub(info.ModTime()) > tick {
		return
	}
	f.seen, f.read = nil, time.Now()
	var text []byte
	if err == nil {
		text, err = os.ReadFile(f.path)
	}
	if err != nil {
		f.fail(err)
		return
	}
	f.seen = info
	secrets, err := parse(text)
	if err != nil {
		f.fail(fmt.Errorf("%s %w", f.path, err))
		return
	}
	f.take(secrets)
}

// take makes secrets the content, and says so where that is news.
func (f *File) take(secrets map[string]Secret) {
	changed := f.secrets == nil || !maps.EqualFunc(f.secrets, secrets, maps.Equal)
	if changed {
		f.secrets = secrets
		f.version++
	}
	if changed || f.err != nil {
		f.log.Info("secrets file read", "path", f.path, "secrets", len(secrets))
	}
	f.err = nil
}

// fail says once why the file cannot be used.
func (f *File) fail(err error) {
	err = fmt.Errorf("reading the secrets file: %w", err)
	if f.err == nil || f.err.Error() != err.Error() {
		f.log.Error("secrets file cannot be used", "path", f.path, "error", err, "last_good_content", f.secrets != nil)
	}
	if f.err == nil {
		f.broken = time.Now()
	}
	f.err = err
}

// parse reads the content of a secrets file, strictly: a name that stands there
// twice or a key that is not UTF-8 is a mistake that would only show as a
// signature that WeChat refuses.
func parse(text []byte) (map[string]Secret, error) {
	var plain map[string]map[string]string
	if err := json.Unmarshal(text, &plain); err != nil || plain == nil {
		// The decoder's own words may quote a secret.
		return nil, errors.New(`is not of the form {"<path>": {"<field>": "<value>"}}`)
	}
	secrets := make(map[string]Secret, len(plain))
	for path, fields := range plain {
		secrets[path] = make(Secret, len(fields))
		for field, value := range fields {
			secrets[path][field] = NewValue(value)
		}
	}
	return secrets, nil
}
