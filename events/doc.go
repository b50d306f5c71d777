// Package events holds the wire formats of the function: the payloads that Function Compute
// hands over, with the backup events inside them, and the messages that the function sends.
//
// A payload carries a command, which [ReadCommand] reads, or one message or an array
// of them, in any of the shapes that the triggers of Function Compute deliver;
// [Decoder] yields its messages one at a time as [Event] values. A [Result] goes to
// the result queue; an [Announcement] and a [FollowUp] go to the source queue, and
// come back as events. The JSON Schemas of all of them are in the folder schema, and
// a captured payload of each shape is in testdata.
//
// The package knows no network, no clock and no SDK.
package events
