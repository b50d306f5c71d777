package function_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mnssdk "github.com/aliyun/aliyun-mns-go-sdk"
	"github.com/aliyun/fc-runtime-go-sdk/fccontext"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/function"
	"increment-backup-download/handler"
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
	tasks                handler.TaskCreator
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

var example = events.Request{BackupSetID: "t4yh0g0g0001", BackupSetName: "mysql-bin.000054", BackupSetDataFormat: "SQL", ClientToken: "token ~1/+&="}

// kind asserts that an error is classified, and returns it.
func classified(t *testing.T, err error) *handler.ServiceError {
	t.Helper()
	var got *handler.ServiceError
	require.ErrorAs(t, err, &got)
	return got
}

func TestDBS_SendsTheRequestUnderItsOwnNames(t *testing.T) {
	s := start(t)
	task, err := s.tasks.CreateTask(invocation(t, s.key), example)
	require.NoError(t, err)
	assert.NotEmpty(t, task.RequestID)
	assert.Equal(t, []dbs.Task{{ID: task.ID, ClientToken: "token ~1/+&=", BackupSetID: "t4yh0g0g0001", BackupSetName: "mysql-bin.000054", BackupSetDataFormat: "SQL", AccessKeyID: s.key.ID}}, s.dbs.Tasks())

	again, err := s.tasks.CreateTask(invocation(t, s.key), example)
	require.NoError(t, err)
	assert.Equal(t, task.ID, again.ID, "the same token, the same task")
}

func TestDBS_ClassifiesWhatTheServiceAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		fault   standin.Fault
		kind    handler.Kind
		code    string
		status  int
		effects int
	}{
		"throttled":       {standin.Fault{Kind: standin.Throttle, Delay: 700 * time.Millisecond}, handler.Transient, "Throttling.User", 400, 0},
		"unavailable":     {standin.Fault{Kind: standin.Refuse, Status: 503, Code: "ServiceUnavailable"}, handler.Transient, "ServiceUnavailable", 503, 0},
		"forbidden":       {standin.Fault{Kind: standin.Refuse, Status: 403, Code: "Forbidden.RAM"}, handler.OperatorFault, "Forbidden.RAM", 403, 0},
		"wrong parameter": {standin.Fault{Kind: standin.Refuse, Status: 400, Code: "InvalidParameter"}, handler.Permanent, "InvalidParameter", 400, 0},
		"reset":           {standin.Fault{Kind: standin.Reset}, handler.Transient, "NoAnswer", 0, 0},
		"reset after":     {standin.Fault{Kind: standin.ResetAfter}, handler.Transient, "NoAnswer", 0, 1},
		"closed":          {standin.Fault{Kind: standin.Close}, handler.Transient, "NoAnswer", 0, 0},
		"closed after":    {standin.Fault{Kind: standin.CloseAfter}, handler.Transient, "NoAnswer", 0, 1},
		"cut off":         {standin.Fault{Kind: standin.TruncateAfter}, handler.Transient, "NoAnswer", 0, 1},
		"HTML, 200":       {standin.Fault{Kind: standin.HTMLAfter}, handler.Transient, "NotAnAnswer", 200, 1},
		"HTML, 502":       {standin.Fault{Kind: standin.BadGateway}, handler.Transient, "NotAnAnswer", 502, 0},
		"empty":           {standin.Fault{Kind: standin.EmptyAfter}, handler.Transient, "NotAnAnswer", 200, 1},
		"redirect":        {standin.Fault{Kind: standin.Redirect, Location: "http://127.0.0.1:1/"}, handler.Transient, "NotAnAnswer", 307, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			s.dbsFaults.SetPlan(standin.Always(c.fault))
			_, err := s.tasks.CreateTask(invocation(t, s.key), example)
			got := classified(t, err)
			assert.Equal(t, c.kind, got.Kind)
			assert.Equal(t, c.code, got.Code)
			assert.Equal(t, c.status, got.HTTPStatusCode)
			if name == "throttled" {
				assert.Equal(t, 700*time.Millisecond, got.RetryAfter)
			}
			assert.Len(t, s.dbs.Tasks(), c.effects)
			assert.Equal(t, 1, s.dbsFaults.Met(), "one attempt")
		})
	}
	t.Run("HTTP 200 with Success false", func(t *testing.T) {
		s := start(t)
		_, err := s.tasks.CreateTask(invocation(t, s.key), events.Request{BackupSetID: "a", BackupSetName: "not-found", ClientToken: "t"})
		got := classified(t, err)
		assert.Equal(t, handler.Permanent, got.Kind)
		assert.Equal(t, "Param.NotFound", got.Code)
		assert.Equal(t, 400, got.HTTPStatusCode)
		assert.NotEmpty(t, got.RequestID)
	})
	t.Run("nobody listens", func(t *testing.T) {
		_, err := function.NewDBS("http://127.0.0.1:1", 1, noKey).CreateTask(invocation(t, standin.NewKey()), example)
		assert.Equal(t, handler.Transient, classified(t, err).Kind)
		assert.NotContains(t, err.Error(), example.BackupSetName, "a URL with the query string")
	})
	t.Run("an endless answer is not read to the end", func(t *testing.T) {
		server, err := standin.Start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<16)); err != nil {
					return
				}
			}
		}))
		require.NoError(t, err)
		defer server.Close()
		_, err = function.NewDBS(server.URL, 1, noKey).CreateTask(invocation(t, standin.NewKey()), example)
		assert.Contains(t, classified(t, err).Message, "larger than")
		assert.Contains(t, classified(t, function.NewQueue(server.URL, "q", noKey).Send(invocation(t, standin.NewKey()), []string{"x"})[0]).Message, "larger than")
	})
}

func TestDBS_ReturnsWhenTheContextEnds(t *testing.T) {
	s := start(t)
	s.dbsFaults.SetPlan(standin.Always(standin.Fault{Kind: standin.Hang}))
	ctx, cancel := context.WithTimeout(invocation(t, s.key), 50*time.Millisecond)
	defer cancel()
	_, err := s.tasks.CreateTask(ctx, example)
	assert.Equal(t, "Timeout", classified(t, err).Code)
}

func TestDBS_BadCredentialsAreAnOperatorFault(t *testing.T) {
	s := start(t)
	wrongSecret, wrongToken := s.key, s.key
	wrongSecret.Secret, wrongToken.Token = "wrong", "wrong"
	for name, key := range map[string]standin.Key{"unknown": standin.NewKey(), "wrong secret": wrongSecret, "wrong token": wrongToken} {
		t.Run(name, func(t *testing.T) {
			_, err := s.tasks.CreateTask(invocation(t, key), example)
			got := classified(t, err)
			assert.Equal(t, handler.OperatorFault, got.Kind)
			assert.NotContains(t, err.Error(), key.Token)
			assert.NotContains(t, err.Error(), "sign is")
			answers := s.queue.Send(invocation(t, key), []string{"x"})
			assert.Equal(t, handler.OperatorFault, classified(t, answers[0]).Kind)
			assert.NotContains(t, answers[0].Error(), key.Token)
		})
	}
}

func TestDBS_OpensNoMoreConnectionsThanItMay(t *testing.T) {
	s := start(t)
	s.dbs.Delay = 2 * time.Millisecond
	var wait sync.WaitGroup
	for i := range 200 {
		wait.Go(func() {
			request := example
			request.ClientToken = strconv.Itoa(i)
			_, err := s.tasks.CreateTask(invocation(t, s.key), request)
			assert.NoError(t, err)
		})
	}
	wait.Wait()
	assert.LessOrEqual(t, s.dbsServer.Connections().Accepted, 4)
}

// A server closes a connection that was idle just as the next request comes.
func TestAdapters_AStaleConnectionIsNoFailure(t *testing.T) {
	for kind, fault := range map[string]standin.Kind{"closed": standin.Close, "reset": standin.Reset} {
		t.Run(kind, func(t *testing.T) {
			s := start(t)
			for i := range 5 {
				request := example
				request.ClientToken = strconv.Itoa(i)
				if i > 0 { // there is an idle connection
					s.dbsFaults.SetPlan(standin.Script(&standin.Fault{Kind: fault}))
					s.mnsFaults.SetPlan(standin.Script(&standin.Fault{Kind: fault}))
				}
				_, err := s.tasks.CreateTask(invocation(t, s.key), request)
				require.NoError(t, err)
				require.NoError(t, s.queue.Send(invocation(t, s.key), []string{strings.Repeat("x", 9000)})[0])
			}
			assert.Equal(t, 4, s.dbsFaults.Met())
			assert.Equal(t, 4, s.mnsFaults.Met())
			assert.Len(t, s.dbs.Tasks(), 5)
			assert.Len(t, s.mns.Messages("results"), 5)
		})
	}
}

func TestAdapters_NoRedirectTakesTheTokenElsewhere(t *testing.T) {
	var elsewhere atomic.Int32
	other, err := standin.Start(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	require.NoError(t, err)
	defer other.Close()
	s := start(t)
	fault := standin.Always(standin.Fault{Kind: standin.Redirect, Location: other.URL})
	s.dbsFaults.SetPlan(fault)
	s.mnsFaults.SetPlan(fault)
	_, err = s.tasks.CreateTask(invocation(t, s.key), example)
	require.Error(t, err)
	require.Error(t, s.queue.Send(invocation(t, s.key), []string{"x"})[0])
	assert.Zero(t, elsewhere.Load())
}

func TestQueue_PublishesEveryBodyAsItIs(t *testing.T) {
	s := start(t)
	bodies := []string{"plain", `{"json":"<&>\"'"}`, " 备份 \t\r\n ]]>", strings.Repeat("x", 1000)}
	for _, err := range s.queue.Send(invocation(t, s.key), bodies) {
		require.NoError(t, err)
	}
	var got []string
	for _, m := range s.mns.Messages("results") {
		got = append(got, m.Body)
		assert.Equal(t, 8, m.Priority)
	}
	assert.Equal(t, bodies, got)
	assert.Equal(t, 1, s.mns.Requests("results"))

	t.Run("and in base64 what XML cannot carry", func(t *testing.T) {
		body := "\x01\xff binary"
		require.NoError(t, s.queue.Send(invocation(t, s.key), []string{body})[0])
		messages := s.mns.Messages("results")
		decoded, err := base64.StdEncoding.DecodeString(messages[len(messages)-1].Body)
		require.NoError(t, err)
		assert.Equal(t, body, string(decoded))
	})
	t.Run("and a body of 64 KB", func(t *testing.T) {
		require.NoError(t, s.queue.Send(invocation(t, s.key), []string{strings.Repeat(`"`, 65536)})[0])
	})
	t.Run("and refuses one above", func(t *testing.T) {
		assert.Equal(t, handler.Permanent, classified(t, s.queue.Send(invocation(t, s.key), []string{strings.Repeat("x", 65537)})[0]).Kind)
	})
}

func TestQueue_ClassifiesWhatTheServiceAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		fault   standin.Fault
		kind    handler.Kind
		code    string
		effects int
	}{
		"too often":       {standin.Fault{Kind: standin.Throttle}, handler.Transient, "QpsLimitExceeded", 0},
		"internal":        {standin.Fault{Kind: standin.Refuse, Status: 500, Code: "InternalServerError"}, handler.Transient, "InternalServerError", 0},
		"denied":          {standin.Fault{Kind: standin.Refuse, Status: 403, Code: "AccessDenied"}, handler.OperatorFault, "AccessDenied", 0},
		"not known":       {standin.Fault{Kind: standin.Refuse, Status: 400, Code: "Nobody"}, handler.Transient, "Nobody", 0},
		"reset":           {standin.Fault{Kind: standin.Reset}, handler.Transient, "NoAnswer", 0},
		"reset after":     {standin.Fault{Kind: standin.ResetAfter}, handler.Transient, "NoAnswer", 2},
		"closed after":    {standin.Fault{Kind: standin.CloseAfter}, handler.Transient, "NoAnswer", 2},
		"cut off":         {standin.Fault{Kind: standin.TruncateAfter}, handler.Transient, "NoAnswer", 2},
		"HTML, 201":       {standin.Fault{Kind: standin.HTMLAfter}, handler.Transient, "NoAnswer", 2},
		"HTML, 502":       {standin.Fault{Kind: standin.BadGateway}, handler.Transient, "NotAnAnswer", 0},
		"empty, 201":      {standin.Fault{Kind: standin.EmptyAfter}, handler.Transient, "NoAnswer", 2},
		"redirect":        {standin.Fault{Kind: standin.Redirect, Location: "http://127.0.0.1:1/"}, handler.Transient, "NotAnAnswer", 0},
		"refused in part": {standin.Fault{Kind: standin.Partial}, handler.Transient, "InternalServerError", 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			s.mnsFaults.SetPlan(standin.Always(c.fault))
			answers := s.queue.Send(invocation(t, s.key), []string{"a", "b"})
			require.Len(t, answers, 2)
			got := classified(t, answers[1])
			assert.Equal(t, c.kind, got.Kind)
			assert.Equal(t, c.code, got.Code)
			assert.Len(t, s.mns.Messages("results"), c.effects)
			assert.Equal(t, 1, s.mnsFaults.Met(), "delivered once: no silent repeat")
			if name == "refused in part" {
				require.NoError(t, answers[0])
			} else {
				require.Error(t, answers[0])
			}
		})
	}
	t.Run("no queue", func(t *testing.T) {
		s := start(t)
		got := classified(t, function.NewQueue(s.mnsServer.URL, "nowhere", noKey).Send(invocation(t, s.key), []string{"x"})[0])
		assert.Equal(t, handler.OperatorFault, got.Kind)
		assert.Contains(t, got.Message, "nowhere")
	})
}

func TestQueue_NoPanicReachesTheCaller(t *testing.T) {
	for _, q := range []handler.Queue{function.NewQueue("http://127.0.0.1:1", "", noKey), function.NewQueue("", "q", noKey)} {
		answers := q.Send(invocation(t, standin.NewKey()), []string{"x"})
		require.Error(t, answers[0])
	}
}

func TestQueue_ReturnsWhenTheContextEnds(t *testing.T) {
	s := start(t)
	s.mnsFaults.SetPlan(standin.Always(standin.Fault{Kind: standin.Hang}))
	ctx, cancel := context.WithTimeout(invocation(t, s.key), 50*time.Millisecond)
	defer cancel()
	assert.Equal(t, "Timeout", classified(t, s.queue.Send(ctx, []string{"x"})[0]).Code)
}

func TestQueue_GoroutinesDoNotRace(t *testing.T) {
	s := start(t)
	var wait sync.WaitGroup
	for range 32 {
		wait.Go(func() { assert.NoError(t, s.queue.Send(invocation(t, s.key), []string{"x"})[0]) })
	}
	wait.Wait()
	assert.Len(t, s.mns.Messages("results"), 32)
}

// The vectors were made with the service's own SDKs.
func TestSignMNS(t *testing.T) {
	request := &http.Request{Method: http.MethodPut, Header: http.Header{"Content-Md5": {"574683b3684e3cff610afa155cc2506d"},
		"Content-Type": {"text/xml"}, "Date": {"Tue, 11 Apr 2017 10:09:19 GMT"}, "X-Mns-Version": {"2015-06-06"}}}
	assert.Equal(t, "A9zehggaYHHujmuRMxGIDrhWwx8=", function.SignMNS(request, "/", "ACCESS_KEY_SECRET"))
	assert.Equal(t, "cAThPWnbphg3hDe3ZHDADTgkgyE=", mns.Sign("sk1", "POST\n\n\nTue, 03 Jun 2025 11:23:48 GMT\nx-mns-abcdef:abcDEF\n/queues/TestQueue"))
}

// The SDK's own client, which the adapter does without, takes the stand-in for
// the service: what passes there passes at the service's door too.
func TestQueue_TheOfficialClientReadsWhatWasPublished(t *testing.T) {
	s := start(t)
	require.NoError(t, s.queue.Send(invocation(t, s.key), []string{"published <&>"})[0])
	client := mnssdk.NewAliMNSClientWithConfig(mnssdk.AliMNSClientConfig{EndPoint: mns.Endpoint(s.mnsServer.URL),
		AccessKeyId: s.key.ID, AccessKeySecret: s.key.Secret, Token: s.key.Token})
	queue := mnssdk.NewMNSQueue("results", client)
	received, failed := make(chan mnssdk.MessageReceiveResponse, 1), make(chan error, 1)
	queue.ReceiveMessage(received, failed)
	select {
	case m := <-received:
		assert.Equal(t, "published <&>", m.MessageBody)
		require.NoError(t, queue.DeleteMessage(m.ReceiptHandle))
	case err := <-failed:
		t.Fatal(err)
	}
	assert.Empty(t, s.mns.Messages("results"))
}

func TestCredentials_EachInvocationSignsWithItsOwn(t *testing.T) {
	s := start(t)
	first, second := standin.NewKey(), standin.NewKey()
	s.keys.Add(first)
	s.keys.Add(second)
	s.keys.Remove(s.key.ID)
	var wait sync.WaitGroup
	for i := range 60 {
		wait.Go(func() {
			key := first
			if i%2 == 1 {
				key = second
			}
			request := example
			request.ClientToken = strconv.Itoa(i)
			_, err := s.tasks.CreateTask(invocation(t, key), request)
			assert.NoError(t, err)
			assert.NoError(t, s.queue.Send(invocation(t, key), []string{key.ID})[0])
		})
	}
	wait.Wait()
	for _, task := range s.dbs.Tasks() {
		i, err := strconv.Atoi(task.ClientToken)
		require.NoError(t, err)
		assert.Equal(t, []string{first.ID, second.ID}[i%2], task.AccessKeyID)
	}
	for _, m := range s.mns.Messages("results") {
		assert.Equal(t, m.Body, m.AccessKeyID)
	}
	s.keys.Remove(first.ID)
	_, err := s.tasks.CreateTask(invocation(t, first), example)
	assert.Equal(t, handler.OperatorFault, classified(t, err).Kind, "nothing is kept of an earlier invocation")
}

func TestCredentials_FromTheContextElseTheEnvironment(t *testing.T) {
	fallback := function.NewAccessKey("env", "s", "t")
	key := standin.Key{ID: "ctx", Secret: "s", Token: "t"}
	got, err := function.AccessKeyOf(invocation(t, key), fallback)
	require.NoError(t, err)
	assert.Equal(t, function.NewAccessKey("ctx", "s", "t"), got)
	for name, ctx := range map[string]context.Context{"no context": t.Context(), "none in it": invocation(t, standin.Key{}), "half in it": invocation(t, standin.Key{ID: "ctx"})} {
		got, err := function.AccessKeyOf(ctx, fallback)
		require.NoError(t, err, name)
		assert.Equal(t, fallback, got, name)
		_, err = function.AccessKeyOf(ctx, noKey)
		assert.Equal(t, handler.OperatorFault, classified(t, err).Kind, name)
	}
	_, err = function.NewDBS("http://127.0.0.1:1", 1, noKey).CreateTask(t.Context(), example)
	assert.Equal(t, "NoCredentials", classified(t, err).Code)
	assert.Equal(t, "NoCredentials", classified(t, function.NewQueue("http://127.0.0.1:1", "q", noKey).Send(t.Context(), []string{"x"})[0]).Code)
}

func TestAssembled_NothingGrowsOverAThousandInvocations(t *testing.T) {
	s := start(t)
	s.mns.AddQueue("dead-letters", mns.Defaults())
	h, err := function.Assemble(environment("MNS_ENDPOINT="+s.mnsServer.URL, "DBS_ENDPOINT="+s.dbsServer.URL, "LOG_LEVEL=error"), io.Discard)
	require.NoError(t, err)
	handle := func(round int) {
		payload := fmt.Sprintf(`[{"messageId":"%d-1","messageBody":"{\"BackupSetJobId\":\"a\",\"BackupSetId\":\"b\"}"},{"messageId":"%d-2","messageBody":"x"}]`, round, round)
		_, err := h.Handle(invocation(t, s.key), "", []byte(payload))
		require.NoError(t, err)
	}
	for round := range 20 {
		handle(round)
	}
	before := runtime.NumGoroutine()
	for round := range 1000 {
		handle(100 + round)
	}
	// A few connections more, of both sides, and no more than that.
	assert.LessOrEqual(t, runtime.NumGoroutine(), before+30)
	assert.LessOrEqual(t, s.dbsServer.Connections().Accepted+s.mnsServer.Connections().Accepted, 16+8)
}

func TestAssembled_HandlesABatchThroughBothServices(t *testing.T) {
	s := start(t)
	s.mns.AddQueue("dead-letters", mns.Defaults())
	h, err := function.Assemble(environment("MNS_ENDPOINT="+s.mnsServer.URL, "DBS_ENDPOINT="+s.dbsServer.URL, "RESULT_ENCODING=base64", "BACKUP_SET_DATA_FORMAT=JSON"), &bytes.Buffer{})
	require.NoError(t, err)
	summary, err := h.Handle(invocation(t, s.key), "", []byte(`[{"messageId":"1","messageBody":"{\"BackupSetJobId\":\"t4yh0g0g0001\",\"BackupSetId\":\"mysql-bin.000054\"}"},{"messageId":"2","messageBody":"x"}]`))
	require.NoError(t, err)
	assert.Equal(t, 1, summary.Created)
	assert.Equal(t, 1, summary.Failed)
	assert.Equal(t, "t4yh0g0g0001", s.dbs.Tasks()[0].BackupSetID)
	assert.Equal(t, "mysql-bin.000054", s.dbs.Tasks()[0].BackupSetName)
	assert.Equal(t, "JSON", s.dbs.Tasks()[0].BackupSetDataFormat)
	for _, m := range s.mns.Messages("results") {
		decoded, err := base64.StdEncoding.DecodeString(m.Body)
		require.NoError(t, err)
		assert.True(t, json.Valid(decoded))
	}
	assert.Equal(t, "x", s.mns.Messages("dead-letters")[0].Body)
}
