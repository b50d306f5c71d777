package tests_test

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin"
)

// deployment is what the checks read of s.yaml.
type deployment struct {
	Edition   string
	Vars      map[string]string
	Resources map[string]struct {
		Component string
		Actions   map[string][]struct{ Run, Path string }
		Props     struct {
			FunctionName         string `yaml:"functionName"`
			Runtime              string
			Handler              string
			Code                 string
			CPU                  float64
			MemorySize           int `yaml:"memorySize"`
			Timeout              int
			InstanceConcurrency  int  `yaml:"instanceConcurrency"`
			InternetAccess       bool `yaml:"internetAccess"`
			Role                 string
			EnvironmentVariables map[string]any `yaml:"environmentVariables"`
			LogConfig            any            `yaml:"logConfig"`
			Triggers             []struct {
				TriggerType   string `yaml:"triggerType"`
				TriggerConfig struct {
					TriggerEnable       bool  `yaml:"triggerEnable"`
					AsyncInvocationType *bool `yaml:"asyncInvocationType"`
					EventSourceConfig   struct {
						EventSourceType       string `yaml:"eventSourceType"`
						EventSourceParameters struct {
							SourceMNSParameters struct {
								RegionID       string `yaml:"RegionId"`
								QueueName      string `yaml:"QueueName"`
								IsBase64Decode *bool  `yaml:"IsBase64Decode"`
							} `yaml:"sourceMNSParameters"`
						} `yaml:"eventSourceParameters"`
					} `yaml:"eventSourceConfig"`
					EventSinkConfig struct {
						DeliveryOption struct {
							Mode        string
							EventSchema string `yaml:"eventSchema"`
						} `yaml:"deliveryOption"`
					} `yaml:"eventSinkConfig"`
					RunOptions struct {
						Mode            string
						ErrorsTolerance string `yaml:"errorsTolerance"`
						RetryStrategy   struct {
							PushRetryStrategy string `yaml:"PushRetryStrategy"`
						} `yaml:"retryStrategy"`
						DeadLetterQueue struct {
							Arn string `yaml:"Arn"`
						} `yaml:"deadLetterQueue"`
						BatchWindow struct {
							CountBasedWindow int `yaml:"CountBasedWindow"`
							TimeBasedWindow  int `yaml:"TimeBasedWindow"`
						} `yaml:"batchWindow"`
					} `yaml:"runOptions"`
				} `yaml:"triggerConfig"`
			}
		}
	}
}

// check returns what is wrong with a deployment: what would lose messages, or
// would not start.
func check(t *testing.T, text string) []string {
	t.Helper()
	for name, value := range readYAML(t, text).Vars {
		text = strings.ReplaceAll(text, "${vars."+name+"}", value)
	}
	d := readYAML(t, text)
	var wrong []string
	expect := func(ok bool, what string) {
		if !ok {
			wrong = append(wrong, what)
		}
	}
	require.Len(t, d.Resources, 1)
	for _, resource := range d.Resources {
		props := resource.Props
		expect(d.Edition == "3.0.0" && resource.Component == "fc3", "edition and component")
		expect(props.Runtime == "go1", "runtime")
		expect(strings.Count(text, "${vars.") == 0, "a variable that vars does not define")
		expect(!regexp.MustCompile(`\b\d{16}\b|LTAI`).MatchString(text), "an account ID or a key")

		require.Len(t, resource.Actions["pre-deploy"], 1)
		build := resource.Actions["pre-deploy"][0].Run
		output := regexp.MustCompile(`-o (\S+) \./bootstrap$`).FindStringSubmatch(build)
		expect(output != nil && filepath.Join("target", props.Handler) == output[1] && filepath.Clean(props.Code) == "target", "the built file is not code/handler")
		for _, part := range []string{"GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0", "-trimpath", "-mod=readonly", `-ldflags "-s -w"`} {
			expect(strings.Contains(build, part), "the build lacks "+part)
		}

		ratio := float64(props.MemorySize) / 1024 / props.CPU
		expect(ratio >= 1 && ratio <= 4 && props.MemorySize%64 == 0, "cpu and memory ratio")
		expect(props.Timeout >= 60 && props.Timeout <= 300, "timeout beyond the trigger's five minutes")
		expect(props.InstanceConcurrency == 1, "instanceConcurrency")
		expect(props.LogConfig != nil, "logConfig")
		expect(props.InternetAccess, "internetAccess")
		role := regexp.MustCompile(`:role/(\S+)$`).FindStringSubmatch(props.Role)
		expect(role != nil && role[1] == strings.ToLower(role[1]) && strings.HasPrefix(props.Role, "acs:ram::${config('AccountID')}"), "role")

		settings, size := make(map[string]string), 0
		for name, value := range props.EnvironmentVariables {
			s, ok := value.(string)
			expect(ok, name+" is not a string")
			settings[name] = s
			size += len(name) + len(s)
		}
		expect(size < 4096, "environment over 4 KB")
		status, failure := tryStart(t, settings)
		expect(status == 0, "the function does not start: "+failure)
		_, usage := run(t, nil, "-h")
		for name := range settings {
			expect(strings.Contains(usage, "\n  "+name+" "), name+" is no setting")
		}

		require.Len(t, props.Triggers, 1)
		trigger := props.Triggers[0].TriggerConfig
		parameters := trigger.EventSourceConfig.EventSourceParameters.SourceMNSParameters
		source := parameters.QueueName
		expect(parameters.RegionID == d.Vars["region"], "region of the source queue")
		expect(parameters.IsBase64Decode != nil && !*parameters.IsBase64Decode, "bodies are decoded on the way")
		expect(trigger.EventSinkConfig.DeliveryOption.EventSchema == "CloudEvents", "event schema")
		expect(props.FunctionName == d.Vars["functionName"], "function name")
		expect(props.Triggers[0].TriggerType == "eventbridge" && trigger.TriggerEnable && trigger.EventSourceConfig.EventSourceType == "MNS", "trigger")
		expect(trigger.AsyncInvocationType != nil && !*trigger.AsyncInvocationType, "asynchronous invocation")
		expect(trigger.EventSinkConfig.DeliveryOption.Mode == "event-streaming" && trigger.RunOptions.Mode == "event-streaming", "event streaming")
		expect(trigger.RunOptions.RetryStrategy.PushRetryStrategy == "EXPONENTIAL_DECAY_RETRY", "retry strategy")
		expect(trigger.RunOptions.ErrorsTolerance == "ALL", "errorsTolerance")
		expect(strings.HasSuffix(trigger.RunOptions.DeadLetterQueue.Arn, ":${config('AccountID')}:/queues/"+settings["DEAD_LETTER_QUEUE"]), "dead-letter queue of the trigger")
		window := trigger.RunOptions.BatchWindow
		expect(window.CountBasedWindow >= 1 && window.CountBasedWindow <= 10_000 && window.TimeBasedWindow <= 15, "batch window")
		distinct := map[string]bool{source: true, settings["RESULT_QUEUE"]: true, settings["DEAD_LETTER_QUEUE"]: true}
		expect(len(distinct) == 3 && !distinct[""], "three different queues")
	}
	return wrong
}

func readYAML(t *testing.T, text string) deployment {
	t.Helper()
	var d deployment
	require.NoError(t, yaml.Unmarshal([]byte(text), &d))
	return d
}

// tryStart starts the executable as Function Compute would, and reports whether
// it asks for work.
func tryStart(t *testing.T, settings map[string]string) (status int, output string) {
	t.Helper()
	cloud, err := harness.NewCloud()
	require.NoError(t, err)
	defer cloud.Close()
	environment := cloud.Environment(nil)
	for _, name := range []string{"RESULT_QUEUE", "DEAD_LETTER_QUEUE", "MNS_ENDPOINT", "DBS_ENDPOINT"} {
		delete(environment, name) // as s.yaml leaves them
	}
	maps.Copy(environment, settings)
	command := exec.CommandContext(t.Context(), executable)
	for name, value := range environment {
		command.Env = append(command.Env, name+"="+value)
	}
	var text bytes.Buffer
	command.Stdout, command.Stderr = &text, &text
	require.NoError(t, command.Start())
	ended, asked := make(chan struct{}), make(chan error, 1)
	go func() { _ = command.Wait(); close(ended) }()
	go func() { asked <- cloud.Runtime.AskedForWork(t.Context(), 1) }()
	select {
	case err := <-asked:
		require.NoError(t, err)
		_ = command.Process.Kill()
		<-ended
		return 0, ""
	case <-ended:
		return command.ProcessState.ExitCode(), text.String()
	}
}

func TestDeployment_LosesNothingAndStarts(t *testing.T) {
	text, err := os.ReadFile("../s.yaml")
	require.NoError(t, err)
	assert.Empty(t, check(t, string(text)))
}

func TestDeployment_EveryMistakeIsSeen(t *testing.T) {
	content, err := os.ReadFile("../s.yaml")
	require.NoError(t, err)
	for name, c := range map[string]struct{ from, to, finds string }{
		"no dead-letter queue":     {"              deadLetterQueue:\n                Arn: acs:mns:${vars.region}:${config('AccountID')}:/queues/${vars.deadLetterQueue}\n", "", "dead-letter queue of the trigger"},
		"another one":              {":/queues/${vars.deadLetterQueue}", ":/queues/${vars.resultQueue}", "dead-letter queue of the trigger"},
		"no tolerance":             {"              errorsTolerance: ALL\n", "", "errorsTolerance"},
		"tolerance NONE":           {"errorsTolerance: ALL", "errorsTolerance: NONE", "errorsTolerance"},
		"few retries":              {"EXPONENTIAL_DECAY_RETRY", "BACKOFF_RETRY", "retry strategy"},
		"asynchronous":             {"asyncInvocationType: false", "asyncInvocationType: true", "asynchronous invocation"},
		"a required setting":       {"        RESULT_QUEUE: ${vars.resultQueue}\n", "", "RESULT_QUEUE is not set"},
		"an unknown setting":       {"LOG_LEVEL: info", "LOGLEVEL: info", "LOGLEVEL is no setting"},
		"a wrong setting":          {"LOG_LEVEL: info", "LOG_LEVEL: loud", "LOG_LEVEL is"},
		"a number for a string":    {"LOG_LEVEL: info", "CONCURRENCY: 16", "CONCURRENCY is not a string"},
		"the executable renamed":   {"-o target/bootstrap", "-o target/main", "the built file is not code/handler"},
		"the handler renamed":      {"handler: bootstrap", "handler: main", "the built file is not code/handler"},
		"one queue for two":        {"resultQueue: increment-backup-results", "resultQueue: backup-events", "three different queues"},
		"too long":                 {"timeout: 300", "timeout: 600", "timeout beyond"},
		"too much memory":          {"memorySize: 128", "memorySize: 512", "cpu and memory ratio"},
		"a role in capitals":       {"role: increment-backup-download", "role: Increment-Backup-Download", "role"},
		"an account ID":            {"${config('AccountID')}:role", "1234567890123456:role", "an account ID or a key"},
		"a variable nobody has":    {"${vars.sourceQueue}", "${vars.source}", "a variable that vars does not define"},
		"not static":               {"CGO_ENABLED=0 ", "", "the build lacks CGO_ENABLED=0"},
		"another machine":          {"GOARCH=amd64", "GOARCH=arm64", "the build lacks GOARCH=amd64"},
		"no logs":                  {"      logConfig: auto\n", "", "logConfig"},
		"another runtime":          {"runtime: go1", "runtime: custom", "runtime"},
		"event mode, not a stream": {"                mode: event-streaming\n", "                mode: event-driven\n", "event streaming"},
		"decoded on the way":       {"IsBase64Decode: false", "IsBase64Decode: true", "bodies are decoded on the way"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(string(content), c.from, c.to, 1)
			require.NotEqual(t, string(content), text, "nothing was changed")
			assert.Contains(t, strings.Join(check(t, text), "\n"), c.finds)
		})
	}
}

// The pre-deploy action is run as it stands, in a copy of the folder.
func TestDeployment_ThePreDeployActionBuildsAStaticExecutable(t *testing.T) {
	content, err := os.ReadFile("../s.yaml")
	require.NoError(t, err)
	folder := t.TempDir()
	root, err := harness.Root()
	require.NoError(t, err)
	for _, name := range []string{"go.mod", "go.sum", "bootstrap", "function", "handler", "events"} {
		require.NoError(t, os.Symlink(filepath.Join(root, name), filepath.Join(folder, name)))
	}
	for _, resource := range readYAML(t, string(content)).Resources {
		command := exec.CommandContext(t.Context(), "sh", "-c", resource.Actions["pre-deploy"][0].Run)
		command.Dir = folder
		output, err := command.CombinedOutput()
		require.NoError(t, err, string(output))
		file, err := elf.Open(filepath.Join(folder, resource.Props.Code, resource.Props.Handler))
		require.NoError(t, err)
		defer func() { _ = file.Close() }()
		assert.Equal(t, elf.EM_X86_64, file.Machine)
		libraries, err := file.ImportedLibraries()
		require.NoError(t, err)
		assert.Empty(t, libraries)
		for _, program := range file.Progs {
			assert.NotEqual(t, elf.PT_INTERP, program.Type, "needs a dynamic linker")
		}
		assert.Nil(t, file.Section(".symtab"), "not stripped")
	}
}

// The stand-ins enforce the role's policy; here it is held against what the code
// needs, in both directions.
func TestPolicy_GrantsWhatTheCodeNeedsAndNoMore(t *testing.T) {
	document, err := os.ReadFile("../function/ram-policy.json")
	require.NoError(t, err)
	// use runs the function under a policy, and returns its error and what of the
	// policy was not used.
	use := func(t *testing.T, document []byte) ([]string, error) {
		t.Helper()
		policy, err := standin.ParsePolicy(document)
		require.NoError(t, err)
		cloud, err := harness.NewCloudWithPolicy(policy)
		require.NoError(t, err)
		t.Cleanup(cloud.Close)
		startInstance(t, cloud, nil)
		_, err = invoke(t, cloud, strings.Replace(batch(3), `\"BackupSetJobId\"`, `\"x\"`, 1))
		return policy.Unused(), err
	}
	unused, err := use(t, document)
	require.NoError(t, err)
	// Granted for discovery, and for the check of a deployment.
	discovery := []string{
		"dbs:DescribeBackupSetDownloadTaskList on *",
		"dbs:DescribeIncrementBackupList on *",
		"mns:BatchSendMessage on acs:mns:*:*:/queues/backup-events/messages",
		"mns:GetQueueAttributes on acs:mns:*:*:/queues/backup-events",
		"mns:GetQueueAttributes on acs:mns:*:*:/queues/increment-backup-dead-letters",
		"mns:GetQueueAttributes on acs:mns:*:*:/queues/increment-backup-results",
		"mns:SendMessage on acs:mns:*:*:/queues/backup-events/messages",
	}
	assert.Equal(t, discovery, unused)

	for action, says := range map[string]string{"dbs:CreateIncrementBackupSetDownload": "Request.Forbidden (HTTP 403)",
		"mns:SendMessage": "AccessDenied (HTTP 403)", "mns:BatchSendMessage": "AccessDenied (HTTP 403)"} {
		t.Run("without "+action, func(t *testing.T) {
			_, err := use(t, bytes.ReplaceAll(document, []byte(`"`+action+`"`), []byte(`"mns:ListQueue"`)))
			assert.Contains(t, failure(t, err, "OperatorFaultError"), says)
		})
	}
	for _, queue := range []string{harness.ResultQueue, harness.DeadLetterQueue} {
		t.Run("without "+queue, func(t *testing.T) {
			_, err := use(t, bytes.ReplaceAll(document, []byte(queue), []byte("another")))
			assert.Contains(t, failure(t, err, "OperatorFaultError"), "AccessDenied (HTTP 403)")
		})
	}
	t.Run("with one more", func(t *testing.T) {
		unused, _ := use(t, bytes.Replace(document, []byte(`"mns:SendMessage"`), []byte(`"mns:SendMessage", "mns:ReceiveMessage"`), 1))
		assert.Len(t, unused, len(discovery)+3, "on each queue")
		assert.Contains(t, strings.Join(unused, "\n"), "mns:ReceiveMessage on ")
	})
	t.Run("on one queue more", func(t *testing.T) {
		third := []byte(`"Resource": [ "acs:mns:*:*:/queues/third/messages",`)
		unused, _ := use(t, bytes.Replace(document, []byte(`"Resource": [`), third, 1))
		assert.Len(t, unused, len(discovery)+2, "with either action")
		assert.Contains(t, unused, "mns:SendMessage on acs:mns:*:*:/queues/third/messages")
	})
	t.Run("trusts Function Compute only", func(t *testing.T) {
		var trust struct {
			Statement []struct {
				Effect, Action string
				Principal      map[string][]string
			}
		}
		document, err := os.ReadFile("../function/ram-trust-policy.json")
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(document, &trust))
		require.Len(t, trust.Statement, 1)
		assert.Equal(t, "sts:AssumeRole", trust.Statement[0].Action)
		assert.Equal(t, map[string][]string{"Service": {"fc.aliyuncs.com"}}, trust.Statement[0].Principal)
	})
	t.Run("names the queues of s.yaml", func(t *testing.T) {
		content, err := os.ReadFile("../s.yaml")
		require.NoError(t, err)
		vars := readYAML(t, string(content)).Vars
		queues := []string{vars["resultQueue"], vars["deadLetterQueue"]}
		slices.Sort(queues)
		assert.Equal(t, []string{harness.DeadLetterQueue, harness.ResultQueue}, queues)
	})
}
