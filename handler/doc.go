// Package handler is the use case of backup events: one payload in; for each event a
// download task is created and its result published; a summary out. [Handler.Serve]
// tells the payloads apart, and hands those of other use cases on.
//
// Every delivered event ends in at least one of: result published, dead-lettered (and
// then its failure published), ignored because its backup set is not complete, or left
// open. If an event is open, [Handler.Handle] returns an error, the invocation fails,
// and the queue delivers the payload again. One event ID never makes two download tasks,
// given that DBS honours ClientToken. What a person types is answered instead: nothing
// is published for it if it cannot be understood, and it is never dead-lettered.
//
// Function Compute reports the name of the outermost error type:
//
//   - [*RedeliveryError]: events are open for now; a further delivery does the rest.
//   - [*OperatorFaultError]: somebody must fix a permission, a credential or a
//     queue, within the day for which the trigger delivers again.
//   - [*EventError]: a payload typed by hand cannot be understood.
//   - [*discovery.DiscoveryError]: a discovery run left a backup plan alone, or could
//     not announce all that it found; the next run finds it again.
package handler
