// Package handler is the use case: one payload in; for each backup event a
// download task is created and its result published; a summary out.
//
// # Promise
//
// Every delivered event ends in at least one of: result published, dead-lettered
// (and then its failure published), ignored because its backup set is not
// complete, or left open. If an event is open, [Handler.Handle] returns an error,
// the invocation fails, and the queue delivers the payload again. One event ID
// never makes two download tasks, given that DBS honours ClientToken.
//
// What a person types is answered instead: nothing is published for it if it
// cannot be understood, and it is never dead-lettered.
//
// # Discovery
//
// DBS announces no finished backup set, so [Handler.Discover] does: asked by a
// timer or by a person, it compares the backup sets of each plan with the download
// tasks that were made, and announces the difference to the source queue.
// [Handler.Serve] decides by the payload which of them is asked for.
//
// # Outcomes
//
// What DBS or MNS answers comes back from the [Ports] as a [*cloud.Error] of a
// [cloud.Kind]. Transient failures, and all that are unknown, are tried again with
// backoff inside the invocation's time budget. Permanent ones end the event: its
// body goes to the dead-letter queue, then a TaskFailed result to the result
// queue. An operator fault stops the invocation early.
//
// # Errors
//
// Function Compute reports the name of the outermost error type:
//
//   - [*RedeliveryError]: events are open for now; a further delivery does the rest.
//   - [*OperatorFaultError]: somebody must fix a permission, a credential or a
//     queue, within the day for which the trigger delivers again.
//   - [*EventError]: a payload typed by hand cannot be understood.
//   - [*DiscoveryError]: a discovery run left a backup plan alone, or could not
//     announce all that it found; the next run finds it again.
package handler
