package vault

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/secrets"
)

// versions is a fake whose midas/wx1 has the versions 1 to current, of which those
// that are gone are answered by what is said of them.
func versions(current int, gone map[int]string) *fake {
	f := newFake()
	const path = "/v1/secret/data/midas/wx1"
	for n := 1; n <= current; n++ {
		body := fmt.Sprintf(`{"data": {"data": {"midas_key": "canary-%d"}, "metadata": {"version": %d}}}`, n, n)
		if n == current {
			f.bodies[path] = body
		}
		at := fmt.Sprintf("%s?version=%d", path, n)
		if answer, ok := gone[n]; ok {
			f.faults[at[len("/v1/secret"):]] = answering(http.StatusNotFound, answer)
		} else {
			f.bodies[at] = body
		}
	}
	return f
}

func other(key string) func(secrets.Secret) bool {
	return func(s secrets.Secret) bool { return s["midas_key"].Reveal() != key }
}

func TestEarlierGivesTheNewestOtherVersionThatIsThere(t *testing.T) {
	const (
		deleted   = `{"data": {"data": null, "metadata": {"deletion_time": "2026-01-01T00:00:00Z", "destroyed": false}}}`
		destroyed = `{"data": {"data": null, "metadata": {"deletion_time": "", "destroyed": true}}}`
		pruned    = `{"errors": []}`
	)
	for name, c := range map[string]struct {
		current int
		gone    map[int]string
		except  string
		want    string
	}{
		"the one before":            {5, nil, "", "canary-4"},
		"two of two":                {2, nil, "", "canary-1"},
		"one that is other":         {5, nil, "canary-4", "canary-3"},
		"past one that is deleted":  {5, map[int]string{4: deleted}, "", "canary-3"},
		"past those that are gone":  {5, map[int]string{4: destroyed, 3: pruned}, "", "canary-2"},
		"no more than three before": {5, map[int]string{4: deleted, 3: deleted, 2: deleted}, "", ""},
		"none of one":               {1, nil, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := versions(c.current, c.gone)
			secret, err := f.store(t, withToken()).Earlier(t.Context(), "midas/wx1", other(c.except))
			if c.want == "" {
				require.ErrorIs(t, err, secrets.ErrNotFound)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, secret["midas_key"].Reveal())
		})
	}
}

func TestEarlierAsksForNoMoreThanItNeeds(t *testing.T) {
	f := versions(9, nil)
	_, err := f.store(t, withToken()).Earlier(t.Context(), "midas/wx1", other(""))
	require.NoError(t, err)
	require.Equal(t, 2, f.reads())

	f = versions(9, nil)
	none := func(secrets.Secret) bool { return false }
	_, err = f.store(t, withToken()).Earlier(t.Context(), "midas/wx1", none)
	require.ErrorIs(t, err, secrets.ErrNotFound)
	require.Equal(t, 4, f.reads())

	f = versions(1, nil)
	_, err = f.store(t, withToken()).Earlier(t.Context(), "midas/wx1", other(""))
	require.ErrorIs(t, err, secrets.ErrNotFound)
	require.Equal(t, 1, f.reads())
}

func TestAMountOfVersion1HasNothingEarlier(t *testing.T) {
	f := newFake()
	f.kv = "1"
	_, err := f.store(t, withToken()).Earlier(t.Context(), "midas/wx1", other(""))
	require.ErrorIs(t, err, secrets.ErrNotFound)
	require.Zero(t, f.reads())
}

func TestEarlierLogsInAgainWhereTheTokenIsDead(t *testing.T) {
	f := versions(2, nil)
	store := f.store(t, withAppRole())
	requireSecret := func() {
		_, err := store.Earlier(t.Context(), "midas/wx1", other(""))
		require.NoError(t, err)
	}
	requireSecret()
	f.kill()
	requireSecret()
	require.Equal(t, 2, f.logins())
}

func TestEarlierTellsAFaultFromAbsence(t *testing.T) {
	for body, want := range map[string]string{
		`{"data": {"data": {"midas_key": "canary-x"}}}`:                                   "unreadable answer",
		`{"data": {"data": {"midas_key": "canary-x"}, "metadata": {}}}`:                   "unreadable answer",
		`{"data": {"data": {"midas_key": "canary-x"}, "metadata": {"version": "x"}}}`:     "unreadable answer",
		`{"data": {"data": {"midas_key": "canary-x"}, "metadata": {"version": 1000000}}}`: "no such secret",
	} {
		f := newFake()
		f.bodies["/v1/secret/data/midas/wx1"] = body
		_, err := f.store(t, withToken()).Earlier(t.Context(), "midas/wx1", other(""))
		require.EqualError(t, err, ""+want)
	}
	f := versions(3, nil)
	f.faults["?version=2"] = answering(http.StatusServiceUnavailable, "")
	_, err := f.store(t, withToken()).Earlier(t.Context(), "midas/wx1", other(""))
	require.ErrorIs(t, err, secrets.ErrUnavailable)

	_, err = newFake().store(t, withToken()).Earlier(t.Context(), "midas/../wx1", other(""))
	require.EqualError(t, err, `path must not have the segments "." and ".."`)
}
