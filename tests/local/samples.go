package main

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"increment-backup-download/tests/harness"
)

// sampleFiles are message bodies as producers put them into the source queue.
//
//go:embed samples
var sampleFiles embed.FS

// samples are the events of a run without flags, and what must become of each.
var samples = []struct{ file, about, want string }{
	{"1-list-item.json", "list item", outcomeFinished},
	{"2-request-parameters.json", "request parameters", outcomeFinished},
	{"3-base64.txt", "list item in base64", outcomeStopped},
	{"4-cloudevent.json", "CloudEvent", outcomeFinished},
	{"5-cloudevent-again.json", "the same, sent again", outcomeRepeated},
	{"6-unfinished.json", "still FILLING", outcomeIgnored},
	{"7-not-an-event.txt", "not a backup event", outcomeDead},
	{"8-unknown-to-dbs.json", "unknown to DBS", outcomeDead},
}

// samples lets a timer discover the sets of the plan, and delivers the sample events.
func (l *local) samples(ctx context.Context, cloud *harness.Cloud) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	defer l.notes.during(func() string { return "waiting for the function" })()
	sets, setsOK, err := l.discoverPlan(ctx, cloud)
	if err != nil {
		return false, err
	}
	l.say("")

	l.say("Other producers put %d sample events into queue %s ...", len(samples), harness.SourceQueue)
	events, eventsOK, err := l.deliverSamples(ctx, cloud)
	if err != nil {
		return false, err
	}
	ok := setsOK && eventsOK
	tasks := map[string]bool{}
	for _, task := range cloud.DBS.Tasks() {
		ok = ok && !tasks[task.ClientToken]
		tasks[task.ClientToken] = true
	}
	if err := l.show(cloud, document{OK: ok, Discovered: sets, Events: events}); err != nil {
		return false, err
	}
	if ok {
		l.say("Every set and event ended as it should: %d tasks for %d sets and %d events.",
			len(tasks), len(sets), len(events))
	} else {
		l.say("NOT every set and event ended as it should; the tables show what was wrong.")
	}
	return ok, nil
}

func (l *local) deliverSamples(ctx context.Context, cloud *harness.Cloud) (shown []row, ok bool, err error) {
	ids, names := make([]string, len(samples)), make([]string, len(samples))
	for i, sample := range samples {
		body, err := sampleFiles.ReadFile("samples/" + sample.file)
		if err != nil {
			return nil, false, err
		}
		text := strings.TrimSuffix(string(body), "\n")
		message, err := cloud.MNS.Put(harness.SourceQueue, text)
		if err != nil {
			return nil, false, err
		}
		ids[i] = message.ID
		var event struct{ ID, BackupSetID string }
		if json.Unmarshal([]byte(text), &event) == nil && event.ID != "" {
			ids[i] = event.ID
		}
		names[i] = event.BackupSetID
	}
	if _, _, err := cloud.Trigger(100).DrainDelayed(ctx); err != nil {
		return nil, false, err
	}
	found, err := rows(cloud)
	if err != nil {
		return nil, false, err
	}
	ok = true
	seen := make(map[string]bool)
	for i, sample := range samples {
		r, has := found[ids[i]]
		switch {
		case !has && sample.want == outcomeIgnored:
			r = row{EventID: ids[i], BackupSetName: names[i], Outcome: outcomeIgnored}
		case !has:
			r = row{EventID: ids[i], Outcome: outcomeLost}
		case seen[ids[i]]:
			r.Outcome = outcomeRepeated
		}
		seen[ids[i]] = true
		r.About = sample.about
		shown = append(shown, r)
		ok = ok && r.Outcome == sample.want
	}
	return shown, ok, nil
}

// count writes a number and what it counts.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if stem, ok := strings.CutSuffix(what, "y"); ok {
		what = stem + "ie"
	}
	return fmt.Sprintf("%d %ss", n, what)
}
