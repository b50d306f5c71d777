package tests_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin"
)

// Two invocations overlap, each with credentials of its own.
func TestFunction_SignsWithTheCredentialsOfEachInvocation(t *testing.T) {
	cloud, _ := deploy(t, nil)
	cloud.Runtime.Concurrency = 2
	cloud.DBS.Delay = 5 * time.Millisecond
	first, second := standin.NewKey(), standin.NewKey()
	cloud.Keys.Add(first)
	cloud.Keys.Add(second)
	cloud.Keys.Remove(cloud.Key.ID)
	var wait sync.WaitGroup
	for i, key := range []standin.Key{first, second} {
		wait.Go(func() {
			one := *cloud
			one.Key = key
			_, err := one.Invoke(t.Context(), []byte(strings.ReplaceAll(harness.Batch(200), "event-", fmt.Sprintf("of-%d-", i))))
			assert.NoError(t, err)
		})
	}
	wait.Wait()
	assert.Len(t, cloud.DBS.Tasks(), 400)
	keyOf := func(id string) string {
		if strings.HasPrefix(id, "of-0-") {
			return first.ID
		}
		return second.ID
	}
	var order []string
	for _, task := range cloud.DBS.Tasks() {
		assert.Equal(t, keyOf(task.ClientToken), task.AccessKeyID)
		order = append(order, task.AccessKeyID)
	}
	assert.Greater(t, len(slices.Compact(order)), 2, "the invocations did not overlap")
	for _, m := range cloud.MNS.Messages(harness.ResultQueue) {
		var r harness.Result
		require.NoError(t, json.Unmarshal([]byte(m.Body), &r))
		assert.Equal(t, keyOf(r.ID), m.AccessKeyID)
	}

	cloud.Keys.Remove(first.ID)
	one := *cloud
	one.Key = first
	_, err := one.Invoke(t.Context(), []byte(harness.Batch(1)))
	failure(t, err, "OperatorFaultError")
}

// No output has a secret, on any failing path.
func TestFunction_LeaksNoSecret(t *testing.T) {
	var elsewhere strings.Builder
	var mu sync.Mutex
	other, err := standin.Start(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(&elsewhere, "%v %s %s", r.Header, r.URL, body)
	}))
	require.NoError(t, err)
	t.Cleanup(other.Close)

	environmentKey := standin.NewKey()
	cloud, instance := deploy(t, map[string]string{"LOG_LEVEL": "debug", "ALIBABA_CLOUD_ACCESS_KEY_ID": environmentKey.ID,
		"ALIBABA_CLOUD_ACCESS_KEY_SECRET": environmentKey.Secret, "ALIBABA_CLOUD_SECURITY_TOKEN": environmentKey.Token})
	cloud.Timeout = time.Second
	require.NoError(t, cloud.Runtime.AskedForWork(t.Context(), 1))
	right := cloud.Key
	wrongSecret, wrongToken := right, right
	wrongSecret.Secret = standin.NewKey().Secret
	wrongToken.Token = standin.NewKey().Token
	secrets := []string{right.Secret, right.Token, wrongSecret.Secret, wrongToken.Token,
		environmentKey.Secret, environmentKey.Token, "Signature=", "MNS " + right.ID + ":", "ACS3-HMAC"}

	var answers strings.Builder
	round := 0
	var last summary
	attempt := func(key standin.Key) {
		cloud.Key = key
		round++
		payload := strings.ReplaceAll(harness.Batch(20), "event-", fmt.Sprintf("round-%d-", round))
		answer, err := cloud.Invoke(t.Context(), []byte(payload))
		fmt.Fprintf(&answers, "%s %v\n", answer.Payload, err)
		last.answer = answer
	}
	// SignatureDoesNotMatch answers quote the string to sign and the token.
	for _, key := range []standin.Key{wrongSecret, wrongToken, {}, standin.NewKey()} {
		attempt(key)
	}
	quoting := fmt.Sprintf("string to sign: %s %s Signature=abc", right.Token, right.Secret)
	faults := append(harness.Faults(), standin.Fault{Kind: standin.Redirect, Location: other.URL},
		standin.Fault{Kind: standin.Refuse, Status: 400, Code: "Nobody", Message: quoting})
	for seed := range uint64(4) {
		cloud.DBSFaults.SetPlan(standin.Randomly(0.9, seed, faults))
		cloud.MNSFaults.SetPlan(standin.Randomly(0.9, seed, faults))
		attempt(right)
	}
	cloud.DBSFaults.SetPlan(nil)
	for _, code := range []string{"SignatureDoesNotMatch", "Nobody"} {
		cloud.MNSFaults.SetPlan(standin.Always(
			standin.Fault{Kind: standin.Refuse, Status: 403, Code: code, Message: quoting}))
		attempt(right)
	}
	cloud.MNSFaults.SetPlan(nil)

	written := []string{logOf(t, instance, last), answers.String(), elsewhere.String()}
	for _, queue := range []string{harness.ResultQueue, harness.DeadLetterQueue} {
		for _, m := range cloud.MNS.Messages(queue) {
			written = append(written, m.Body)
		}
	}
	require.Contains(t, answers.String(), "OperatorFaultError")
	require.Contains(t, answers.String(), "RedeliveryError")
	for _, text := range written {
		for _, secret := range secrets {
			assert.NotContains(t, text, secret)
		}
	}
	assert.Empty(t, elsewhere.String(), "a redirect was followed")
}
