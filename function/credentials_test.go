package function_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/function"
	"increment-backup-download/handler/cloud"
	"increment-backup-download/tests/standin"
)

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
			assert.NoError(t, s.queue.Send(invocation(t, key), messages(key.ID))[0])
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
	assert.Equal(t, cloud.OperatorFault, classified(t, err).Kind, "nothing is kept of an earlier invocation")
}

func TestCredentials_FromTheContextElseTheEnvironment(t *testing.T) {
	fallback := function.NewCredential("env", "s", "t")
	got, err := function.CredentialOf(invocation(t, standin.Key{ID: "ctx", Secret: "s", Token: "t"}), fallback)
	require.NoError(t, err)
	assert.Equal(t, []string{"sts", "ctx", "s", "t"}, parts(got))
	got, err = function.CredentialOf(invocation(t, standin.Key{ID: "ctx", Secret: "s"}), fallback)
	require.NoError(t, err)
	assert.Equal(t, []string{"access_key", "ctx", "s", ""}, parts(got))
	for name, ctx := range map[string]context.Context{
		"no context": t.Context(),
		"none in it": invocation(t, standin.Key{}),
		"half in it": invocation(t, standin.Key{ID: "ctx", Token: "t"}),
	} {
		got, err := function.CredentialOf(ctx, fallback)
		require.NoError(t, err, name)
		assert.Equal(t, []string{"sts", "env", "s", "t"}, parts(got), name)
		_, err = function.CredentialOf(ctx, noKey)
		assert.Equal(t, cloud.OperatorFault, classified(t, err).Kind, name)
	}
	_, err = function.NewDBS("http://127.0.0.1:1", 1, noKey).CreateTask(t.Context(), example)
	assert.Equal(t, "NoCredentials", classified(t, err).Code)
	queue := function.NewQueue("http://127.0.0.1:1", "q", noKey)
	assert.Equal(t, "NoCredentials", classified(t, queue.Send(t.Context(), messages("x"))[0]).Code)
	_, err = queue.Depth(t.Context())
	assert.Equal(t, "NoCredentials", classified(t, err).Code)
	assert.Equal(t, "NoCredentials", classified(t, queue.TrySend(t.Context())).Code)
}

// parts returns the type of a credential, and what it signs with.
func parts(key function.Credential) []string {
	model := key()
	return []string{*model.Type, *model.AccessKeyId, *model.AccessKeySecret, *model.SecurityToken}
}

// What is missing of a key does not come from the environment of the process.
func TestCredentials_AreNeverOfTwoIdentities(t *testing.T) {
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "other")
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "other")
	t.Setenv("ALIBABA_CLOUD_SECURITY_TOKEN", "other")
	assert.Nil(t, function.NewCredential("", "secret", "token"))
	assert.Nil(t, function.NewCredential("id", "", "token"))
	assert.Equal(t, []string{"access_key", "id", "secret", ""}, parts(function.NewCredential("id", "secret", "")))
}

func TestCredentials_NothingThatHoldsThemPrintsThem(t *testing.T) {
	key := standin.Key{ID: "hush-id", Secret: "hush-secret", Token: "hush-token"}
	credential := function.NewCredential(key.ID, key.Secret, key.Token)
	hidden := func(t *testing.T, text string) {
		t.Helper()
		assert.NotContains(t, text, "hush")
		assert.NotContains(t, text, hex.EncodeToString([]byte("hush")))
	}
	for name, holder := range function.Holders(invocation(t, key), credential) {
		t.Run(name, func(t *testing.T) {
			for _, value := range []any{holder, []any{holder}, map[string]any{"x": holder}, struct{ x any }{holder}} {
				for _, verb := range "vTtbcdoOqxXUeEfFgGsp" {
					for _, flag := range []string{"", "+", "#", " "} {
						hidden(t, strings.ToLower(fmt.Sprintf("%"+flag+string(verb), value)))
					}
				}
				var log bytes.Buffer
				slog.New(slog.NewTextHandler(&log, nil)).Info("text", "value", value)
				slog.New(slog.NewJSONHandler(&log, nil)).Info("json", "value", value)
				hidden(t, log.String())
			}
		})
	}
}
