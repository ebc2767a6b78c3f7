package simulator

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"midas-sidecar/internal/wechat"
)

// reply is the answer to one call. It holds no secret but in body, which goes to
// the caller alone.
type reply struct {
	status  int // of HTTP; WeChat answers 200 and tells failure in the body
	errcode int
	errmsg  string
	body    members
	// why says more to the developer who reads the log than errmsg does to the
	// caller; explain finds that out where it takes a search.
	why     string
	explain func() string
	about   []slog.Attr // the player and the order

	fault string // the kind that struck, "" for none
	// deliver gives the answer to the client where that is to go wrong. text is
	// the body, and the headers are set for it.
	deliver func(w http.ResponseWriter, r *http.Request, text []byte)
	then    func() // what is left to do once the call has ended
}

// members are the fields of an answer, in the order of WeChat's pages.
type members []member

type member struct {
	name  string
	value any
}

// MarshalJSON writes the members as an object.
func (m members) MarshalJSON() ([]byte, error) {
	text := []byte{'{'}
	for i, member := range m {
		if i > 0 {
			text = append(text, ',')
		}
		value, err := json.Marshal(member.value, json.Deterministic(true))
		if err != nil {
			return nil, err
		}
		text, _ = jsontext.AppendQuote(text, member.name) // the names are ours
		text = append(append(text, ':'), value...)
	}
	return append(text, '}'), nil
}

// ok answers with body alone.
func ok(body members, why string) *reply {
	return &reply{status: http.StatusOK, errmsg: "ok", body: body, why: why}
}

// refuse answers with an errcode and an errmsg, why being for the log.
func refuse(errcode int, errmsg, why string) *reply {
	return &reply{status: http.StatusOK, errcode: errcode, errmsg: errmsg, why: why}
}

// ownRefusal answers on a path of /simulator/, where HTTP's status tells.
func ownRefusal(status int, problem string) *reply {
	return &reply{status: status, errmsg: problem, body: members{{"error", problem}}}
}

// answer writes and logs a reply. A refusal of WeChat's carries a hint and the name of the
// call in WeChat's own logs, as the real ones do: v1 has a rid in errmsg and v2 a traceid.
// Here the hint is the number of the log line that says why, and ends that name.
func (s *Simulator) answer(w http.ResponseWriter, r *http.Request, out *reply) {
	s.mu.Lock()
	s.calls++
	hint := "sim" + strconv.Itoa(s.calls)
	s.mu.Unlock()

	body := out.body
	if body == nil {
		body = refusalBody(r.URL.Path, out, hint, fmt.Sprintf("%08x-%s", s.options.Now().Unix(), hint))
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // a body is made of what JSON knows
	}
	w.Header().Set("Content-Type", "application/json; encoding=utf-8") // as WeChat says it
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	s.log(r, out, hint)
	if out.deliver != nil {
		out.deliver(w, r, text)
		return
	}
	write(w, out.status, text)
}

func refusalBody(path string, out *reply, hint, call string) members {
	errmsg := fmt.Sprintf("%s hint: [%s]", out.errmsg, hint)
	if e, _ := wechat.EndpointOf(path); e.API != nil && e.API.Family == wechat.V2 {
		return members{{"errcode", out.errcode}, {"errmsg", errmsg}, {"traceid", call}}
	}
	return members{{"errcode", out.errcode}, {"errmsg", errmsg + " rid: " + call}}
}

func (s *Simulator) log(r *http.Request, out *reply, hint string) {
	if !s.options.Log.Enabled(r.Context(), slog.LevelWarn) {
		return
	}
	if out.explain != nil {
		out.why = out.explain()
	}
	level := slog.LevelInfo
	attrs := append([]slog.Attr{slog.Int("errcode", out.errcode)}, out.about...)
	switch {
	case out.status != http.StatusOK:
		level = slog.LevelWarn
		attrs = []slog.Attr{slog.Int("status", out.status), slog.String("error", out.errmsg)}
	case out.fault != "":
		level = slog.LevelWarn
		attrs = append([]slog.Attr{slog.String("fault", out.fault)}, out.about...)
	case out.errcode != 0:
		level = slog.LevelWarn
		attrs = append(attrs, slog.String("errmsg", out.errmsg), slog.String("hint", hint))
	}
	if out.why != "" {
		attrs = append(attrs, slog.String("why", out.why))
	}
	s.options.Log.LogAttrs(r.Context(), level, r.Method+" "+r.URL.Path, attrs...)
}

var errNoObject = errors.New("not exactly one JSON object")

// problemOf says what is wrong with a body, without quoting it.
func problemOf(err error) string {
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return "a field stands twice in the body"
	case errors.As(err, &syntax):
		return fmt.Sprintf("the body stops being JSON at byte %d", syntax.ByteOffset)
	default:
		return "the body must be exactly one JSON object"
	}
}

// readPost returns the body of a POST. The codes are WeChat's common ones:
// https://developers.weixin.qq.com/doc/oplatform/Return_codes/Return_code_descriptions_new.html
func readPost(r *http.Request) ([]byte, *reply) {
	if r.Method != http.MethodPost {
		return nil, refuse(43002, "require POST method", "the method is "+r.Method)
	}
	body, err := io.ReadAll(r.Body)
	switch {
	case err != nil:
		if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, notJSON(fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit))
		}
		return nil, notJSON("the body ended before its Content-Length, which counts bytes, not characters")
	case len(body) == 0:
		return nil, refuse(44002, "empty post data", "")
	}
	return body, nil
}

// refuseSignature answers with an errcode for a wrong signature. explain is asked
// only if somebody reads the log, and not while others wait.
func refuseSignature(errcode int, errmsg string, explain func() string) *reply {
	return &reply{status: http.StatusOK, errcode: errcode, errmsg: errmsg, explain: explain}
}

func notJSON(why string) *reply { return refuse(47001, "data format error", why) }

// readQuery refuses a query that does not hold names, of which access_token is one,
// once each, or, unless it is lenient, that holds anything else.
func readQuery(r *http.Request, lenient bool, names ...string) (url.Values, *reply) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if query.Get("access_token") == "" {
		return nil, refuse(41001, "access_token missing", "it belongs in the query")
	}
	good := err == nil && (lenient || len(query) == len(names))
	for _, name := range names {
		good = good && len(query[name]) == 1
	}
	if !good {
		return nil, badParameter("query", "must hold "+strings.Join(names, ", ")+", each once, and nothing else")
	}
	return query, nil
}
