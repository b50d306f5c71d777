package fcruntime_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/fcruntime"
)

const base = "/2020-11-11/runtime/invocation/"

// function answers one invocation, as the runtime of an executable does, and
// returns what it was given.
func function(url, kind, answer string) (payload string, header http.Header, err error) {
	next, err := http.Get(url + base + "next")
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = next.Body.Close() }()
	given, err := io.ReadAll(next.Body)
	if err != nil {
		return "", nil, err
	}
	done, err := http.Post(url+base+next.Header.Get("x-fc-request-id")+"/"+kind, "application/json", strings.NewReader(answer))
	if err != nil {
		return "", nil, err
	}
	return string(given), next.Header, done.Body.Close()
}

func start(t *testing.T) (*fcruntime.Service, *standin.Server) {
	t.Helper()
	service := fcruntime.New(fcruntime.Function{Name: "f", Handler: "bootstrap", MemoryMB: 128, Region: "cn-hangzhou", AccountID: "1"})
	server, err := standin.Start(service)
	require.NoError(t, err)
	t.Cleanup(server.Close)
	return service, server
}

func TestService_HandsAnInvocationOutAndTakesItsAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		kind, answer string
		payload      string
		failure      *fcruntime.Error
	}{
		"a success":    {"response", `{"events":1}`, `{"events":1}`, nil},
		"a failure":    {"error", `{"errorMessage":"no","errorType":"Refused"}`, "", &fcruntime.Error{Message: "no", Type: "Refused"}},
		"an odd error": {"error", `no`, "", &fcruntime.Error{Type: "Unreadable", Message: "invalid character 'o' in literal null (expecting 'u'): no"}},
	} {
		t.Run(name, func(t *testing.T) {
			service, server := start(t)
			key := standin.NewKey()
			var payload string
			var header http.Header
			var failure error
			answered := make(chan struct{})
			go func() {
				defer close(answered)
				payload, header, failure = function(server.URL, c.kind, c.answer)
			}()
			answer, err := service.Invoke(t.Context(), fcruntime.Invocation{Payload: []byte("hello"), Timeout: 10 * time.Second, Key: key})
			require.NoError(t, err)
			<-answered
			require.NoError(t, failure)
			assert.Equal(t, "hello", payload)
			assert.Equal(t, []string{key.ID, key.Secret, key.Token, "10", answer.RequestID}, []string{header.Get("x-fc-access-key-id"),
				header.Get("x-fc-access-key-secret"), header.Get("x-fc-security-token"), header.Get("x-fc-function-timeout"), header.Get("x-fc-request-id")})
			assert.Equal(t, c.payload, string(answer.Payload))
			assert.Equal(t, c.failure, answer.Error)
		})
	}
}

func TestService_FailsAnInvocationThatIsNotAnswered(t *testing.T) {
	service, server := start(t)
	take := func() {
		response, err := http.Get(server.URL + base + "next")
		if err == nil {
			_ = response.Body.Close()
		}
	}
	go take()
	_, err := service.Invoke(t.Context(), fcruntime.Invocation{Timeout: time.Second})
	require.ErrorIs(t, err, fcruntime.ErrTimeout)

	go func() {
		take()
		service.Exited()
	}()
	_, err = service.Invoke(t.Context(), fcruntime.Invocation{Timeout: time.Minute})
	require.ErrorIs(t, err, fcruntime.ErrExited)

	ended, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("over"))
	_, err = service.Invoke(ended, fcruntime.Invocation{Timeout: time.Minute})
	require.ErrorIs(t, err, context.Canceled)
}

// A function takes an invocation and answers it.
func Example() {
	service := fcruntime.New(fcruntime.Function{Name: "hello", Handler: "bootstrap"})
	server, err := standin.Start(service)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	go func() { _, _, _ = function(server.URL, "response", "world") }()
	answer, err := service.Invoke(context.Background(), fcruntime.Invocation{Payload: []byte("hello"), Timeout: time.Minute})
	fmt.Println(string(answer.Payload), err)
	// Output: world <nil>
}
