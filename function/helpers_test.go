package function_test

import (
	"context"
	"testing"
	"time"

	"github.com/aliyun/fc-runtime-go-sdk/fccontext"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/function"
	"increment-backup-download/handler"
	"increment-backup-download/handler/cloud"
	"increment-backup-download/handler/outbox"
	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/dbs"
	"increment-backup-download/tests/standin/mns"
)

// services are the stand-ins and the adapters in front of them.
type services struct {
	key                  standin.Key
	keys                 *standin.Keys
	dbs                  *dbs.Service
	mns                  *mns.Service
	dbsFaults, mnsFaults *standin.Faulty
	dbsServer, mnsServer *standin.Server
	tasks                function.DBS
	queue                handler.Queue
}

func start(t *testing.T) *services {
	t.Helper()
	s := &services{key: standin.NewKey()}
	s.keys = standin.NewKeys(s.key)
	s.dbs, s.mns = dbs.New(s.keys, nil), mns.New(s.keys, nil, "results")
	s.dbsFaults, s.mnsFaults = standin.WithFaults(s.dbs), standin.WithFaults(s.mns)
	var err error
	s.dbsServer, err = standin.Start(s.dbsFaults)
	require.NoError(t, err)
	t.Cleanup(s.dbsServer.Close)
	s.mnsServer, err = standin.Start(s.mnsFaults)
	require.NoError(t, err)
	t.Cleanup(s.mnsServer.Close)
	s.tasks = function.NewDBS(s.dbsServer.URL, 4, noKey)
	s.queue = function.NewQueue(s.mnsServer.URL, "results", noKey)
	return s
}

// invocation returns the context of an invocation with the given credentials.
func invocation(t testing.TB, key standin.Key) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return function.InvocationOf(fccontext.NewContext(ctx, &fccontext.FcContext{Credentials: fccontext.Credentials{
		AccessKeyId: key.ID, AccessKeySecret: key.Secret, SecurityToken: key.Token,
	}}))
}

var (
	noKey   function.Credential
	someKey = function.NewCredential("id", "secret", "token")
)

var example = events.Request{BackupSetID: "t4yh0g0g0001", BackupSetName: "mysql-bin.000054", BackupSetDataFormat: "SQL",
	ClientToken: "token ~1/+&="}

// classified asserts that an error is classified, and returns it.
func classified(t *testing.T, err error) *cloud.Error {
	t.Helper()
	var got *cloud.Error
	require.ErrorAs(t, err, &got)
	return got
}

// messages returns messages without a delay.
func messages(bodies ...string) []outbox.Message {
	all := make([]outbox.Message, len(bodies))
	for i, body := range bodies {
		all[i].Body = body
	}
	return all
}
