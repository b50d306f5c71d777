package tests_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
)

// findings collects what is wrong with a deployment.
type findings []string

func (f *findings) expect(ok bool, what string) {
	if !ok {
		*f = append(*f, what)
	}
}

// check returns what is wrong with the text of an s.yaml: what would lose
// messages, would not start, or would not deploy.
func check(t *testing.T, text string) findings {
	t.Helper()
	var f findings
	rendered, err := harness.ParseDeployment([]byte(text))
	require.NoError(t, err)
	var d deployment
	if err := rendered.DecodeWhole(&d); err != nil {
		return findings{err.Error()} // a key that no struct has, or a value of another type
	}
	used := regexp.MustCompile(`\$\{vars\.(\w+)\}`).FindAllStringSubmatch(text, -1)
	for _, name := range used {
		_, ok := d.Vars[name[1]]
		f.expect(ok, name[1]+" is a variable that vars does not define")
	}
	f.expect(!regexp.MustCompile(`\b\d{16}\b|LTAI`).MatchString(text), "an account ID or a key")

	checkProject(&f, d)
	checkBuild(&f, d)
	checkQueues(&f, d)
	checkRole(&f, d)
	checkPolicy(&f, d)
	checkFunction(&f, d)
	checkSettings(t, &f, d)
	if triggers := d.Resources.Function.Props.Triggers; len(triggers) == 2 {
		checkStream(&f, d, triggers[0])
		checkTimer(&f, d, triggers[1])
	} else {
		f.expect(false, "not two triggers")
	}
	return f
}

func checkProject(f *findings, d deployment) {
	ros, function := d.Resources.Resources, d.Resources.Function
	f.expect(d.Edition == "3.0.0" && ros.Component == "ros" && function.Component == "fc3", "edition and components")
	f.expect(d.Validation, "props are not validated before a deployment")
	steps := func(verb string) string { return fmt.Sprint(d.Flow[verb]) }
	f.expect(steps("deploy") == "[[resources] [function]]", "order of deploy")
	f.expect(steps("remove") == "[[function] [resources]]", "order of remove")
	f.expect(steps("invoke") == "[[function]]" && steps("logs") == "[[function]]",
		"s invoke and s logs are not the function's alone")
	f.expect(ros.Props.Region == d.Vars["region"] && function.Props.Region == d.Vars["region"], "region")
	f.expect(ros.Props.Name == d.Vars["functionName"] && ros.Props.Template.FormatVersion == "2015-09-01", "stack")
}

func checkBuild(f *findings, d deployment) {
	if len(d.Actions) != 1 || len(d.Actions["pre-deploy"]) != 1 {
		f.expect(false, "not one global pre-deploy action")
		return
	}
	action, props := d.Actions["pre-deploy"][0], d.Resources.Function.Props
	output := regexp.MustCompile(`-o (\S+) \./bootstrap$`).FindStringSubmatch(action.Run)
	f.expect(action.Path == "./" && output != nil && filepath.Clean(props.Code) == "target" &&
		filepath.Join("target", props.Handler) == output[1], "the built file is not code/handler")
	for _, part := range []string{
		"GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0", "-trimpath", "-mod=readonly", "-tags nethttpomithttp2", `-ldflags "-s -w"`,
	} {
		f.expect(strings.Contains(action.Run, part), "the build lacks "+part)
	}
}

// checkQueues holds the names of the queues against each other, wherever they are,
// except in the policy.
func checkQueues(f *findings, d deployment) {
	made := d.Resources.Resources.Props.Template.Resources
	settings := d.Resources.Function.Props.EnvironmentVariables
	distinct := make(map[string]bool)
	for setting, queue := range map[string]rosQueue{
		"SOURCE_QUEUE": made.SourceQueue, "RESULT_QUEUE": made.ResultQueue, "DEAD_LETTER_QUEUE": made.DeadLetterQueue,
	} {
		name := queue.Properties.QueueName
		distinct[name] = true
		f.expect(queue.Type == "ALIYUN::MNS::Queue", "type of queue "+name)
		f.expect(settings[setting] == name, setting+" is not a queue that is made")
		f.expect(regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,119}$`).MatchString(name), "name of queue "+name)
		// The longest there is: https://www.alibabacloud.com/help/en/ros/developer-reference/aliyun-mns-queue
		f.expect(queue.Properties.MessageRetentionPeriod == int((7*24*time.Hour).Seconds()), "retention of queue "+name)
	}
	f.expect(len(distinct) == 3, "three different queues")
}

func checkRole(f *findings, d deployment) {
	role := d.Resources.Resources.Props.Template.Resources.Role
	name := role.Properties.RoleName
	f.expect(role.Type == "ALIYUN::RAM::Role" && role.Properties.DeletionForce, "role: it cannot be removed")
	f.expect(regexp.MustCompile(`^[a-z0-9.-]{1,64}$`).MatchString(name), "role: fc3 lower-cases its name")
	f.expect(d.Resources.Function.Props.Role == name, "role: the function's is not the one that is made")
	trust, _ := json.Marshal(role.Properties.Trust)
	wanted := `{"Statement":[{"Action":"sts:AssumeRole","Effect":"Allow","Principal":{"Service":["fc.aliyuncs.com"]}}],"Version":"1"}`
	f.expect(string(trust) == wanted, "trust: others than Function Compute, or not even it")
}

func checkPolicy(f *findings, d deployment) {
	policies := d.Resources.Resources.Props.Template.Resources.Role.Properties.Policies
	if len(policies) != 1 {
		f.expect(false, "policy: not exactly one")
		return
	}
	document, err := json.Marshal(policies[0].PolicyDocument)
	f.expect(err == nil && len(document) <= 2048, "policy: over 2,048 characters")
	var read struct {
		Version   string
		Statement []struct {
			Effect           string
			Action, Resource []string // lists: ROS refuses one string
		}
	}
	if err := json.Unmarshal(document, &read); err != nil {
		f.expect(false, "policy: "+err.Error())
		return
	}
	f.expect(read.Version == "1", "policy: version")
	var granted []string
	for _, s := range read.Statement {
		f.expect(s.Effect == "Allow", "policy: effect "+s.Effect)
		for _, action := range s.Action {
			for _, resource := range s.Resource {
				granted = append(granted, action+" on "+resource)
			}
		}
	}
	region := d.Vars["region"]
	wanted := []string{
		"dbs:CreateIncrementBackupSetDownload on *",
		"dbs:DescribeIncrementBackupList on *",
		"dbs:DescribeBackupSetDownloadTaskList on *",
		"log:PostLogStoreLogs on acs:log:" + region + ":*:project/serverless-" + region + "-*/logstore/default-logs",
	}
	for _, queue := range []string{d.Vars["sourceQueue"], d.Vars["resultQueue"], d.Vars["deadLetterQueue"]} {
		arn := "acs:mns:" + region + ":*:/queues/" + queue
		wanted = append(wanted, "mns:GetQueueAttributes on "+arn,
			"mns:SendMessage on "+arn+"/messages", "mns:BatchSendMessage on "+arn+"/messages")
	}
	for _, grant := range wanted {
		f.expect(slices.Contains(granted, grant), "policy: lacks "+grant)
	}
	for _, grant := range granted {
		f.expect(slices.Contains(wanted, grant), "policy: needless "+grant)
	}
}

func checkFunction(f *findings, d deployment) {
	props := d.Resources.Function.Props
	f.expect(props.FunctionName == d.Vars["functionName"], "function name")
	f.expect(props.Runtime == "go1", "runtime")
	ratio := float64(props.MemorySize) / 1024 / props.CPU
	f.expect(ratio >= 1 && ratio <= 4 && props.MemorySize%64 == 0, "cpu and memory ratio")
	f.expect(props.DiskSize == 512, "disk size")
	f.expect(props.Timeout >= 60 && props.Timeout <= 300, "timeout beyond the trigger's five minutes")
	f.expect(props.InstanceConcurrency == 1, "instanceConcurrency")
	f.expect(props.LogConfig == "auto", "logConfig")
	f.expect(props.InternetAccess, "internetAccess")
}

func checkSettings(t *testing.T, f *findings, d deployment) {
	t.Helper()
	settings, size := make(map[string]string), 0
	for name, value := range d.Resources.Function.Props.EnvironmentVariables {
		s, ok := value.(string)
		f.expect(ok, name+" is not a string")
		settings[name] = s
		size += len(name) + len(s)
	}
	f.expect(size < 4096, "environment over 4 KB")
	plans, set := settings["BACKUP_PLAN_IDS"]
	f.expect(set && plans == d.Vars["backupPlanIds"], "BACKUP_PLAN_IDS does not follow vars")
	failure := startOnce(t, settings)
	f.expect(failure == "", "the function does not start: "+failure)
	_, usage := run(t, nil, "-h")
	for name := range settings {
		f.expect(strings.Contains(usage, "\n  "+name+" "), name+" is no setting")
	}
}

var (
	startsMu sync.Mutex
	starts   = make(map[string]string) // why the function does not start, by settings
)

// startOnce is tryStart, once for the same settings: most slips do not change them.
func startOnce(t *testing.T, settings map[string]string) (failure string) {
	t.Helper()
	startsMu.Lock()
	defer startsMu.Unlock()
	key := fmt.Sprint(settings)
	failure, known := starts[key]
	if !known {
		failure = tryStart(t, settings)
		starts[key] = failure
	}
	return failure
}

func checkStream(f *findings, d deployment, t trigger) {
	config := t.TriggerConfig
	source := config.EventSourceConfig.EventSourceParameters.SourceMNSParameters
	queues := d.Resources.Resources.Props.Template.Resources
	f.expect(t.TriggerType == "eventbridge" && t.Qualifier == "LATEST" && config.TriggerEnable &&
		config.EventSourceConfig.EventSourceType == "MNS" && config.EventRuleFilterPattern == "{}", "stream: trigger")
	f.expect(source.RegionID == d.Vars["region"], "stream: region of the source queue")
	f.expect(source.QueueName == queues.SourceQueue.Properties.QueueName, "stream: not the source queue")
	f.expect(source.IsBase64Decode != nil && !*source.IsBase64Decode, "stream: bodies are decoded on the way")
	f.expect(config.EventSinkConfig.DeliveryOption.EventSchema == "CloudEvents", "stream: event schema")
	f.expect(config.AsyncInvocationType != nil && !*config.AsyncInvocationType, "stream: asynchronous invocation")
	f.expect(config.RunOptions.Mode == "event-streaming", "stream: event streaming")
	f.expect(config.RunOptions.RetryStrategy.PushRetryStrategy == "EXPONENTIAL_DECAY_RETRY", "stream: retry strategy")
	f.expect(config.RunOptions.ErrorsTolerance == "ALL", "stream: errorsTolerance")
	f.expect(config.RunOptions.DeadLetterQueue.Arn == "acs:mns:"+d.Vars["region"]+":${config('AccountID')}:/queues/"+
		queues.DeadLetterQueue.Properties.QueueName, "stream: dead-letter queue")
	window := config.RunOptions.BatchWindow
	f.expect(window.CountBasedWindow >= 1 && window.CountBasedWindow <= 10_000 && window.TimeBasedWindow <= 15,
		"stream: batch window")
}

func checkTimer(f *findings, d deployment, t trigger) {
	config := t.TriggerConfig
	f.expect(t.TriggerType == "timer" && t.Qualifier == "LATEST" && config.Enable, "timer: trigger")
	f.expect(config.Payload == "" || config.Payload == "{}", "timer: a payload that narrows every run")
	var interval time.Duration
	if every, ok := strings.CutPrefix(config.CronExpression, "@every "); ok {
		interval, _ = time.ParseDuration(every)
	}
	timeout := time.Duration(d.Resources.Function.Props.Timeout) * time.Second
	f.expect(interval > timeout && interval <= time.Hour, "timer: interval")

	async := d.Resources.Function.Props.AsyncInvokeConfig
	f.expect(async.Qualifier == t.Qualifier, "async: of another version than the timer's")
	f.expect(async.MaxAsyncRetryAttempts != nil && *async.MaxAsyncRetryAttempts == 0, "async: a failed run is tried again")
	age := time.Duration(async.MaxAsyncEventAgeInSeconds) * time.Second
	f.expect(age > 0 && age < interval, "async: a waiting run outlives the next one")
}
