package caddymodule

import (
	"io"
	"log"
	"regexp"
	"sync"
)

// quieting keeps two of those who quiet the log at once from doing it twice.
var quieting sync.Mutex

func init() { quietStdLog() }

// quietStdLog keeps what the standard library's log quotes out of it. net/http writes
// there, and quotes what a peer sends behind an answer, which may be what it was told:
// an access_token, a signature, Vault's token. No option of net/http prevents that.
//
// Caddy points that log at the logs of each config that it loads, even of one that
// then cannot be used. So this is done again with each config and before each order,
// and does nothing where it is still done.
func quietStdLog() {
	quieting.Lock()
	defer quieting.Unlock()
	if _, done := log.Writer().(unquoted); !done {
		log.SetOutput(unquoted{log.Writer()})
	}
}

// unquoted is a log without what its lines quote.
type unquoted struct{ to io.Writer }

// quoted spans from the first quotation mark of a line to the last: those inside of a
// quotation end nothing.
var quoted = regexp.MustCompile(`".*"`)

func (u unquoted) Write(line []byte) (int, error) {
	if _, err := u.to.Write(quoted.ReplaceAllLiteral(line, []byte(`"…"`))); err != nil {
		return 0, err
	}
	return len(line), nil
}
