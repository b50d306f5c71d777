package main

import (
	"fmt"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin/mns"
	"increment-backup-download/tests/standin/trigger"
)

// following takes what it costs to follow a task: the follow-up that its event sends,
// and its first delivery.
func (b *bench) following() error {
	settings := map[string]string{"SOURCE_QUEUE": harness.SourceQueue}
	d, err := b.deploy(b.function, place{settings: settings})
	if err != nil {
		return err
	}
	_, err = d.handle(b.ctx, 1, event{})
	sent := len(d.MNS.Messages(harness.SourceQueue))
	d.close()
	if err == nil && sent == 0 {
		b.doc.Notes = append(b.doc.Notes, "Following was not measured: the function sends no follow-ups.")
		return nil
	}
	if err != nil {
		return err
	}
	return b.compare(figure{Name: "CPU time an event, followed", On: onWholeCores, Unit: "µs", Yardstick: "not followed"}, 7,
		b.cpuOf(b.function, settings), b.cpuOf(b.function, nil))
}

// followUp delivers, without their delay, the follow-ups that the batch before has
// sent, and drops those that are sent again.
func (d *deployment) followUp(b *bench) error {
	sent := d.MNS.Messages(harness.SourceQueue)
	if len(sent) == 0 {
		return nil
	}
	source := &trigger.Trigger{Queue: d.MNS, Source: harness.SourceQueue}
	if _, err := d.Invoke(b.ctx, source.Payload(sent)); err != nil {
		return fmt.Errorf("%d follow-ups: %w", len(sent), err)
	}
	d.MNS.RemoveQueue(harness.SourceQueue)
	d.MNS.AddQueue(harness.SourceQueue, mns.Defaults())
	return nil
}
