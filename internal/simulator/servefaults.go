package simulator

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

const faultsPath = "/simulator/faults"

// serveFaults is Plan and Forget over HTTP, and lists what there is.
func (s *Simulator) serveFaults(r *http.Request) *reply {
	switch r.Method {
	case http.MethodGet:
		return ok(members{{"rules", s.rules()}, {"kinds", kinds}, {"token_kinds", tokenKinds}, {"login_kinds", loginKinds}}, "")
	case http.MethodDelete:
		s.Forget()
		return ok(members{{"rules", s.rules()}}, "calls are served well from now on")
	case http.MethodPost:
		plan, err := readPlan(r)
		if err == nil {
			err = s.Plan(plan)
		}
		if err != nil {
			return ownRefusal(http.StatusBadRequest, err.Error())
		}
		return ok(members{{"rules", s.rules()}}, "attempts are counted anew from now on")
	default:
		return ownRefusal(http.StatusMethodNotAllowed, "the faults are read with GET, set with POST and cleared with DELETE")
	}
}

func (s *Simulator) rules() []Rule {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults.plan.Rules
}

func readPlan(r *http.Request) (Plan, error) {
	body, refusal := readPost(r)
	if refusal != nil {
		return Plan{}, errors.New(refusal.errmsg)
	}
	var plan Plan
	if err := json.Unmarshal(body, &plan, json.RejectUnknownMembers(true)); err != nil {
		return Plan{}, errors.New(planProblem(err))
	}
	if len(plan.Rules) == 0 {
		return Plan{}, errors.New("rules: must hold at least one rule; DELETE clears them")
	}
	return plan, nil
}

// shapes are what the fields of a plan must look like.
var shapes = map[reflect.Kind]string{
	reflect.Struct:  "an object",
	reflect.Slice:   "a list",
	reflect.String:  "a text",
	reflect.Float64: "a number",
	reflect.Uint64:  "a whole number, and not negative",
	reflect.Int64:   `a duration such as "1.5s"`,
}

// planProblem names the field of a plan that cannot be read, and the rule.
func planProblem(err error) string {
	semantic, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return problemOf(err)
	}
	at := strings.TrimPrefix(string(semantic.JSONPointer), "/")
	switch {
	case errors.Is(err, json.ErrUnknownName):
		return at + ": is not a field"
	case at == "":
		return `the body must be {"rules":[…]}`
	default:
		return fmt.Sprintf("%s: must be %s", at, shapes[semantic.GoType.Kind()])
	}
}

// faultWithDelay is how a fault with a delay is written.
type faultWithDelay struct {
	Kind  string  `json:"kind"`
	Delay waiting `json:"delay,omitzero"`
}

type waiting time.Duration

func (d waiting) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *waiting) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = waiting(parsed)
	return err
}

// MarshalJSON writes a fault as its kind alone, where it has no delay.
func (f Fault) MarshalJSON() ([]byte, error) {
	if f.Delay == 0 {
		return json.Marshal(f.Kind)
	}
	return json.Marshal(faultWithDelay{f.Kind, waiting(f.Delay)})
}

// UnmarshalJSON reads "lost_after" or {"kind":"late","delay":"1.5s"}.
func (f *Fault) UnmarshalJSON(text []byte) error {
	*f = Fault{}
	if text[0] == '"' {
		return json.Unmarshal(text, &f.Kind)
	}
	var written faultWithDelay
	err := json.Unmarshal(text, &written, json.RejectUnknownMembers(true))
	*f = Fault{written.Kind, time.Duration(written.Delay)}
	return err
}
