// Package outcome is what a caller is told: whether the player's money moved, and the
// answer that says so. Both what decides it and what remembers it speak this language.
package outcome

// Outcome says whether the player's money moved. It is the value of the header
// Midas-Outcome and of a metric label: a closed set.
type Outcome string

// The outcomes.
const (
	// Applied: the order was carried out. For a call that reads: answered.
	Applied Outcome = "applied"
	// AlreadyApplied: an earlier attempt of ours that was lost carried the order out.
	AlreadyApplied Outcome = "already_applied"
	// Duplicate: an order with this bill_no was carried out before, by a call that
	// was not ours, or may have been taken back since. The caller decides whether it
	// meant the same order.
	Duplicate Outcome = "duplicate"
	// Rejected: WeChat refused the order; nothing moved.
	Rejected Outcome = "rejected"
	// Unknown: the order may or may not have been carried out. Call again with the
	// same bill_no, or cancel.
	Unknown Outcome = "unknown"
	// NotSent: nothing left this host.
	NotSent Outcome = "not_sent"
)
