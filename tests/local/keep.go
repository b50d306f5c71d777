package main

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin/mns"
	"increment-backup-download/tests/standin/trigger"
)

// address is how to reach the stand-ins.
type address struct {
	MNS             string `json:"mns"`
	MNSForGoSDK     string `json:"mnsForGoSdk"`
	DBS             string `json:"dbs"`
	AccessKeyID     string `json:"accessKeyId"` // of an assumed role
	AccessKeySecret string `json:"accessKeySecret"`
	SecurityToken   string `json:"securityToken"`
	// KeyPair is for clients that know no security token.
	KeyPair struct {
		AccessKeyID     string `json:"accessKeyId"`
		AccessKeySecret string `json:"accessKeySecret"`
	} `json:"keyPair"`
	SourceQueue     string `json:"sourceQueue"`
	ResultQueue     string `json:"resultQueue"`
	DeadLetterQueue string `json:"deadLetterQueue"`
	BackupPlanID    string `json:"backupPlanId"`
}

func addressOf(cloud *harness.Cloud) address {
	a := address{
		MNS: cloud.MNSServer.URL, MNSForGoSDK: mns.Endpoint(cloud.MNSServer.URL), DBS: cloud.DBSServer.URL,
		AccessKeyID: cloud.Key.ID, AccessKeySecret: cloud.Key.Secret, SecurityToken: cloud.Key.Token,
		SourceQueue: harness.SourceQueue, ResultQueue: harness.ResultQueue, DeadLetterQueue: harness.DeadLetterQueue,
		BackupPlanID: harness.PlanID,
	}
	a.KeyPair.AccessKeyID, a.KeyPair.AccessKeySecret = cloud.KeyPair.ID, cloud.KeyPair.Secret
	return a
}

// goOn delivers what other clients send to the source queue, and fires the timer,
// until ctx ends. Each end is printed as it happens.
func (l *local) goOn(ctx context.Context, cloud *harness.Cloud, timer bool) error {
	a := addressOf(cloud)
	l.say("\nThe stand-ins run until you press Ctrl-C:")
	l.say("  MNS                 %s", a.MNS)
	l.say("  MNS for its Go SDK  %s", a.MNSForGoSDK)
	l.say("  DBS                 %s", a.DBS)
	l.say("They accept the credentials of an assumed role:")
	l.say("  AccessKeyId         %s", a.AccessKeyID)
	l.say("  AccessKeySecret     %s", a.AccessKeySecret)
	l.say("  SecurityToken       %s", a.SecurityToken)
	l.say("and, for clients that know no security token, the key pair of a user:")
	l.say("  AccessKeyId         %s", a.KeyPair.AccessKeyID)
	l.say("  AccessKeySecret     %s", a.KeyPair.AccessKeySecret)
	l.say("Messages that you send to queue %s are delivered to the function.", harness.SourceQueue)
	l.say("A task finishes %.0f s after it was created. To follow one, ask DBS for", l.taskTime.Seconds())
	l.say("  DescribeBackupSetDownloadTaskList with BackupSetDownloadTaskId")
	l.say("until its BackupSetDownloadStatus is finish; then the answer has links to its file.")
	l.say("As in the sample of DBS, a task names its plan without the prefix dbs.")
	l.say("The consumer fetches the files of the tasks that the function reports as finished:")
	l.say("  export ALIBABA_CLOUD_ACCESS_KEY_ID=%s", a.KeyPair.AccessKeyID)
	l.say("  export ALIBABA_CLOUD_ACCESS_KEY_SECRET=%s", a.KeyPair.AccessKeySecret)
	l.say("  go run ./tests/consumer -mns %s \\\n      -dbs %s -dir downloads", a.MNSForGoSDK, a.DBS)

	var helpers sync.WaitGroup
	defer helpers.Wait()
	if timer {
		if !l.json {
			cloud.DBS.Complete(planJob, fillingSet)
			l.say("The timer fires every %.0f s. %s has finished by now, so the next run finds it.",
				l.timerInterval.Seconds(), fillingSet)
		}
		helpers.Go(func() { l.keepTimer(ctx, cloud) })
	}
	return l.keepDelivering(ctx, cloud)
}

// keepTimer fires the timer until ctx ends, and says when it found something.
func (l *local) keepTimer(ctx context.Context, cloud *harness.Cloud) {
	timer := &trigger.Timer{Name: "discovery", Every: l.timerInterval}
	timer.Deliver = func(ctx context.Context, payload []byte) error {
		answer, err := cloud.Invoke(ctx, payload)
		if err != nil {
			if ctx.Err() == nil {
				l.event(map[string]any{"timer": "failed", "error": err.Error()}, "timer: the run failed: %v", err)
			}
			return err
		}
		found, err := harness.ReadDiscovered(answer.Payload)
		for _, plan := range found.Plans {
			if plan.Announced > 0 {
				l.event(map[string]any{"timer": "announced", "backupPlanId": plan.BackupPlanID, "announced": plan.Announced},
					"timer: %s of plan %s announced", count(plan.Announced, "backup set"), plan.BackupPlanID)
			}
		}
		return err
	}
	timer.Run(ctx)
}

// keepDelivering delivers the source queue until ctx ends.
func (l *local) keepDelivering(ctx context.Context, cloud *harness.Cloud) error {
	deliveries := cloud.Trigger(100) // as many events as an answer has entries
	deliveries.FirstWait = time.Second
	deliveries.Deliver = func(ctx context.Context, payload []byte) error {
		dead := len(cloud.MNS.Messages(harness.DeadLetterQueue))
		done, err := cloud.Invoke(ctx, payload)
		if err != nil {
			return err
		}
		var a answer
		if err := json.Unmarshal(done.Payload, &a); err != nil {
			return err
		}
		for _, r := range a.rows(cloud, len(cloud.MNS.Messages(harness.DeadLetterQueue)) > dead) {
			if r.Outcome == "" {
				continue // a follow-up that asks again later
			}
			r.Element = 0
			l.event(r, "%-15s  %s  %s  event %s", r.Outcome, r.BackupSetName, r.reason(), brief(r.EventID))
		}
		return nil
	}
	deliveries.Delivered = func(d trigger.Delivery) {
		if d.Err != nil && ctx.Err() == nil {
			l.event(map[string]any{"delivery": d.Attempt, "error": d.Err.Error(), "again": d.Wait.Seconds()},
				"delivery %d of %s failed, again in %.0f s: %v",
				d.Attempt, count(len(d.Messages), "message"), d.Wait.Seconds(), d.Err)
		}
	}
	return deliveries.Run(ctx)
}

// event prints what has just happened: as a JSON line, or for a person.
func (l *local) event(value any, format string, args ...any) {
	if l.json {
		l.mu.Lock()
		defer l.mu.Unlock()
		_ = l.print(value)
		return
	}
	l.say(time.Now().Format("15:04:05")+"  "+format, args...)
}
