package function_test

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mnssdk "github.com/aliyun/aliyun-mns-go-sdk"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/function"
	"increment-backup-download/handler"
	"increment-backup-download/handler/cloud"
	"increment-backup-download/handler/outbox"
	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/mns"
)

func TestQueue_PublishesEveryBodyAsItIs(t *testing.T) {
	s := start(t)
	bodies := []string{"plain", `{"json":"<&>\"'"}`, " 备份 \t\r\n ]]>", strings.Repeat("x", 1000)}
	for _, err := range s.queue.Send(invocation(t, s.key), messages(bodies...)) {
		require.NoError(t, err)
	}
	var got []string
	for _, m := range s.mns.Messages("results") {
		got = append(got, m.Body)
		assert.Equal(t, 8, m.Priority)
	}
	assert.Equal(t, bodies, got)
	assert.Equal(t, 1, s.mns.Requests("results"))

	for _, m := range bodies {
		assert.Equal(t, len(m), s.queue.Size(m))
	}
	t.Run("and in base64 what XML cannot carry", func(t *testing.T) {
		for _, body := range []string{"\x01 binary", "\xff binary", "\ufffe", "\uffff"} {

			require.NoError(t, s.queue.Send(invocation(t, s.key), messages(body))[0])
			messages := s.mns.Messages("results")
			decoded, err := base64.StdEncoding.DecodeString(messages[len(messages)-1].Body)
			require.NoError(t, err)
			assert.Equal(t, body, string(decoded))
			assert.Len(t, messages[len(messages)-1].Body, s.queue.Size(body))
		}
	})
	t.Run("and a body of 64 KB", func(t *testing.T) {
		require.NoError(t, s.queue.Send(invocation(t, s.key), messages(strings.Repeat(`"`, 65536)))[0])
	})
	t.Run("and refuses one above", func(t *testing.T) {
		answer := s.queue.Send(invocation(t, s.key), messages(strings.Repeat("x", 65537)))[0]
		assert.Equal(t, cloud.Permanent, classified(t, answer).Kind)
	})
}

func TestQueue_ClassifiesWhatTheServiceAnswers(t *testing.T) {
	type want struct {
		kind      cloud.Kind
		code      string
		throttled bool
		unknown   bool
		messages  int
		first     bool // the first of the two messages is accepted
	}
	refuse := func(status int, code string) standin.Fault {
		return standin.Fault{Kind: standin.Refuse, Status: status, Code: code}
	}
	for name, c := range map[string]struct {
		fault standin.Fault
		want  want
	}{
		"too often":       {standin.Fault{Kind: standin.Throttle}, want{code: "QpsLimitExceeded", throttled: true}},
		"too many":        {refuse(429, "TooManyRequests"), want{code: "TooManyRequests", throttled: true}},
		"internal":        {refuse(500, "InternalServerError"), want{code: "InternalServerError"}},
		"denied":          {refuse(403, "AccessDenied"), want{kind: fault, code: "AccessDenied"}},
		"unknown code":    {refuse(400, "New"), want{code: "New", unknown: true}},
		"reset":           {standin.Fault{Kind: standin.Reset}, want{code: "NoAnswer"}},
		"reset after":     {standin.Fault{Kind: standin.ResetAfter}, want{code: "NoAnswer", messages: 2}},
		"closed after":    {standin.Fault{Kind: standin.CloseAfter}, want{code: "NoAnswer", messages: 2}},
		"cut off":         {standin.Fault{Kind: standin.TruncateAfter}, want{code: "NoAnswer", messages: 2}},
		"HTML, 201":       {standin.Fault{Kind: standin.HTMLAfter}, want{code: "NoAnswer", messages: 2}},
		"HTML, 502":       {standin.Fault{Kind: standin.BadGateway}, want{code: "NotAnAnswer"}},
		"empty, 201":      {standin.Fault{Kind: standin.EmptyAfter}, want{code: "NoAnswer", messages: 2}},
		"redirect":        {standin.Fault{Kind: standin.Redirect, Location: "http://127.0.0.1:1/"}, want{code: "NotAnAnswer"}},
		"refused in part": {standin.Fault{Kind: standin.Partial}, want{code: "InternalServerError", messages: 1, first: true}},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			s.mnsFaults.SetPlan(standin.Always(c.fault))
			answers := s.queue.Send(invocation(t, s.key), messages("a", "b"))
			require.Len(t, answers, 2)
			got := classified(t, answers[1])
			assert.Equal(t, c.want, want{
				got.Kind, got.Code, got.Throttled, got.Unrecognized, len(s.mns.Messages("results")), answers[0] == nil,
			})
			assert.Equal(t, 1, s.mnsFaults.Met(), "delivered once: no silent repeat")
		})
	}
	t.Run("no message ID", func(t *testing.T) {
		odd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, `<Messages xmlns="http://mns.aliyuncs.com/doc/v1"><Message><MessageBodyMD5>A</MessageBodyMD5>`+
				`</Message><Message><MessageBodyMD5>A</MessageBodyMD5><MessageId>B</MessageId></Message></Messages>`)
		}))
		t.Cleanup(odd.Close)
		s := start(t)
		answers := function.NewQueue(odd.URL, "results", noKey).Send(invocation(t, s.key), messages("a", "b"))
		require.Len(t, answers, 2)
		assert.Equal(t, "NoAnswer", classified(t, answers[0]).Code)
		assert.NoError(t, answers[1])
	})
	t.Run("one message is refused for good", func(t *testing.T) {
		part := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError) // of the batch
			_, _ = io.WriteString(w, `<Messages><Message><ErrorCode>InvalidArgument</ErrorCode><ErrorMessage>m</ErrorMessage></Message>`+
				`<Message><MessageBodyMD5>A</MessageBodyMD5><MessageId>B</MessageId></Message></Messages>`)
		}))
		t.Cleanup(part.Close)
		s := start(t)
		answers := function.NewQueue(part.URL, "results", noKey).Send(invocation(t, s.key), messages("a", "b"))
		require.Len(t, answers, 2)
		assert.Equal(t, verdict{kind: permanent, code: "InvalidArgument"}, verdictOf(t, answers[0]))
		assert.NoError(t, answers[1])
	})
	t.Run("no queue", func(t *testing.T) {
		s := start(t)
		nowhere := function.NewQueue(s.mnsServer.URL, "nowhere", noKey)
		got := classified(t, nowhere.Send(invocation(t, s.key), messages("x"))[0])
		assert.Equal(t, cloud.OperatorFault, got.Kind)
		assert.Contains(t, got.Fix, "nowhere")
	})
}

func TestQueue_TrySendIsRefusedForItsParameter(t *testing.T) {
	s := start(t)
	got := classified(t, s.queue.TrySend(invocation(t, s.key)))
	assert.Equal(t, cloud.Permanent, got.Kind)
	assert.Equal(t, "InvalidArgument", got.Code)
	assert.Empty(t, s.mns.Messages("results"), "nothing is sent")

	nowhere := function.NewQueue(s.mnsServer.URL, "nowhere", noKey)
	assert.Equal(t, cloud.OperatorFault, classified(t, nowhere.TrySend(invocation(t, s.key))).Kind)

	denied := standin.Always(standin.Fault{Kind: standin.Refuse, Status: 403, Code: "AccessDenied"})
	s.mnsFaults.SetPlan(denied)
	got = classified(t, s.queue.TrySend(invocation(t, s.key)))
	assert.Equal(t, cloud.OperatorFault, got.Kind)
	assert.Contains(t, got.Fix, "grant mns:SendMessage and mns:BatchSendMessage on queue results")

	t.Run("and never returns nil", func(t *testing.T) {
		server, err := standin.Start(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, `<Messages><Message><MessageId>1</MessageId><MessageBodyMD5>2</MessageBodyMD5></Message></Messages>`)
		}))
		require.NoError(t, err)
		defer server.Close()
		err = function.NewQueue(server.URL, "q", noKey).TrySend(invocation(t, s.key))
		assert.Contains(t, classified(t, err).Message, "accepted a message")
	})
}

func TestQueue_DepthCountsActiveAndInactiveMessages(t *testing.T) {
	s := start(t)
	for range 3 {
		_, err := s.mns.Put("results", "x")
		require.NoError(t, err)
	}
	require.Len(t, s.mns.Receive("results", 1), 1) // inactive now
	depth, err := s.queue.Depth(invocation(t, s.key))
	require.NoError(t, err)
	assert.Equal(t, 3, depth)

	_, err = function.NewQueue(s.mnsServer.URL, "nowhere", noKey).Depth(invocation(t, s.key))
	assert.Equal(t, "QueueNotExist", classified(t, err).Code)

	for name, c := range map[string]struct {
		status int
		body   string
		depth  int
		code   string
	}{
		"without delayed ones": {200, `<Queue><QueueName>q</QueueName><ActiveMessages>1</ActiveMessages>` +
			`<InactiveMessages>20</InactiveMessages><DelayMessages>300</DelayMessages></Queue>`, 21, ""},
		"empty":      {200, ``, 0, "NoAnswer"},
		"no queue":   {200, `<Queue></Queue>`, 0, "NotAnAnswer"},
		"HTML":       {200, `<html></html>`, 0, "NoAnswer"},
		"a denial":   {403, `<Error><Code>AccessDenied</Code></Error>`, 0, "AccessDenied"},
		"no content": {204, ``, 0, "NoAnswer"},
	} {
		t.Run(name, func(t *testing.T) {
			server, err := standin.Start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				assert.Equal(t, http.MethodGet, r.Method)
				assert.Equal(t, "/queues/q", r.URL.Path)
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}))
			require.NoError(t, err)
			defer server.Close()
			depth, err := function.NewQueue(server.URL, "q", noKey).Depth(invocation(t, s.key))
			assert.Equal(t, c.depth, depth)
			if c.code == "" {
				require.NoError(t, err)
				return
			}
			got := classified(t, err)
			assert.Equal(t, c.code, got.Code)
			if c.status == http.StatusForbidden {
				assert.Contains(t, got.Fix, "mns:GetQueueAttributes")
			}
		})
	}
}

func TestQueue_NoPanicReachesTheCaller(t *testing.T) {
	for _, q := range []handler.Queue{function.NewQueue("http://127.0.0.1:1", "", noKey), function.NewQueue("", "q", noKey)} {
		answers := q.Send(invocation(t, standin.NewKey()), messages("x"))
		require.Error(t, answers[0])
	}
}

func TestQueue_GoroutinesDoNotRace(t *testing.T) {
	s := start(t)
	var wait sync.WaitGroup
	for range 32 {
		wait.Go(func() { assert.NoError(t, s.queue.Send(invocation(t, s.key), messages("x"))[0]) })
	}
	wait.Wait()
	assert.Len(t, s.mns.Messages("results"), 32)
}

// The stand-in verifies every signature of the adapter. The vectors that hold its own
// were made with the service's SDKs.
func TestStandIn_SignsAsTheServicesOwnSDKs(t *testing.T) {
	assert.Equal(t, "A9zehggaYHHujmuRMxGIDrhWwx8=", mns.Sign("ACCESS_KEY_SECRET",
		"PUT\n574683b3684e3cff610afa155cc2506d\ntext/xml\nTue, 11 Apr 2017 10:09:19 GMT\nx-mns-version:2015-06-06\n/"))
	assert.Equal(t, "cAThPWnbphg3hDe3ZHDADTgkgyE=", mns.Sign("sk1",
		"POST\n\n\nTue, 03 Jun 2025 11:23:48 GMT\nx-mns-abcdef:abcDEF\n/queues/TestQueue"))
}

// The SDK's own client, which the adapter does without, takes the stand-in for
// the service: what passes there passes at the service's door too.
func TestQueue_TheOfficialClientReadsWhatWasPublished(t *testing.T) {
	s := start(t)
	require.NoError(t, s.queue.Send(invocation(t, s.key), messages("published <&>"))[0])
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

func BenchmarkSend(b *testing.B) {
	answer := `<?xml version="1.0" ?><Messages xmlns="http://mns.aliyuncs.com/doc/v1">` + strings.Repeat(`<Message>`+
		`<MessageBodyMD5>5B5B4E4D6A8D2A6F0E2E4B5C6D7E8F90</MessageBodyMD5>`+
		`<MessageId>5F290C926D472878-2-14D9529A8FA-200000001</MessageId></Message>`, 16) + `</Messages>`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, answer)
	}))
	defer server.Close()
	queue := function.NewQueue(server.URL, "results", function.NewCredential("id", "secret", "token"))
	bodies := slices.Repeat([]string{strings.Repeat(`{"specversion":"1.0"}`, 30)}, 16)
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range queue.Send(b.Context(), messages(bodies...)) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

// A follow-up waits in the queue: without its delay the chain would spin.
func TestQueue_SendsDelaysInSeconds(t *testing.T) {
	var body string
	server, err := standin.Start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		body = string(text)
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `<Messages><Message><MessageId>1</MessageId></Message><Message><MessageId>2</MessageId></Message></Messages>`)
	}))
	require.NoError(t, err)
	defer server.Close()
	for _, err := range function.NewQueue(server.URL, "q", someKey).Send(t.Context(), []outbox.Message{{Body: "a", Delay: 90 * time.Second}, {Body: "b"}}) {
		require.NoError(t, err)
	}
	assert.Equal(t, 1, strings.Count(body, "<DelaySeconds>90</DelaySeconds>"))
	assert.NotContains(t, body, "90000")
}

func TestQueue_ReadsTheWaitHintOfOneMessage(t *testing.T) {
	server, err := standin.Start(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3")
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, `<Messages><Message><ErrorCode>QpsLimitExceeded</ErrorCode><ErrorMessage>m</ErrorMessage></Message></Messages>`)
	}))
	require.NoError(t, err)
	defer server.Close()
	got := classified(t, function.NewQueue(server.URL, "q", someKey).Send(t.Context(), messages("a"))[0])
	assert.True(t, got.Throttled)
	assert.Equal(t, 3*time.Second, got.RetryAfter)
}

func TestQueue_ReadsTheAnswerToAFullBatch(t *testing.T) {
	s := start(t)
	for _, err := range s.queue.Send(invocation(t, s.key), messages(strings.Split(strings.Repeat("x", 16), "")...)) {
		require.NoError(t, err)
	}
}
