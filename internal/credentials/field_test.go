package credentials_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/secrets"
)

func TestWhatIsNotPrintableASCIIIsMalformed(t *testing.T) {
	const ascii = " must be printable ASCII"
	for _, need := range needs {
		for name, c := range map[string]struct{ value, rule string }{
			"a zero width space":   {canary + "\u200b" + canary, ascii + ", has U+200B"},
			"one at the end":       {canary + "\u200b", ascii + ", has U+200B"},
			"a byte order mark":    {"\ufeff" + canary, ascii + ", has U+FEFF"},
			"a NUL":                {canary + "\x00" + canary, ascii + ", has U+0000"},
			"a line feed":          {canary + "\n" + canary, ascii + ", has U+000A"},
			"a no-break space":     {canary + "\u00a0" + canary, ascii + ", has U+00A0"},
			"a replaced character": {canary + "\ufffd", ascii},
			"a letter":             {canary + "\u00fc", ascii},
			"a digit":              {canary + "\uff11", ascii},
		} {
			t.Run(need.field+" with "+name, func(t *testing.T) {
				s := full()
				s.put(need.path, need.field, c.value)
				err := need.get(t.Context(), cacheOf(s).Of(need.app, new(weChat)))
				require.EqualError(t, err, need.before+shown(need.path)+" field "+need.field+c.rule)
				require.NotErrorIs(t, err, secrets.ErrNotFound)
				hides(t, err)
				malformed := new(secrets.MalformedError)
				require.ErrorAs(t, err, &malformed)
				require.Equal(t, need.field, malformed.Field)
			})
		}
	}
}

func TestASessionKeyIsStandardBase64(t *testing.T) {
	path := "midas/wx1234567/sessions/" + player
	for name, c := range map[string]struct {
		key  string
		good bool
	}{
		"as WeChat gives it":         {"V7Q38/i2KXaqrQyl2Yx9Hg==", true},
		"with a plus sign":           {"V7Q38+i2KXaqrQyl2Yx9Hg==", true},
		"longer":                     {"V7Q38/i2KXaqrQyl2Yx9HgV7Q38/i2KXaqrQyl2Yx9Hg", true},
		"through a URL":              {"V7Q38%2Fi2KXaqrQyl2Yx9Hg%3D%3D", false},
		"with only = escaped":        {"V7Q38/i2KXaqrQyl2Yx9Hg%3D%3D", false},
		"through a form":             {"V7Q38 i2KXaqrQyl2Yx9Hg==", false},
		"in the alphabet of URLs":    {"V7Q38_i2KXaqrQyl2Yx9Hg==", false},
		"without its end":            {"V7Q38/i2KXaqrQyl2Yx9Hg", false},
		"with a line feed inside":    {"V7Q38/i2KXaq\nrQyl2Yx9Hg==", false},
		"in quotes":                  {`"V7Q38/i2KXaqrQyl2Yx9Hg=="`, false},
		"with its slash backslashed": {`V7Q38\/i2KXaqrQyl2Yx9Hg==`, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := full()
			s.put(path, "session_key", c.key)
			key, err := cacheOf(s).Of(app, nil).SessionKey(t.Context(), v1Official.API.Family, player)
			if c.good {
				require.NoError(t, err)
				isKey(t, c.key, key)
				return
			}
			malformed := new(secrets.MalformedError)
			require.ErrorAs(t, err, &malformed)
			require.Equal(t, "session_key", malformed.Field)
			require.NotErrorIs(t, err, secrets.ErrNotFound, "to log in again would not help")
			require.NotContains(t, err.Error(), "V7Q38")
			require.NotContains(t, err.Error(), player)
		})
	}
}
