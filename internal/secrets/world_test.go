package secrets_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/secrets"
)

// canary is a secret that must turn up nowhere.
const canary = "canary-5ecret"

// store is a secret store whose answers the test gives, and which counts reads.
type store struct {
	answer func(ctx context.Context, path string) (secrets.Secret, error)

	mu    sync.Mutex
	reads int
}

func (s *store) Read(ctx context.Context, path string) (secrets.Secret, error) {
	s.mu.Lock()
	s.reads++
	answer := s.answer
	s.mu.Unlock()
	return answer(ctx, path)
}

// says changes how the store answers.
func (s *store) says(answer func(context.Context, string) (secrets.Secret, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *store) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

// holding answers every read with the field "key" of that text.
func holding(text string) func(context.Context, string) (secrets.Secret, error) {
	return func(context.Context, string) (secrets.Secret, error) {
		return secrets.Secret{"key": secrets.NewValue(text)}, nil
	}
}

func failing(err error) func(context.Context, string) (secrets.Secret, error) {
	return func(context.Context, string) (secrets.Secret, error) { return nil, err }
}

// file is a secrets file and the store in it.
type file struct {
	*secrets.File
	t       *testing.T
	path    string
	log     *bytes.Buffer
	written time.Time
}

func newFile(t *testing.T) *file {
	f := &file{t: t, path: filepath.Join(t.TempDir(), "midas.json"), log: new(bytes.Buffer), written: time.Unix(1_500_000_000, 0)}
	f.File = secrets.NewFile(f.path, stale, slog.New(slog.NewJSONHandler(f.log, nil)))
	return f
}

// write puts content into the file, in place, and lets a second pass.
func (f *file) write(content string) {
	f.t.Helper()
	require.NoError(f.t, os.WriteFile(f.path, []byte(content), 0o600))
	f.touch()
}

// touch gives the file a time of change that it never had: two writes of a test
// may lie within one tick of the file system's clock. Then a second passes.
func (f *file) touch() {
	f.t.Helper()
	f.written = f.written.Add(time.Second)
	require.NoError(f.t, os.Chtimes(f.path, time.Time{}, f.written))
	time.Sleep(time.Second)
}

// key returns the field "key" of the secret "app".
func (f *file) key() string {
	f.t.Helper()
	secret, err := f.Read(f.t.Context(), "app")
	require.NoError(f.t, err)
	return secret["key"].Reveal()
}

// lines returns what was logged since it was last asked, level and message.
func (f *file) lines() []string {
	f.t.Helper()
	require.NotContains(f.t, f.log.String(), canary)
	lines := []string{}
	for line := range strings.Lines(f.log.String()) {
		_, level, _ := strings.Cut(line, `"level":"`)
		level, _, _ = strings.Cut(level, `"`)
		lines = append(lines, level)
	}
	f.log.Reset()
	return lines
}
