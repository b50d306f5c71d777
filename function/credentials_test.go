package function_test

import (
	"context"
	"strconv"
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
	fallback := function.NewAccessKey("env", "s", "t")
	key := standin.Key{ID: "ctx", Secret: "s", Token: "t"}
	got, err := function.AccessKeyOf(invocation(t, key), fallback)
	require.NoError(t, err)
	assert.Equal(t, function.NewAccessKey("ctx", "s", "t"), got)
	for name, ctx := range map[string]context.Context{
		"no context": t.Context(),
		"none in it": invocation(t, standin.Key{}),
		"half in it": invocation(t, standin.Key{ID: "ctx"}),
	} {
		got, err := function.AccessKeyOf(ctx, fallback)
		require.NoError(t, err, name)
		assert.Equal(t, fallback, got, name)
		_, err = function.AccessKeyOf(ctx, noKey)
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
