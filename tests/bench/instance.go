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
	"increment-backup-download/tests/standin/fcruntime"
)

// The delays of the services, and the DBS calls in flight, of most figures.
const (
	dbsDelay = 20 * time.Millisecond
	mnsDelay = 5 * time.Millisecond
	inFlight = 16
)

// place is where an executable runs.
type place struct {
	fill     func(*harness.Cloud) // before the executable starts
	settings map[string]string
	delays   bool // of the services
	deployed bool // in a control group of the deployed size
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
	if at.fill != nil {
		at.fill(d.Cloud)
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
	if at.deployed {
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
func (d *deployment) handle(ctx context.Context, events int, each event) (time.Duration, error) {
	d.batches++
	if d.group != nil {
		// What the batch before has used of the quota is not this one's cost.
		select {
		case <-time.After(2 * harness.QuotaPeriod):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	answer, err := d.Invoke(ctx, payload(d.batches, events, each))
	return answer.Took, err
}

// How an invocation ended.
const (
	answered = "answered"
	failed   = "failed" // answered with an error, which has the events delivered again
	late     = "late"   // not answered at its deadline
	killed   = "killed" // for the memory that the instance wanted
)

// outcome is how one invocation ended.
type outcome struct {
	ended   string
	answer  []byte
	seconds float64
}

// invoke invokes the executable once. How that ended is no error.
func (d *deployment) invoke(b *bench, payload []byte) (outcome, error) {
	started := time.Now()
	answer, err := d.Invoke(b.ctx, payload)
	o := outcome{ended: answered, answer: answer.Payload, seconds: time.Since(started).Seconds()}
	var failure *fcruntime.Error
	switch {
	case err == nil:
	case errors.As(err, &failure):
		o.ended, o.answer = failed, []byte(failure.Error())
	case errors.Is(err, fcruntime.ErrTimeout):
		o.ended = late
	case errors.Is(err, fcruntime.ErrExited):
		// A process that is killed says nothing.
		if _, trace, crashed := strings.Cut(d.Output.String(), "\npanic: "); crashed {
			return o, fmt.Errorf("the function panicked: %.2000s", trace)
		}
		o.ended = killed
	default:
		return o, err
	}
	return o, nil
}

// event is the size of the events of a payload.
type event struct {
	names   int // characters of BackupSetJobId and BackupSetId, at least
	padding int // of a field that the function does not read
}

// payload returns an event stream payload.
func payload(batch, events int, each event) []byte {
	var s bytes.Buffer
	s.WriteByte('[')
	fill, now := "", time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	if each.padding > 0 {
		fill = fmt.Sprintf(`,"Comment":%q`, strings.Repeat("x", each.padding))
	}
	for i := range events {
		if i > 0 {
			s.WriteByte(',')
		}
		id := fmt.Sprintf("EB0A77CA8076%08X%012X", batch, i)
		job, name := fmt.Sprintf("t4yh0g0g%0*d", max(4, each.names-len("t4yh0g0g")), 1), fmt.Sprintf("mysql-bin.%0*d", max(6, each.names-len("mysql-bin.")), i)
		body := fmt.Sprintf(`{"BackupSetJobId":%q,"BackupSetId":%q,"BackupStatus":"COMPLETED","BackupSize":1073742336,"StorageMethod":"Standard"%s}`, job, name, fill)
		fmt.Fprintf(&s, `{"data":{"requestId":"62BF1E5C3031365E5C2D1F7A","messageId":%q,"messageBody":%q},"id":%q,"source":"acs:mns","specversion":"1.0","type":"mns:Queue:SendMessage",`+
			`"datacontenttype":"application/json; charset=utf-8","time":%q,"subject":"acs:mns:cn-hangzhou:1234567890123456:queues/backup-events","aliyunaccountid":"1234567890123456"}`, id, body, id, now)
	}
	s.WriteByte(']')
	return s.Bytes()
}

// withoutGroup returns why the deployed size cannot be measured here, or nothing.
func withoutGroup() string {
	g, err := harness.NewGroup("try")
	if err == nil {
		err = g.Remove()
	}
	if err != nil {
		return strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return ""
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
