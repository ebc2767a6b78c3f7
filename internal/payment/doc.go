// Package payment decides about money: it turns an order into an answer that says
// truthfully whether the player's coins moved. It meets the world only through the
// interfaces that it declares.
//
// One order goes downwards through
//
//	Processor.Process   admits the order (package ledger), carries it out, ends it
//	execution.run       makes attempts until one is decided or the time is up
//	execution.attempt   signs, sends, and reads what came back
//	decide              says what that means for the player's money, and what to do next
//	execution.answer    puts it into words for the caller
//
// An attempt ends in one of three ways, and decide is where each of them leads:
//
//	              ┌── never sent ──────────────► again, while there is time
//	attempt ──────┼── lost: no readable end ───► again; unknown when the time is up
//	   ▲          └── answered: an errcode ────► package wechat's table
//	   │                                           applied, done before   the end
//	   │   again: after a pause                    unsure                 again
//	   └── or at once, signed anew ◄────────────── token, session, key    renew it, else refused
//	                                               refused                the end
//
// What an answer means depends on more than its errcode. A refusal after a lost attempt
// proves little: the balance may be short because the lost attempt spent it. The facts
// that decide weighs stand side by side in [evidence], and those that other calls left
// behind come from the ledger, in one snapshot that is taken after the attempt.
//
// A pay that ends unknown may be taken back (Processor.CancelUnknown). That is a second
// stage after the first, with a cancel that goes through the same steps.
package payment
