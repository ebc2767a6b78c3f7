package secrets_test

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/secrets"
)

func TestAFileGivesItsSecretsByPathAndField(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(t)
		f.write(`{"app":{"key":"K","empty":""},"other":{"key":"O"}}`)
		secret, err := f.Read(t.Context(), "app")
		require.NoError(t, err)
		require.Equal(t, secrets.Secret{"key": secrets.NewValue("K"), "empty": secrets.NewValue("")}, secret)
	})
}

func TestAPathThatTheFileDoesNotHaveIsNotFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(t)
		f.write(`{"app":{"key":"K"}}`)
		_, err := f.Read(t.Context(), "nobody")
		require.ErrorIs(t, err, secrets.ErrNotFound)
	})
}

func TestAMissingFileIsAStoreThatCannotBeAsked(t *testing.T) {
	f := newFile(t)
	_, err := f.Read(t.Context(), "app")
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorIs(t, err, secrets.ErrUnavailable)
}

func TestAFileThatAppearsIsReadWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(t)
		_, err := f.Read(t.Context(), "app")
		require.Error(t, err)
		f.write(`{"app":{"key":"K"}}`)
		require.Equal(t, "K", f.key())
		require.Equal(t, []string{"ERROR", "INFO"}, f.lines())
	})
}

// The file is not looked at before a second has passed, so that many payments a
// second cost no more than one.
func TestAFileIsLookedAtOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(t)
		f.write(`{"app":{"key":"K"}}`)
		require.Equal(t, "K", f.key())
		require.NoError(t, os.Remove(f.path))
		time.Sleep(time.Second - 1)
		f.key()
		require.Equal(t, []string{"INFO"}, f.lines())
		time.Sleep(time.Nanosecond)
		f.key()
		require.Equal(t, []string{"ERROR"}, f.lines())
	})
}

func TestEveryWayOfReplacingAFileIsSeen(t *testing.T) {
	const before, after = `{"app":{"key":"1"}}`, `{"app":{"key":"2"}}`
	for _, c := range []struct {
		name    string
		prepare func(*file)
		replace func(*file)
	}{
		{"rewritten in place", func(f *file) { f.write(before) }, func(f *file) { f.write(after) }},
		{"another renamed over it", func(f *file) { f.write(before) }, func(f *file) {
			next := f.path + ".next"
			require.NoError(f.t, os.WriteFile(next, []byte(after), 0o600))
			require.NoError(f.t, os.Chtimes(next, time.Time{}, f.written)) // as old as the first
			require.NoError(f.t, os.Rename(next, f.path))
		}},
		{"removed and written anew", func(f *file) { f.write(before) }, func(f *file) {
			require.NoError(f.t, os.Remove(f.path))
			f.write(after)
		}},
		// midas.json -> ..data/midas.json, ..data -> ..1, and a new ..data renamed over the old.
		{"as Kubernetes updates a mounted secret", func(f *file) { mount(f, "..1", before) }, func(f *file) { mount(f, "..2", after) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFile(t)
				c.prepare(f)
				require.Equal(t, "1", f.key())
				version := f.Version()
				c.replace(f)
				time.Sleep(time.Second)
				require.Equal(t, "2", f.key())
				require.Greater(t, f.Version(), version)
				require.Equal(t, []string{"INFO", "INFO"}, f.lines())
			})
		})
	}
}

// mount puts content where f is as a kubelet does, in a directory of that name.
func mount(f *file, name, content string) {
	f.t.Helper()
	dir := filepath.Dir(f.path)
	require.NoError(f.t, os.Mkdir(filepath.Join(dir, name), 0o700))
	require.NoError(f.t, os.WriteFile(filepath.Join(dir, name, "midas.json"), []byte(content), 0o600))
	require.NoError(f.t, os.Symlink(name, filepath.Join(dir, "..tmp")))
	require.NoError(f.t, os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")))
	if _, err := os.Lstat(f.path); err != nil {
		require.NoError(f.t, os.Symlink("..data/midas.json", f.path))
	}
}

var broken = map[string]string{
	"nothing":                `  `,
	"half of it":             `{"app":{"key":"` + canary,
	"no JSON":                canary,
	"null":                   `null`,
	"a list":                 `["` + canary + `"]`,
	"a text for a secret":    `{"app":"` + canary + `"}`,
	"a number for a text":    `{"app":{"key":"` + canary + `","n":5}}`,
	"a field twice":          `{"app":{"key":"` + canary + `","key":"` + canary + `"}}`,
	"a path twice":           `{"app":{"key":"` + canary + `"},"app":{"key":"` + canary + `"}}`,
	"bytes that are no text": "{\"app\":{\"key\":\"" + canary + "\xff\"}}",
	"two objects":            `{"app":{"key":"` + canary + `"}}{}`,
}

func TestABrokenFileIsAnErrorThatQuotesNothing(t *testing.T) {
	for name, content := range broken {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFile(t)
				f.write(content)
				_, err := f.Read(t.Context(), "app")
				require.EqualError(t, err, "the secret store cannot be used: reading the secrets file: "+f.path+` is not of the form {"<path>": {"<field>": "<value>"}}`)
				require.NotErrorIs(t, err, secrets.ErrNotFound)
				require.Equal(t, []string{"ERROR"}, f.lines())
			})
		})
	}
}

func TestTheLastGoodContentIsKeptWhileTheFileIsBroken(t *testing.T) {
	for name, content := range broken {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFile(t)
				f.write(`{"app":{"key":"K"}}`)
				version := f.Version()
				f.write(content)
				require.Equal(t, "K", f.key())
				require.Equal(t, version, f.Version())
			})
		})
	}
}

func TestTheLastGoodContentIsKeptWhileTheFileIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(t)
		f.write(`{"app":{"key":"K"}}`)
		require.Equal(t, "K", f.key())
		require.NoError(t, os.Remove(f.path))
		time.Sleep(time.Hour)
		require.Equal(t, "K", f.key())
	})
}

func TestEachChangeOfStateIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(t)
		look := func() []string {
			for range 3 {
				time.Sleep(time.Second)
				_, _ = f.Read(t.Context(), "app")
			}
			return f.lines()
		}
		require.Equal(t, []string{"ERROR"}, look(), "missing")
		require.Empty(t, look())
		f.write(`{"app":{"key":"` + canary + `"}}`)
		require.Equal(t, []string{"INFO"}, look(), "there")
		require.Empty(t, look())
		f.write(`{"app":"` + canary)
		require.Equal(t, []string{"ERROR"}, look(), "broken")
		f.write(`{"app":["` + canary)
		require.Empty(t, look(), "broken otherwise")
		require.NoError(t, os.Remove(f.path))
		require.Equal(t, []string{"ERROR"}, look(), "gone")
		f.write(`{"app":{"key":"` + canary + `"}}`)
		require.Equal(t, []string{"INFO"}, look(), "back")
	})
}

// The same file is back, to the inode: nothing about it tells that it was away.
func TestAFileThatWasMovedAwayAndBackIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(t)
		f.write(`{"app":{"key":"K"}}`)
		f.key()
		for range 2 {
			f.lines()
			require.NoError(t, os.Rename(f.path, f.path+".away"))
			time.Sleep(time.Second)
			f.key()
			require.NoError(t, os.Rename(f.path+".away", f.path))
			time.Sleep(time.Second)
			f.key()
			require.Equal(t, []string{"ERROR", "INFO"}, f.lines())
		}
	})
}

func TestTheVersionStaysWhereTheContentDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(t)
		f.write(`{"app":{"key":"K"}}`)
		version := f.Version()
		f.write(` {"app": {"key": "K"}} `)
		require.Equal(t, version, f.Version())
		require.Equal(t, []string{"INFO"}, f.lines())
	})
}

func TestTheLastGoodContentIsNotUsedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(t)
		cache := cacheOf(f)
		get := func() error {
			_, err := cache.Get(t.Context(), "app")
			return err
		}
		f.write(`{"app":{"key":"K"}}`)
		require.NoError(t, get())
		f.lines()

		require.NoError(t, os.Remove(f.path))
		time.Sleep(stale)
		require.NoError(t, get())
		require.Equal(t, []string{"ERROR"}, f.lines())
		time.Sleep(2 * time.Second)
		require.ErrorIs(t, get(), secrets.ErrUnavailable)
		require.Equal(t, []string{"ERROR"}, f.lines())
		time.Sleep(time.Minute)
		require.ErrorIs(t, get(), secrets.ErrUnavailable)
		require.Empty(t, f.lines())

		f.write(`{"app":{"key":"K"}}`)
		require.NoError(t, get())
		require.Equal(t, []string{"INFO"}, f.lines())
	})
}

func TestASlipInAFileIsNotUsed(t *testing.T) {
	for name, slip := range map[string]string{
		"the field is gone":  `{"app":{"other":"K"}}`,
		"the field is empty": `{"app":{"key":""}}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFile(t)
				cache := cacheOf(f)
				f.write(`{"app":{"key":"K"}}`)
				require.Equal(t, "K", get(t, cache, "app"))
				f.write(slip)
				for range 10 {
					require.Equal(t, "K", get(t, cache, "app"))
					time.Sleep(time.Second)
				}
				require.EqualError(t, cache.Trouble().Failure, "app has no field key")

				f.write(`{"app":{"key":"L"}}`)
				require.Equal(t, "L", get(t, cache, "app"))
				require.Nil(t, cache.Trouble())

				f.write(`{}`)
				_, err := cache.Get(t.Context(), "app")
				require.ErrorIs(t, err, secrets.ErrNotFound, "what is deleted is no slip")
			})
		})
	}
}

// rewrite puts content into the file, in place, and lets nothing about it tell so.
func (f *file) rewrite(content string) {
	f.t.Helper()
	require.NoError(f.t, os.WriteFile(f.path, []byte(content), 0o600))
	require.NoError(f.t, os.Chtimes(f.path, time.Time{}, f.written))
}

func TestWhatFailedIsLookedForInTheFileAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(t)
		cache := cacheOf(f)
		f.write(`{"app":{"key":"1"}}`)
		require.Equal(t, "1", get(t, cache, "app"))
		for _, next := range []string{"2", "3", "4"} { // within one second
			failed := get(t, cache, "app")
			f.rewrite(`{"app":{"key":"` + next + `"}}`)
			require.Equal(t, failed, get(t, cache, "app"))
			key, err := cache.Renew(t.Context(), "app", func(key string) bool { return key == failed })
			require.NoError(t, err)
			require.Equal(t, next, key)
		}
	})
}

// A file is written twice within one tick of the file system's clock, and read in between.
func TestAFileThatIsWrittenAgainAtOnceIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(t)
		f.written = time.Now()
		f.rewrite(`{"app":{"key":"1"}}`)
		require.Equal(t, "1", f.key())
		f.rewrite(`{"app":{"key":"2"}}`)
		time.Sleep(time.Second)
		require.Equal(t, "2", f.key())
	})
}
