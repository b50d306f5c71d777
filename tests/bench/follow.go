package main

import (
	"fmt"
	"strings"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin/mns"
	"increment-backup-download/tests/standin/trigger"
)

// following takes what it costs to follow a task: the follow-up that its event sends,
// the call when that comes back, and the result that says how the task ended.
func (b *bench) following() error {
	return b.compare(figure{Name: "CPU time an event, followed", On: onWholeCores, Unit: "µs", Yardstick: "not followed"}, 7,
		b.cpuOf(b.function, true), b.cpuOf(b.function, false))
}

// followUp delivers, without their delay, the follow-ups that a batch has sent. Their
// tasks have ended.
func (d *deployment) followUp(b *bench, events int) error {
	source := &trigger.Trigger{Queue: d.MNS, Source: harness.SourceQueue}
	sent := d.MNS.Messages(harness.SourceQueue)
	d.MNS.RemoveQueue(harness.SourceQueue)
	d.MNS.AddQueue(harness.SourceQueue, mns.Defaults())
	answer, err := d.Invoke(b.ctx, source.Payload(sent))
	if err != nil {
		return fmt.Errorf("%d follow-ups: %w", len(sent), err)
	}
	if want := fmt.Sprintf(`"finished":%d`, events); !strings.Contains(string(answer.Payload), want) {
		return fmt.Errorf("%d events sent %d follow-ups, and not all found their task finished: %.300s", events, len(sent), answer.Payload)
	}
	return nil
}
