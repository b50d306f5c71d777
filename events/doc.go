// Package events holds the wire formats of the function: the payloads that
// Function Compute hands over, with the backup events inside them, and the
// results that go to the result queue.
//
// A payload carries one message or an array of them, in any of the shapes that
// the triggers of Function Compute deliver; [Decoder] yields its messages one at
// a time as [Event] values. A [Result] is the CloudEvent published for each
// event. The JSON Schemas of both are in the folder schema, and a captured
// payload of each shape is in testdata.
//
// The package knows no network, no clock and no SDK.
package events
