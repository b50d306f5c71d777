package tests_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// mistake is one slip in s.yaml: the first from becomes to.
type mistake struct{ from, to, finds string }

var mistakesInProject = map[string]mistake{
	"no validation": {"validation: true", "validation: false", "props are not validated"},
	"no order": {
		"    - [resources]\n    - [function]",
		"    - [resources, function]",
		"order of deploy",
	},
	"removed in the wrong order": {
		"    - [function]\n    - [resources]",
		"    - [resources]\n    - [function]",
		"order of remove",
	},
	"invoke runs everything":     {"  invoke:\n    - [function]\n", "", "s invoke and s logs"},
	"the executable renamed":     {"-o target/bootstrap", "-o target/main", "the built file is not code/handler"},
	"the handler renamed":        {"handler: bootstrap", "handler: main", "the built file is not code/handler"},
	"built after the deployment": {"pre-deploy:", "success-deploy:", "not one global pre-deploy action"},
	"not static":                 {"CGO_ENABLED=0 ", "", "the build lacks CGO_ENABLED=0"},
	"another machine":            {"GOARCH=amd64", "GOARCH=arm64", "the build lacks GOARCH=amd64"},
	"an account ID":              {"${config('AccountID')}", "1234567890123456", "an account ID or a key"},
	"a key":                      {"access: default", "access: LTAI5t", "an account ID or a key"},
	"an undefined variable": {
		"${vars.sourceQueue}",
		"${vars.source}",
		"source is a variable that vars does not define",
	},
}

var mistakesInResources = map[string]mistake{
	"one queue for two": {
		"resultQueue: increment-backup-results",
		"resultQueue: backup-events",
		"three different queues",
	},
	"another queue is made": {
		"QueueName: ${vars.resultQueue}",
		"QueueName: results",
		"RESULT_QUEUE is not a queue that is made",
	},
	"a name that no queue has": {
		"sourceQueue: backup-events",
		"sourceQueue: backup_events",
		"name of queue backup_events",
	},
	"the default retention": {
		"              MessageRetentionPeriod: 604800\n",
		"",
		"retention of queue backup-events",
	},
	"a short retention": {
		"QueueName: ${vars.deadLetterQueue}\n              MessageRetentionPeriod: 604800",
		"QueueName: ${vars.deadLetterQueue}\n              MessageRetentionPeriod: 345600",
		"retention of queue increment-backup-dead-letters",
	},
	"a role in capitals": {
		"functionName: increment-backup-download",
		"functionName: Increment-Backup-Download",
		"role: fc3 lower-cases",
	},
	"another role is made": {
		"RoleName: ${vars.functionName}",
		"RoleName: another",
		"role: the function's is not",
	},
	"a reference to an output": {
		"role: ${vars.functionName}",
		"role: ${resources.resources.output.RoleArn}",
		"role: the function's is not",
	},
	"a role that stays": {
		"              DeletionForce: true # together with its policy\n",
		"",
		"role: it cannot be removed",
	},
	"another service is trusted": {"Service: [fc.aliyuncs.com]", "Service: [ecs.aliyuncs.com]", "trust:"},
	"one action, not a list": {
		"Action: ['mns:GetQueueAttributes']",
		"Action: mns:GetQueueAttributes",
		"policy: json",
	},
	"an action forgotten": {
		"                          - dbs:DescribeIncrementBackupList\n",
		"",
		"policy: lacks dbs:DescribeIncrementBackupList on *",
	},
	"one form of sending": {
		"['mns:SendMessage', 'mns:BatchSendMessage']",
		"['mns:SendMessage']",
		"policy: lacks mns:BatchSendMessage on",
	},
	"a queue forgotten": {
		"                          - acs:mns:${vars.region}:*:/queues/${vars.deadLetterQueue}/messages\n",
		"",
		"policy: lacks mns:SendMessage on",
	},
	"another region's queue": {
		"acs:mns:${vars.region}:*:/queues/${vars.sourceQueue}/messages",
		"acs:mns:cn-beijing:*:/queues/${vars.sourceQueue}/messages",
		"policy: lacks mns:SendMessage on",
	},
	"every queue": {
		"acs:mns:${vars.region}:*:/queues/${vars.sourceQueue}/messages",
		"acs:mns:*:*:*",
		"policy: needless mns:SendMessage on acs:mns:*:*:*",
	},
	"one action more": {
		"['mns:GetQueueAttributes']",
		"['mns:GetQueueAttributes', 'mns:DeleteQueue']",
		"policy: needless mns:DeleteQueue",
	},
	"no permission for logs": {
		"log:PostLogStoreLogs",
		"log:GetLogStoreLogs",
		"policy: lacks log:PostLogStoreLogs",
	},
	"a policy that is too long": {
		"resultQueue: increment-backup-results",
		"resultQueue: " + strings.Repeat("r", 900),
		"policy: over 2,048 characters",
	},
}

var mistakesInFunction = map[string]mistake{
	"a required setting": {"        RESULT_QUEUE: ${vars.resultQueue}\n", "", "RESULT_QUEUE is not set"},
	"settings crossed": {
		"RESULT_QUEUE: ${vars.resultQueue}",
		"RESULT_QUEUE: ${vars.sourceQueue}",
		"RESULT_QUEUE is not a queue that is made",
	},
	"no source queue": {
		"        SOURCE_QUEUE: ${vars.sourceQueue}\n",
		"",
		"SOURCE_QUEUE is not a queue that is made",
	},
	"no plans": {
		"        BACKUP_PLAN_IDS: ${vars.backupPlanIds}\n",
		"",
		"BACKUP_PLAN_IDS does not follow vars",
	},
	"an unknown setting":    {"LOG_LEVEL: info", "LOGLEVEL: info", "LOGLEVEL is no setting"},
	"a wrong setting":       {"LOG_LEVEL: info", "LOG_LEVEL: loud", "LOG_LEVEL is"},
	"a number for a string": {"LOG_LEVEL: info", "CONCURRENCY: 16", "CONCURRENCY is not a string"},
	"another runtime":       {"runtime: go1", "runtime: custom", "runtime"},
	"too long":              {"timeout: 300", "timeout: 600", "timeout beyond"},
	"too much memory":       {"memorySize: 128", "memorySize: 512", "cpu and memory ratio"},
	"memory as a text":      {"memorySize: 128", "memorySize: 128 MB", "cannot unmarshal"},
	"a misspelt key":        {"memorySize", "memorysize", "field memorysize not found"},
	"no logs":               {"      logConfig: auto\n", "", "logConfig"},
}

var mistakesInTriggers = map[string]mistake{
	"no dead-letter queue": {
		"              deadLetterQueue:\n" +
			"                Arn: acs:mns:${vars.region}:${config('AccountID')}:/queues/${vars.deadLetterQueue}\n",
		"",
		"stream: dead-letter queue",
	},
	"another one": {
		"Arn: acs:mns:${vars.region}:${config('AccountID')}:/queues/${vars.deadLetterQueue}",
		"Arn: acs:mns:${vars.region}:${config('AccountID')}:/queues/${vars.resultQueue}",
		"stream: dead-letter queue",
	},
	"no tolerance":   {"              errorsTolerance: ALL\n", "", "stream: errorsTolerance"},
	"tolerance NONE": {"errorsTolerance: ALL", "errorsTolerance: NONE", "stream: errorsTolerance"},
	"few retries":    {"EXPONENTIAL_DECAY_RETRY", "BACKOFF_RETRY", "stream: retry strategy"},
	"asynchronous": {
		"asyncInvocationType: false",
		"asyncInvocationType: true",
		"stream: asynchronous invocation",
	},
	"event mode, not a stream": {"mode: event-streaming", "mode: event-driven", "stream: event streaming"},
	"a mode of the delivery":   {"eventSchema: CloudEvents", "mode: event-streaming", "field mode not found"},
	"raw data":                 {"eventSchema: CloudEvents", "eventSchema: RawData", "stream: event schema"},
	"another source queue": {
		"                  QueueName: ${vars.sourceQueue}",
		"                  QueueName: ${vars.resultQueue}",
		"stream: not the source queue",
	},
	"decoded on the way": {
		"IsBase64Decode: false",
		"IsBase64Decode: true",
		"stream: bodies are decoded on the way",
	},
	"a stream that is off": {"triggerEnable: true", "triggerEnable: false", "stream: trigger"},
	"a misspelt window":    {"batchWindow:", "batchwindow:", "field batchwindow not found"},
	"a timer that is off":  {"            enable: true", "            enable: false", "timer: trigger"},
	"no cron expression":   {"cronExpression: '@every 15m'", "cronExpression: '@hourly'", "timer: interval"},
	"runs that overlap":    {"@every 15m", "@every 4m", "timer: interval"},
	"a payload of one plan": {
		"payload: '{}'",
		`payload: '{"Discover":{"BackupPlanIds":["dbsq"]}}'`,
		"timer: a payload that narrows every run",
	},
	"a payload that is no text": {"payload: '{}'", "payload: {}", "cannot unmarshal"},
	"runs tried again":          {"        maxAsyncRetryAttempts: 0\n", "", "async: a failed run is tried again"},
	"runs that wait for hours": {
		"maxAsyncEventAgeInSeconds: 600",
		"maxAsyncEventAgeInSeconds: 86400",
		"async: a waiting run",
	},
	"failed runs as letters": {
		"maxAsyncRetryAttempts: 0",
		"destinationConfig: {}",
		"field destinationConfig not found",
	},
	"of another version": {
		"      asyncInvokeConfig:\n        qualifier: LATEST",
		"      asyncInvokeConfig:\n        qualifier: '1'",
		"async: of another version",
	},
}

func TestDeployment_EveryMistakeIsSeen(t *testing.T) {
	content, err := os.ReadFile("../s.yaml")
	require.NoError(t, err)
	for part, mistakes := range map[string]map[string]mistake{
		"project": mistakesInProject, "resources": mistakesInResources, "function": mistakesInFunction, "triggers": mistakesInTriggers,
	} {
		for name, m := range mistakes {
			t.Run(part+"/"+name, func(t *testing.T) {
				text := strings.Replace(string(content), m.from, m.to, 1)
				require.NotEqual(t, string(content), text, "nothing was changed")
				assert.Contains(t, strings.Join(check(t, text), "\n"), m.finds)
			})
		}
	}
}
