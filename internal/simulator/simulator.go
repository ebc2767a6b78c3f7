// Package simulator is a WeChat that verifies: it serves the payment APIs, the
// access_token and the login as WeChat's pages describe them, checks every
// signature from the bytes that arrive, keeps players' coins, and says in its log
// why it refused a call.
//
// It is the judge of our own signing code, so it shares none of it: see verify.go.
//
// It also misbehaves on request, to judge what is made of that: Misbehave, Plan
// and POST /simulator/faults say which of the Kinds of fault strikes which call,
// and the books, Order and Attempts what has happened in truth.
//
// Where the pages are silent it chooses, and says so where it does:
//   - gift coins are spent first (ledger.go);
//   - a repeated bill_no is found before the balance is looked at, unless
//     Options.BalanceFirst says otherwise;
//   - a missing openid or mp_sig answers 40101, as seen in the field, and any
//     other missing field 90018 (fields.go);
//   - with both signatures wrong, the player's is named before the app's: mp_sig
//     (90009) before sig (90011), and in v2 signature (90010) before pay_sig (90011);
//   - in v2, the session_key before the last login answers 90010, and 90016 is for a
//     player who has no session (midas.go);
//   - in v2, a refund of an order older than 48 hours answers 90000, and gift coins
//     come back last (ledger.go).
package simulator

import (
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"midas-sidecar/internal/inflight"
	"midas-sidecar/internal/wechat"
)

// Options are what a Simulator may be told. The zero value is a good default.
type Options struct {
	// Log gets one line per call. Default: nothing is logged.
	Log *slog.Logger
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Random makes tokens, js_codes and session_keys. Default: crypto/rand.
	Random io.Reader
	// TokenLife is how long a new access_token is good for. Default and WeChat's
	// own: 2h.
	TokenLife time.Duration
	// Tolerance is how far a call's ts may be from Now, either way. WeChat
	// documents none. Default: 5m.
	Tolerance time.Duration
	// BalanceFirst looks at the balance before it looks for a repeated bill_no,
	// so that the repeat of an order which took the last coins answers 90013 and
	// not 90012. Nothing documents which of the two WeChat does.
	BalanceFirst bool
	// Lenient takes what WeChat is said to take though its pages do not: see
	// table.checkLeniently and asSigned. Signatures are verified either way.
	Lenient bool
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if o.TokenLife == 0 {
		o.TokenLife = 2 * time.Hour
	}
	if o.Tolerance == 0 {
		o.Tolerance = tolerance
	}
	return o
}

// tolerance is the default of Options.Tolerance.
const tolerance = 5 * time.Minute

// Simulator is a WeChat that verifies, as an http.Handler. It is safe for
// concurrent use.
type Simulator struct {
	options Options
	file    string // where the state is kept; "" is in memory only
	routes  map[string]func(*http.Request) *reply

	mu    sync.Mutex // guards all below
	state State
	codes map[string]*jsCode
	calls int // numbers the hints

	faults   *faults
	attempts attempts

	inside inflight.Counter // has a lock of its own
}

// New returns a simulator that begins with a copy of state and keeps it in
// memory. The error names the part of state that cannot be.
func New(state State, options Options) (*Simulator, error) {
	state, err := state.clone()
	if err != nil {
		return nil, err
	}
	s := &Simulator{
		options: options.withDefaults(),
		state:   state,
		codes:   make(map[string]*jsCode),

		faults:   newFaults(Plan{}, Plan{}.decide),
		attempts: make(attempts),
	}
	s.routes = map[string]func(*http.Request) *reply{
		stableTokenPath:    s.stableToken,
		plainTokenPath:     s.plainToken,
		checkSessionPath:   s.checkSession,
		code2SessionPath:   s.code2Session,
		"/simulator/login": s.serveLogin,
		"/simulator/books": s.serveBooks,
		faultsPath:         s.serveFaults,
	}
	for api := range tables {
		for _, env := range []wechat.Environment{wechat.Sandbox, wechat.Official} { // v2 has one path for both
			e := wechat.At(api, env)
			s.routes[e.Path] = s.midas(e)
		}
	}
	return s, nil
}

// Open returns a simulator whose state is kept in a file, and survives it. A file
// that does not exist is created with the state of Demo. Others must not change
// the file while the simulator uses it.
func Open(file string, options Options) (*Simulator, error) {
	state, err := readOrCreate(file)
	if err != nil {
		return nil, err
	}
	s, err := New(state, options)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	s.file = file
	return s, nil
}

// maxBody is far more than any call of the APIs needs.
const maxBody = 64 << 10

// ServeHTTP serves WeChat's paths and the simulator's own, /simulator/….
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	judge, ok := s.routes[r.URL.Path]
	if !ok {
		s.options.Log.Warn("not a path of WeChat that is simulated", "method", r.Method, "path", r.URL.Path)
		w.WriteHeader(http.StatusNotFound)
		return
	}
	leave := s.inside.Enter()
	defer leave()
	out := judge(r)
	s.answer(w, r, out)
	if out.then != nil {
		leave()
		out.then()
	}
}

// Edit lets f change the state: rotate a key, end a session, give coins. Nothing
// changes if the result cannot be, which the error explains. A state file that
// cannot be written is an error, too, but the change is made.
func (s *Simulator) Edit(f func(*State)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	edited, err := s.state.clone()
	if err != nil {
		return err
	}
	f(&edited)
	if edited, err = edited.clone(); err != nil {
		return err
	}
	s.state = edited
	return s.save()
}

// State returns a copy of all that the simulator knows, secrets included.
func (s *Simulator) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	copied, err := s.state.clone()
	if err != nil {
		panic(err) // it was valid when it came in, and the ledger keeps it so
	}
	return copied
}

// Purse returns a player's coins in an environment. A player who is not known has
// none.
func (s *Simulator) Purse(appid, openid string, env wechat.Environment) Purse {
	s.mu.Lock()
	defer s.mu.Unlock()
	if player := s.state.player(appid, openid); player != nil {
		return *player.purse(env)
	}
	return Purse{}
}

// Order returns what became of a bill_no.
func (s *Simulator) Order(id OrderID) (order Order, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.state.Orders[id]; o != nil {
		return *o, true
	}
	return Order{}, false
}
