// Package harness runs the built executable of the function against the
// stand-ins, as Function Compute would: for the end-to-end tests, the local run
// and the benchmark.
package harness

import (
	"context"
	"errors"
	"fmt"
	"time"

	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/dbs"
	"increment-backup-download/tests/standin/fcruntime"
	"increment-backup-download/tests/standin/mns"
	"increment-backup-download/tests/standin/trigger"
)

// Names of the deployment on the stand-ins.
const (
	SourceQueue     = "backup-events"
	ResultQueue     = "increment-backup-results"
	DeadLetterQueue = "increment-backup-dead-letters"
	FunctionName    = "increment-backup-download"
	Region          = "cn-hangzhou"
	AccountID       = "1234567890123456"
	PlanID          = "dbsqdss5tmh0001" // the backup plan that discovery is for
)

// Discovery returns the settings of a deployment that discovers [PlanID].
func Discovery() map[string]string {
	return map[string]string{"BACKUP_PLAN_IDS": PlanID, "SOURCE_QUEUE": SourceQueue}
}

// Cloud is a set of stand-ins with the queues of a deployment.
type Cloud struct {
	Key     standin.Key // of the function's role
	KeyPair standin.Key // of a user, without a security token
	Keys    *standin.Keys
	Policy  *standin.Policy // of both keys; nil allows everything
	DBS     *dbs.Service
	MNS     *mns.Service
	Runtime *fcruntime.Service

	DBSFaults *standin.Faulty
	MNSFaults *standin.Faulty

	DBSServer     *standin.Server
	MNSServer     *standin.Server
	RuntimeServer *standin.Server

	// Timeout is the function's; 0 means a minute.
	Timeout time.Duration
	// Log, if set, is called with each line that an instance started later writes.
	Log func(line string)
}

// NewCloud starts the stand-ins, which enforce the RAM policy that the project
// ships for the function's role.
func NewCloud() (*Cloud, error) {
	policy, err := Policy()
	if err != nil {
		return nil, err
	}
	return NewCloudWithPolicy(policy)
}

// NewCloudWithPolicy starts the stand-ins with another policy; nil allows
// everything.
func NewCloudWithPolicy(policy *standin.Policy) (*Cloud, error) {
	key, pair := standin.NewKey(), standin.NewKeyPair()
	keys := standin.NewKeys(key, pair)
	c := &Cloud{
		Key:     key,
		KeyPair: pair,
		Keys:    keys,
		Policy:  policy,
		DBS:     dbs.New(keys, policy),
		MNS:     mns.New(keys, policy, ResultQueue, DeadLetterQueue),
		Runtime: fcruntime.New(fcruntime.Function{
			Name: FunctionName, Handler: "bootstrap", MemoryMB: 128, Region: Region, AccountID: AccountID,
		}),
	}
	c.MNS.Region, c.MNS.AccountID = Region, AccountID
	// The trigger holds what it has received for as long as it takes.
	held := mns.Defaults()
	held.VisibilityTimeout = 43200
	c.MNS.AddQueue(SourceQueue, held)
	c.DBSFaults, c.MNSFaults = standin.WithFaults(c.DBS), standin.WithFaults(c.MNS)

	var errs [3]error
	c.DBSServer, errs[0] = standin.Start(c.DBSFaults)
	c.MNSServer, errs[1] = standin.Start(c.MNSFaults)
	c.RuntimeServer, errs[2] = standin.Start(c.Runtime)
	if err := errors.Join(errs[:]...); err != nil {
		c.Close()
		return nil, fmt.Errorf("starting the stand-ins: %w", err)
	}
	return c, nil
}

// Close ends the stand-ins.
func (c *Cloud) Close() {
	for _, server := range []*standin.Server{c.RuntimeServer, c.DBSServer, c.MNSServer} {
		if server != nil {
			server.Close()
		}
	}
}

// Environment returns the variables of an instance: what Function Compute sets,
// the settings of a deployment without discovery, and the given ones, which override
// these. Settings are added for discovery by [Discovery].
func (c *Cloud) Environment(settings map[string]string) map[string]string {
	environment := map[string]string{
		"FC_RUNTIME_API":          c.RuntimeServer.URL[len("http://"):],
		"FC_ACCOUNT_ID":           AccountID,
		"FC_REGION":               Region,
		"FC_FUNCTION_NAME":        FunctionName,
		"FC_FUNCTION_HANDLER":     "bootstrap",
		"FC_FUNCTION_MEMORY_SIZE": "128",
		"RESULT_QUEUE":            ResultQueue,
		"DEAD_LETTER_QUEUE":       DeadLetterQueue,
		"MNS_ENDPOINT":            c.MNSServer.URL,
		"DBS_ENDPOINT":            c.DBSServer.URL,
	}
	for name, value := range settings {
		environment[name] = value
	}
	return environment
}

// Invoke invokes the function once with a payload. A failure of the function
// comes as an error too.
func (c *Cloud) Invoke(ctx context.Context, payload []byte) (fcruntime.Answer, error) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = time.Minute
	}
	answer, err := c.Runtime.Invoke(ctx, fcruntime.Invocation{Payload: payload, Timeout: timeout, Key: c.Key})
	if err == nil && answer.Error != nil {
		err = answer.Error
	}
	return answer, err
}

// InvokeTimer invokes the function once with the event of a timer trigger, whose
// payload is the given text.
func (c *Cloud) InvokeTimer(ctx context.Context, text string) (fcruntime.Answer, error) {
	return c.Invoke(ctx, (&trigger.Timer{Name: "discovery", Text: text}).Payload(time.Now()))
}

// Trigger returns a trigger that delivers the source queue to the function, in
// batches of the given size.
func (c *Cloud) Trigger(batchSize int) *trigger.Trigger {
	return &trigger.Trigger{
		Queue:     c.MNS,
		Source:    SourceQueue,
		BatchSize: batchSize,
		FirstWait: 20 * time.Millisecond,
		Deliver: func(ctx context.Context, payload []byte) error {
			_, err := c.Invoke(ctx, payload)
			return err
		},
	}
}
