package tests_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/dbs"
)

// grant is one action on one resource.
type grant struct{ action, resource string }

func mns(action, queue string) grant {
	return grant{"mns:" + action, "acs:mns:" + harness.Region + ":*:/queues/" + queue}
}

// needed says of each permission which payload fails without it, with an error of
// which type, and what the error says. A batch needs both actions here, as the
// documentation contradicts itself; the error may name either.
var needed = map[grant]struct{ payload, kind, says string }{
	{"dbs:CreateIncrementBackupSetDownload", "*"}: {
		harness.Batch(1), "OperatorFaultError", "dbs:CreateIncrementBackupSetDownload",
	},
	mns("SendMessage", harness.ResultQueue+"/messages"): {
		harness.Batch(1), "OperatorFaultError", "mns:SendMessage and mns:BatchSendMessage on queue " + harness.ResultQueue,
	},
	mns("BatchSendMessage", harness.ResultQueue+"/messages"): {
		harness.Batch(1), "OperatorFaultError", "mns:BatchSendMessage on queue " + harness.ResultQueue,
	},
	mns("SendMessage", harness.DeadLetterQueue+"/messages"): {
		rubbish, "OperatorFaultError", "mns:SendMessage and mns:BatchSendMessage on queue " + harness.DeadLetterQueue,
	},
	mns("BatchSendMessage", harness.DeadLetterQueue+"/messages"): {
		rubbish, "OperatorFaultError", "mns:BatchSendMessage on queue " + harness.DeadLetterQueue,
	},
	{"dbs:DescribeIncrementBackupList", "*"}: {
		discover, "DiscoveryError", "dbs:DescribeIncrementBackupList",
	},
	{"dbs:DescribeBackupSetDownloadTaskList", "*"}: {
		discover, "DiscoveryError", "dbs:DescribeBackupSetDownloadTaskList",
	},
	{"dbs:DescribeBackupPlanList", "*"}: {
		discover, "DiscoveryError", "dbs:DescribeBackupPlanList",
	},
	mns("SendMessage", harness.SourceQueue+"/messages"): {
		discover, "DiscoveryError", "mns:SendMessage and mns:BatchSendMessage on queue " + harness.SourceQueue,
	},
	mns("BatchSendMessage", harness.SourceQueue+"/messages"): {
		discover, "DiscoveryError", "mns:BatchSendMessage on queue " + harness.SourceQueue,
	},
	mns("GetQueueAttributes", harness.SourceQueue): {
		discover, "DiscoveryError", "mns:GetQueueAttributes on queue " + harness.SourceQueue,
	},
}

const discover = `{"Discover":{}}`

// rubbish is a payload that must be dead-lettered.
const rubbish = `[{"specversion":"1.0","id":"rubbish","source":"acs:mns","type":"mns:Queue:SendMessage",
	"data":{"messageId":"rubbish","messageBody":"{}"}}]`

// untried says why a permission is granted that no payload here needs.
var untried = map[grant]string{
	{"log:PostLogStoreLogs", "acs:log:cn-hangzhou:*:project/" + harness.FunctionName + "-*/logstore/function"}: runtime,

	mns("GetQueueAttributes", harness.ResultQueue):     typedCheck,
	mns("GetQueueAttributes", harness.DeadLetterQueue): typedCheck,
}

const (
	runtime    = "Function Compute writes the logs"
	typedCheck = "the typed check needs it"
)

// grants returns what the policy of s.yaml allows, one action and resource each.
func grants(t *testing.T) []grant {
	t.Helper()
	d, err := harness.ReadDeployment()
	require.NoError(t, err)
	document, err := d.Policy()
	require.NoError(t, err)
	var read struct {
		Statement []struct{ Action, Resource []string }
	}
	text, err := json.Marshal(document)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &read))
	var all []grant
	for _, s := range read.Statement {
		for _, action := range s.Action {
			for _, resource := range s.Resource {
				all = append(all, grant{action, resource})
			}
		}
	}
	return all
}

// policyOf returns a policy that allows just the given grants.
func policyOf(t *testing.T, all []grant) *standin.Policy {
	t.Helper()
	type statement struct{ Effect, Action, Resource string }
	var document struct{ Statement []statement }
	for _, g := range all {
		document.Statement = append(document.Statement, statement{"Allow", g.action, g.resource})
	}
	text, err := json.Marshal(document)
	require.NoError(t, err)
	policy, err := standin.ParsePolicy(text)
	require.NoError(t, err)
	return policy
}

// under invokes the function once under a policy.
func under(t *testing.T, policy *standin.Policy, payload string) error {
	t.Helper()
	cloud, err := harness.NewCloudWithPolicy(policy)
	require.NoError(t, err)
	t.Cleanup(cloud.Close)
	cloud.DBS.AddPlan(harness.PlanID)
	cloud.DBS.AddSet(harness.PlanID, dbs.Set{JobID: "1hv5g9wk4001", Name: "mysql-bin.000054", Status: dbs.Completed,
		Start: time.Now().Add(-time.Hour), End: time.Now()})
	startInstance(t, cloud, discoveringAll())
	_, err = cloud.Invoke(t.Context(), []byte(payload))
	return err
}

// discoveringAll returns the settings of a function that discovers every plan, which
// needs each permission.
func discoveringAll() map[string]string {
	settings := harness.Discovery()
	settings["BACKUP_PLAN_IDS"] = "all"
	return settings
}

func TestPolicy_EveryPermissionIsNeeded(t *testing.T) {
	all := grants(t)
	for _, g := range all {
		if _, ok := untried[g]; ok {
			continue
		}
		t.Run("without "+g.action+" on "+g.resource, func(t *testing.T) {
			need, ok := needed[g]
			require.True(t, ok, "granted, and no payload needs it")
			require.NoError(t, under(t, policyOf(t, all), need.payload))
			rest := slices.DeleteFunc(slices.Clone(all), func(other grant) bool { return other == g })
			assert.Contains(t, failure(t, under(t, policyOf(t, rest), need.payload), need.kind), need.says)
		})
	}
	assert.Len(t, all, len(needed)+len(untried), "a row for each permission, and no other row")
}

// A permission that nothing uses is found, and so is one that is called untried and
// is used.
func TestPolicy_GrantsNoMoreThanIsUsed(t *testing.T) {
	unused := func(all []grant) []string {
		policy := policyOf(t, all)
		for _, payload := range []string{harness.Batch(1), rubbish, discover} {
			require.NoError(t, under(t, policy, payload))
		}
		return policy.Unused()
	}
	var expected []string
	for g := range untried {
		expected = append(expected, g.action+" on "+g.resource)
	}
	all := grants(t)
	assert.ElementsMatch(t, expected, unused(all))
	for _, more := range []grant{
		mns("ReceiveMessage", harness.ResultQueue+"/messages"),
		mns("SendMessage", "third/messages"),
		{"dbs:ReleaseBackupPlan", "*"},
	} {
		assert.Contains(t, unused(append(slices.Clone(all), more)), more.action+" on "+more.resource)
	}
}

// The typed check names each permission that is missing, and what to do, and leaves
// nothing behind.
func TestCheck_NamesWhatIsMissing(t *testing.T) {
	type result struct{ Name, Result, Detail, Fix string }
	check := func(t *testing.T, policy *standin.Policy) (ok bool, results map[string]result) {
		t.Helper()
		cloud, err := harness.NewCloudWithPolicy(policy)
		require.NoError(t, err)
		t.Cleanup(cloud.Close)
		cloud.DBS.AddPlan(harness.PlanID)
		startInstance(t, cloud, discoveringAll())
		answer, err := cloud.Invoke(t.Context(), []byte(`{"Check":{}}`))
		require.NoError(t, err)
		var report struct {
			OK     bool
			Checks []result
		}
		require.NoError(t, json.Unmarshal(answer.Payload, &report))
		results = make(map[string]result)
		for _, r := range report.Checks {
			results[r.Name] = r
		}
		assert.Empty(t, cloud.DBS.Tasks())
		for _, queue := range []string{harness.SourceQueue, harness.ResultQueue, harness.DeadLetterQueue} {
			assert.Empty(t, cloud.MNS.Messages(queue))
		}
		return report.OK, results
	}

	all := grants(t)
	ok, results := check(t, policyOf(t, all))
	assert.True(t, ok)
	for _, r := range results {
		assert.NotEqual(t, "failed", r.Result, r.Name)
	}
	setting := map[string]string{
		harness.SourceQueue: "SOURCE_QUEUE", harness.ResultQueue: "RESULT_QUEUE", harness.DeadLetterQueue: "DEAD_LETTER_QUEUE",
	}
	for _, g := range all {
		if g.action == "log:PostLogStoreLogs" {
			continue // Function Compute writes the log
		}
		t.Run("without "+g.action+" on "+g.resource, func(t *testing.T) {
			rest := slices.DeleteFunc(slices.Clone(all), func(other grant) bool { return other == g })
			ok, without := check(t, policyOf(t, rest))
			var changed []string
			for name, r := range without {
				if r.Result != results[name].Result {
					changed = append(changed, name)
				}
			}
			require.Len(t, changed, 1)
			r := without[changed[0]]
			_, queue, _ := strings.Cut(g.resource, "/queues/")
			queue = strings.TrimSuffix(queue, "/messages")
			if name, isQueue := setting[queue]; isQueue {
				assert.Contains(t, r.Name, name)
			}
			if strings.HasPrefix(g.action, "mns:Get") && queue != harness.SourceQueue {
				assert.True(t, ok, "only the check itself reads the attributes of this queue")
				assert.Equal(t, "unproven", r.Result)
				return
			}
			assert.False(t, ok)
			assert.Equal(t, "failed", r.Result)
			assert.Contains(t, r.Fix, g.action)
		})
	}
}
