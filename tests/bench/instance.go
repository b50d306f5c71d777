package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"increment-backup-download/tests/harness"
)

// The delays of the services, and the DBS calls in flight, of most figures.
const (
	dbsDelay = 20 * time.Millisecond
	mnsDelay = 5 * time.Millisecond
	inFlight = 16
)

// place is where an executable runs.
type place struct {
	settings map[string]string
	delays   bool // of the services
	quota    bool // at the deployed size
	tls      bool // DBS and MNS over HTTPS
}

// deployment is an executable that runs against stand-ins of its own.
type deployment struct {
	*harness.Cloud
	*harness.Instance
	secured []secure
	group   *harness.Group
	batches int
	undo    []func()
}

// deployments counts them, for the names of their control groups.
var deployments int

// deploy starts an executable, which has asked for work when it returns.
func (b *bench) deploy(executable string, at place) (*deployment, error) {
	d := &deployment{}
	if err := d.start(b, executable, at); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *deployment) start(b *bench, executable string, at place) (err error) {
	if d.Cloud, err = harness.NewCloud(); err != nil {
		return err
	}
	d.undo = append(d.undo, d.Close)
	d.Timeout = 10 * time.Minute
	if at.delays {
		d.DBS.Delay, d.MNS.Delay = dbsDelay, mnsDelay
	}
	settings := map[string]string{"LOG_LEVEL": "info"}
	for name, value := range at.settings {
		settings[name] = value
	}
	if at.tls {
		dbs, mns := startSecure(d.DBSFaults), startSecure(d.MNSFaults)
		d.secured = []secure{dbs, mns}
		d.undo = append(d.undo, dbs.Close, mns.Close)
		settings["DBS_ENDPOINT"], settings["MNS_ENDPOINT"] = dbs.URL, mns.URL
		if settings["SSL_CERT_FILE"], err = dbs.writeCertificate(b.folder); err != nil {
			return err
		}
	}
	if at.quota {
		deployments++
		if d.group, err = harness.NewGroup(strconv.Itoa(deployments)); err != nil {
			return err
		}
		d.undo = append(d.undo, func() { _ = d.group.Remove() })
		if executable, err = d.group.Wrap(b.folder, executable); err != nil {
			return err
		}
	}
	if d.Instance, err = d.StartInstance(executable, settings); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := d.Runtime.AskedForWork(ctx, 1); err != nil {
		return fmt.Errorf("the executable did not ask for work: %w\n%s", err, d.Output)
	}
	if d.group != nil && !d.group.Has(d.Process().Pid) {
		return errors.New("the executable is not in its control group")
	}
	return nil
}

// close ends the executable and its stand-ins, and returns what it used.
func (d *deployment) close() *os.ProcessState {
	var state *os.ProcessState
	if d.Instance != nil {
		state = d.Stop()
	}
	for _, undo := range slices.Backward(d.undo) {
		undo()
	}
	return state
}

// handle invokes the executable with a batch of events that it has not seen.
func (d *deployment) handle(ctx context.Context, events, padding int) (time.Duration, error) {
	d.batches++
	if d.group != nil {
		// What the batch before has used of the quota is not this one's cost.
		select {
		case <-time.After(2 * harness.QuotaPeriod):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	answer, err := d.Invoke(ctx, payload(d.batches, events, padding))
	return answer.Took, err
}

// payload returns an event stream payload; padding makes each event larger.
func payload(batch, events, padding int) []byte {
	var s bytes.Buffer
	s.WriteByte('[')
	fill := ""
	if padding > 0 {
		fill = fmt.Sprintf(`,"Comment":%q`, strings.Repeat("x", padding))
	}
	for i := range events {
		if i > 0 {
			s.WriteByte(',')
		}
		id := fmt.Sprintf("EB0A77CA8076%08X%012X", batch, i)
		body := fmt.Sprintf(`{"BackupSetJobId":"t4yh0g0g0001","BackupSetId":"mysql-bin.%06d","BackupStatus":"COMPLETED","BackupSize":1073742336,"StorageMethod":"Standard"%s}`, i, fill)
		fmt.Fprintf(&s, `{"data":{"requestId":"62BF1E5C3031365E5C2D1F7A","messageId":%q,"messageBody":%q},"id":%q,"source":"acs:mns","specversion":"1.0","type":"mns:Queue:SendMessage",`+
			`"datacontenttype":"application/json; charset=utf-8","time":"2026-11-23T09:00:00.123Z","subject":"acs:mns:cn-hangzhou:1234567890123456:queues/backup-events","aliyunaccountid":"1234567890123456"}`, id, body, id)
	}
	s.WriteByte(']')
	return s.Bytes()
}

// withoutQuota returns why the deployed size cannot be measured here, or nothing.
func withoutQuota() string {
	g, err := harness.NewGroup("try")
	if err == nil {
		err = g.Remove()
	}
	if err != nil {
		return strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return ""
}
