package simulator

import (
	"fmt"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
)

const faultsPath = "/simulator/faults"

// serveFaults lets whoever has no Go set, list and clear the plan.
func (s *Simulator) serveFaults(r *http.Request) *reply {
	switch r.Method {
	case http.MethodGet:
		return ok(members{{"rules", s.rules()}, {"kinds", kinds}}, "")
	case http.MethodDelete:
		s.Forget()
	case http.MethodPost:
		plan, err := readPlan(r)
		if err == nil {
			err = s.Plan(plan)
		}
		if err != nil {
			return ownRefusal(http.StatusBadRequest, err.Error())
		}
	default:
		return ownRefusal(http.StatusMethodNotAllowed, "the faults are read with GET, set with POST and cleared with DELETE")
	}
	return ok(members{{"rules", s.rules()}}, "the attempts are counted anew")
}

func (s *Simulator) rules() []Rule {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults.plan.Rules
}

func readPlan(r *http.Request) (Plan, error) {
	body, refusal := readPost(r)
	if refusal != nil {
		return Plan{}, fmt.Errorf("the body must be {%q:[…]}: %s", "rules", refusal.errmsg)
	}
	var plan Plan
	if err := json.Unmarshal(body, &plan, json.RejectUnknownMembers(true)); err != nil {
		return Plan{}, fmt.Errorf("reading the faults: %w", err)
	}
	return plan, nil
}

// faultWithDelay is how a fault with a delay is written.
type faultWithDelay struct {
	Kind  string        `json:"kind"`
	Delay time.Duration `json:"delay,omitzero"`
}

// MarshalJSON writes a fault as its kind alone, where it has no delay.
func (f Fault) MarshalJSON() ([]byte, error) {
	if f.Delay == 0 {
		return json.Marshal(f.Kind)
	}
	return json.Marshal(faultWithDelay(f))
}

// UnmarshalJSON reads "lost_after" or {"kind":"late","delay":"2s"}.
func (f *Fault) UnmarshalJSON(text []byte) error {
	if text[0] == '"' {
		*f = Fault{}
		return json.Unmarshal(text, &f.Kind)
	}
	return json.Unmarshal(text, (*faultWithDelay)(f), json.RejectUnknownMembers(true))
}
