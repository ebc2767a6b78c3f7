package vault

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// CheckPath refuses whatever a client, a proxy or Vault might read as the path
// of another secret. Escaping it would leave that to how often each of them
// unescapes; no secret of ours needs such a name. The error continues a sentence
// that begins with what the path is for.
func CheckPath(path string) error {
	for segment := range strings.SplitSeq(path, "/") {
		switch segment {
		case "":
			return errors.New("must not have empty segments")
		case ".", "..":
			return errors.New(`must not have the segments "." and ".."`)
		}
	}
	if strings.ContainsAny(path, `?#%\`) {
		return errors.New(`must not contain any of ? # % \`)
	}
	if !utf8.ValidString(path) || strings.ContainsFunc(path, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return errors.New("must consist of printable UTF-8")
	}
	return nil
}
