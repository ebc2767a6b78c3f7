package simulator

import (
	"time"

	"midas-sidecar/internal/wechat"
)

// Fault is one way to misbehave in one call. The zero value is none.
type Fault struct {
	// Kind is the name of one of Kinds.
	Kind string
	// Delay is how long late waits once the client has gone, and drip_after from
	// one byte to the next. 0 is the kind's default. Others have no use for it.
	Delay time.Duration
}

// Call is what is known of a call once it has been read. It need not be true:
// nothing has been verified yet.
type Call struct {
	wechat.Endpoint

	AppID, OpenID string
	ZoneID        string // of v2
	BillNo        string // "" for those that only read
	// Attempt counts the calls of this path, app, environment and bill_no, or openid
	// where there is no bill_no, since the faults were last set; in v2 those of the
	// player in the zone. The first is 1.
	Attempt int
}

// describe returns what is known of a call.
func (c call) describe() Call {
	d := Call{Endpoint: c.endpoint, AppID: c.appid, OpenID: c.get("openid"), BillNo: c.get("bill_no")}
	if c.isV2() {
		d.ZoneID = c.get("zone_id")
	}
	return d
}

// orderID returns the order that a payment names.
func (c Call) orderID() OrderID {
	id := OrderID{AppID: c.AppID, Environment: c.Environment, BillNo: c.BillNo}
	if c.API.Family == wechat.V2 {
		id.OpenID, id.ZoneID = c.OpenID, c.ZoneID
	}
	return id
}

// faults are what strikes until others are set.
type faults struct {
	plan   Plan // that decides, if one does
	decide func(Call) Fault
	counts map[Call]int  // the attempts; guarded by the simulator's mutex
	over   chan struct{} // closed when others are set
}

func newFaults(plan Plan, decide func(Call) Fault) *faults {
	return &faults{plan, decide, make(map[Call]int), make(chan struct{})}
}

// Misbehave sets who decides how each call goes wrong that pays or asks for a
// balance, in place of whoever decided until now. It is asked once a call, from many goroutines, and may use
// the simulator: end a session, replace a token, read the books. A kind that does
// not exist is a panic.
func (s *Simulator) Misbehave(decide func(Call) Fault) {
	s.setFaults(newFaults(Plan{}, decide))
}

// Plan is Misbehave by a table, which must not be changed any more. The error names
// the part of it that cannot be.
func (s *Simulator) Plan(plan Plan) error {
	if err := plan.check(); err != nil {
		return err
	}
	s.setFaults(newFaults(plan, plan.decide))
	return nil
}

// Forget ends all faults: calls from now on are served well, calls that hang lose
// their connection, and what would land late lands now.
func (s *Simulator) Forget() { s.setFaults(newFaults(Plan{}, Plan{}.decide)) }

func (s *Simulator) setFaults(f *faults) {
	s.mu.Lock()
	old := s.faults
	s.faults = f
	s.mu.Unlock()
	close(old.over)
}

// serve carries out a call, as badly as the faults want.
func (s *Simulator) serve(c call) *reply {
	fault, over := s.arrive(c)
	kind, known := findKind(kinds, fault.Kind)
	if !kind.strikes(c.endpoint.API.Name) || !kind.strikesFamily(c.endpoint.API.Family.Name) {
		kind.strike = nil
	}
	v := &victim{Simulator: s, call: c, over: over}
	v.refusal = func() *reply { return s.admit(c) }
	v.deed = func() *reply { return s.perform(v.call) } // which a strike may have changed
	v.sham = done(members{{"bill_no", c.get("bill_no")}}, "not carried out")
	return v.serve(fault, kind, known)
}

// serve strikes the victim as its fault wants, which is of that kind if one is
// known.
func (v *victim) serve(fault Fault, kind Kind, known bool) *reply {
	switch {
	case fault.Kind == "":
		return v.carryOut()
	case !known:
		panic("simulator: no kind of fault is called " + fault.Kind)
	case kind.strike == nil:
		return v.carryOut()
	case !kind.unverified:
		v.mu.Lock()
		refusal := v.refusal()
		v.mu.Unlock()
		if refusal != nil {
			return refusal
		}
	}
	v.delay = kind.delay
	if fault.Delay != 0 {
		v.delay = fault.Delay
	}
	out := kind.strike(v)
	out.fault = kind.Name
	return out
}

// arrive counts a call and asks how it is to go wrong. over is closed when that no
// longer holds.
func (s *Simulator) arrive(c call) (fault Fault, over <-chan struct{}) {
	arrived := c.describe()
	s.mu.Lock()
	f := s.faults
	known := s.state.Apps[arrived.AppID] != nil && isName(arrived.OpenID) && (arrived.BillNo == "" || isName(arrived.BillNo)) &&
		(!c.isV2() || isName(arrived.ZoneID))
	if known {
		arrived.Attempt = f.count(arrived)
		s.attempts.count(arrived)
	}
	s.mu.Unlock()
	if !known { // it will be refused, and its made up names must not fill our memory
		return Fault{}, f.over
	}
	return f.decide(arrived), f.over
}

func (f *faults) count(c Call) int {
	if c.BillNo != "" && c.API.Family == wechat.V1 {
		c.OpenID = "" // an order is known by its number alone
	}
	f.counts[c]++
	return f.counts[c]
}

// arriveAt is arrive for an app's call for its access_token or a player's session, about
// which only a plan decides.
func (s *Simulator) arriveAt(path, appid, openid string) (fault Fault, over <-chan struct{}) {
	arrived := Call{Endpoint: wechat.Endpoint{Path: path}, AppID: appid, OpenID: openid}
	s.mu.Lock()
	f := s.faults
	known := s.state.Apps[appid] != nil
	if known {
		arrived.Attempt = f.count(arrived)
	}
	s.mu.Unlock()
	if !known {
		return Fault{}, f.over
	}
	return f.plan.decide(arrived), f.over
}

// victim is a call that a fault may strike.
type victim struct {
	*Simulator

	call  call // of a payment
	delay time.Duration
	over  <-chan struct{} // closed when the faults are others

	// While the simulator is locked, refusal tells why the call may not be carried
	// out, nil if it may, and deed carries it out.
	refusal, deed func() *reply
	sham          *reply // as good an answer as the deed's
}

// carryOut does what the call asks for, or says why not. No state changes in
// between: the checks and the ledger see the same.
func (v *victim) carryOut() *reply {
	v.mu.Lock()
	defer v.mu.Unlock()
	if refusal := v.refusal(); refusal != nil {
		return refusal
	}
	return v.deed()
}

// apply carries the call out, however its answer fares.
func (v *victim) apply() *reply {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.deed()
}
