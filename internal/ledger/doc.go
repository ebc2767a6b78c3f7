// Package ledger knows the orders that are pending and those that were completed a while
// ago, so that one order is one order however often it is called, and says what that
// means for a call.
//
// A call asks [Ledger.Begin] what to do, and one that proceeds reports its answer to
// [Ledger.End]:
//
//	           Begin: Proceed               End: something to remember
//	(absent) ──────────────────► pending ──────────────────────────────► completed
//	   ▲                          │   ▲                                     │   │
//	   │   End: nothing to        │   │          Begin: Proceed             │   │
//	   ├──────────────────────────┘   └─────────────────────────────────────┘   │
//	   │   its time is over, or there are too many                              │
//	   └────────────────────────────────────────────────────────────────────────┘
//
// What Begin returns for the same parameters:
//
//	pending                                     Join, or Wait where the answer may be out of date
//	completed: applied, and not canceled since  Replay
//	completed: taken back by the sidecar        Replay
//	completed: anything else                    Proceed
//
// and for other parameters under the same bill_no:
//
//	pending                                     Conflict
//	completed: applied, or of unknown end       Conflict
//	completed: anything else                    Proceed
//
// An order is more than its own calls. A cancel means something for its pay, before and
// after either of them ends, and a number that one API used is spent for the others. So
// the ledger keeps facts beside each order, and changes those of the related orders
// whenever one begins or ends. [Ledger.Facts] is the snapshot that a verdict rests on. It
// is taken under one lock, after the attempt: what was known before it may no longer be
// true.
package ledger
