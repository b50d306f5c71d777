package main

import "embed"

// sampleFiles are message bodies as producers put them into the source queue.
//
//go:embed samples
var sampleFiles embed.FS

// samples are the events of a run without flags, and what must become of each.
var samples = []struct{ file, about, want string }{
	{"1-list-item.json", "list item", outcomeCreated},
	{"2-request-parameters.json", "request parameters", outcomeCreated},
	{"3-base64.txt", "list item in base64", outcomeCreated},
	{"4-cloudevent.json", "CloudEvent in the body", outcomeCreated},
	{"5-cloudevent-again.json", "the same, sent again", outcomeRepeated},
	{"6-unfinished.json", "still FILLING", outcomeIgnored},
	{"7-not-an-event.txt", "not a backup event", outcomeDead},
	{"8-unknown-backup-set.json", "unknown to DBS", outcomeDead},
}
