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
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
)

// deployment is what the tests look at in s.yaml. Whether its names and types are
// those of the services is checked by .ci/deploy.
type deployment struct {
	Vars      map[string]string
	Actions   map[string][]struct{ Run string }
	Flow      map[string][][]string
	Resources struct {
		Resources struct {
			Props struct {
				Template struct {
					Resources map[string]rosResource `yaml:"Resources"`
				}
			}
		}
		Function struct {
			Props functionProps
		}
	}
}

type rosResource struct {
	Type       string         `yaml:"Type"`
	Properties map[string]any `yaml:"Properties"`
}

type functionProps struct {
	Region               string
	Handler              string
	Code                 string
	Timeout              int
	Role                 string
	EnvironmentVariables map[string]string                  `yaml:"environmentVariables"`
	LogConfig            struct{ Project, Logstore string } `yaml:"logConfig"`
	AsyncInvokeConfig    struct {
		Qualifier                 string
		MaxAsyncRetryAttempts     *int `yaml:"maxAsyncRetryAttempts"`
		MaxAsyncEventAgeInSeconds int  `yaml:"maxAsyncEventAgeInSeconds"`
	} `yaml:"asyncInvokeConfig"`
	Triggers []trigger
}

type trigger struct {
	TriggerName   string `yaml:"triggerName"`
	TriggerType   string `yaml:"triggerType"`
	Qualifier     string
	TriggerConfig struct {
		// Of a timer.
		Enable         bool
		CronExpression string `yaml:"cronExpression"`
		Payload        string
		// Of an event stream.
		TriggerEnable       bool  `yaml:"triggerEnable"`
		AsyncInvocationType *bool `yaml:"asyncInvocationType"`
		EventSourceConfig   struct {
			EventSourceParameters struct {
				SourceMNSParameters struct {
					RegionID       string `yaml:"RegionId"`
					QueueName      string `yaml:"QueueName"`
					IsBase64Decode *bool  `yaml:"IsBase64Decode"`
				} `yaml:"sourceMNSParameters"`
			} `yaml:"eventSourceParameters"`
		} `yaml:"eventSourceConfig"`
		RunOptions struct {
			Mode            string
			ErrorsTolerance string `yaml:"errorsTolerance"`
			RetryStrategy   struct {
				PushRetryStrategy string `yaml:"PushRetryStrategy"`
			} `yaml:"retryStrategy"`
			DeadLetterQueue struct {
				Arn string `yaml:"Arn"`
			} `yaml:"deadLetterQueue"`
		} `yaml:"runOptions"`
	} `yaml:"triggerConfig"`
}

func readDeployment(t *testing.T) deployment {
	t.Helper()
	text, err := os.ReadFile("../s.yaml")
	require.NoError(t, err)
	return parseDeployment(t, string(text))
}

func parseDeployment(t *testing.T, text string) deployment {
	t.Helper()
	rendered, err := harness.ParseDeployment([]byte(text))
	require.NoError(t, err)
	var d deployment
	require.NoError(t, rendered.Decode(&d))
	return d
}

// stream and timer return the function's two triggers.
func (d deployment) stream(t *testing.T) trigger { return d.trigger(t, "eventbridge") }
func (d deployment) timer(t *testing.T) trigger  { return d.trigger(t, "timer") }

func (d deployment) trigger(t *testing.T, kind string) trigger {
	t.Helper()
	triggers := d.Resources.Function.Props.Triggers
	i := slices.IndexFunc(triggers, func(one trigger) bool { return one.TriggerType == kind })
	require.GreaterOrEqual(t, i, 0, kind)
	return triggers[i]
}

// tryStart starts the executable as Function Compute would, and returns "" once it
// asks for work, or why it ended before.
func tryStart(t *testing.T, settings map[string]string) (failure string) {
	t.Helper()
	cloud, err := harness.NewCloud()
	require.NoError(t, err)
	defer cloud.Close()
	environment := cloud.Environment(nil)
	for _, name := range []string{"RESULT_QUEUE", "DEAD_LETTER_QUEUE", "SOURCE_QUEUE", "MNS_ENDPOINT", "DBS_ENDPOINT"} {
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
		return ""
	case <-ended:
		return command.ProcessState.String() + ": " + text.String()
	}
}

// The default of each of these settings loses messages, or keeps them for a shorter
// time than the guide says.
func TestDeployment_LosesNoMessage(t *testing.T) {
	d := readDeployment(t)
	stream := d.stream(t).TriggerConfig
	require.NotNil(t, stream.AsyncInvocationType)
	assert.False(t, *stream.AsyncInvocationType, "a message is taken as delivered before the function has run")
	require.NotNil(t, stream.EventSourceConfig.EventSourceParameters.SourceMNSParameters.IsBase64Decode)
	assert.False(t, *stream.EventSourceConfig.EventSourceParameters.SourceMNSParameters.IsBase64Decode,
		"a dead letter is not the original")
	assert.Equal(t, "event-streaming", stream.RunOptions.Mode)
	assert.Equal(t, "ALL", stream.RunOptions.ErrorsTolerance, "one batch stops the stream")
	assert.Equal(t, "EXPONENTIAL_DECAY_RETRY", stream.RunOptions.RetryStrategy.PushRetryStrategy, "three deliveries")
	for name, resource := range d.Resources.Resources.Props.Template.Resources {
		if resource.Type == "ALIYUN::MNS::Queue" {
			// The longest there is: https://www.alibabacloud.com/help/en/ros/developer-reference/aliyun-mns-queue
			assert.EqualValues(t, 604800, resource.Properties["MessageRetentionPeriod"], name)
		}
	}
	assert.LessOrEqual(t, d.Resources.Function.Props.Timeout, 300, "the trigger waits no longer for an answer")
}

// The function stands on queues, role and log: it is made after them and removed before
// them. The alarms come last, so that one that is refused stops nothing else. The verbs
// for the function alone run it alone.
func TestDeployment_MakesWhatIsNeededFirst(t *testing.T) {
	assert.Equal(t, map[string][][]string{
		"deploy": {{"resources"}, {"function"}, {"alarms"}}, "remove": {{"alarms"}, {"function"}, {"resources"}},
		"invoke": {{"function"}}, "logs": {{"function"}},
	}, readDeployment(t).Flow)
}

// The component leaves its loop over the triggers at the first event stream that is
// unchanged: a timer after it would never be updated.
func TestDeployment_TheTimerStandsBeforeTheEventStream(t *testing.T) {
	var kinds []string
	for _, one := range readDeployment(t).Resources.Function.Props.Triggers {
		kinds = append(kinds, one.TriggerType)
	}
	assert.Equal(t, []string{"timer", "eventbridge"}, kinds)
}

// A run of discovery is never repeated, and none is started when the next one is due.
func TestDeployment_RunsOfDiscoveryDoNotPileUp(t *testing.T) {
	d := readDeployment(t)
	timer, async := d.timer(t), d.Resources.Function.Props.AsyncInvokeConfig
	every, ok := strings.CutPrefix(timer.TriggerConfig.CronExpression, "@every ")
	require.True(t, ok, timer.TriggerConfig.CronExpression)
	interval, err := time.ParseDuration(every)
	require.NoError(t, err)
	assert.Greater(t, interval, time.Duration(d.Resources.Function.Props.Timeout)*time.Second)
	assert.Equal(t, timer.Qualifier, async.Qualifier)
	require.NotNil(t, async.MaxAsyncRetryAttempts)
	assert.Zero(t, *async.MaxAsyncRetryAttempts)
	assert.Positive(t, async.MaxAsyncEventAgeInSeconds)
	assert.Less(t, time.Duration(async.MaxAsyncEventAgeInSeconds)*time.Second, interval)
}

// The function starts with its settings, and each name among them is a setting.
func TestDeployment_TheFunctionStartsWithItsSettings(t *testing.T) {
	settings := readDeployment(t).Resources.Function.Props.EnvironmentVariables
	assert.Empty(t, tryStart(t, settings))
	_, usage := run(t, nil, "-h")
	for name := range settings {
		assert.Contains(t, usage, "\n  "+name+" ")
	}
}

func TestDeployment_TheStandInsHaveItsNames(t *testing.T) {
	vars := readDeployment(t).Vars
	for name, value := range map[string]string{
		"region": harness.Region, "functionName": harness.FunctionName,
		"sourceQueue": harness.SourceQueue, "resultQueue": harness.ResultQueue, "deadLetterQueue": harness.DeadLetterQueue,
	} {
		assert.Equal(t, value, vars[name], name)
	}
}

// Queues, role, log and region have one name each in all places, whatever it is.
func TestDeployment_FollowsItsVars(t *testing.T) {
	content, err := os.ReadFile("../s.yaml")
	require.NoError(t, err)
	text := string(content)
	for old, other := range map[string]string{
		"region: cn-hangzhou":                            "region: ap-southeast-1",
		"functionName: increment-backup-download":        "functionName: binlogs",
		"backupPlanIds: ''":                              "backupPlanIds: dbsqdss5tmh0001,dbsqdss5tmh0002",
		"lookbackHours: '72'":                            "lookbackHours: '720'",
		"concurrency: '16'":                              "concurrency: '4'",
		"sourceQueue: backup-events":                     "sourceQueue: one",
		"resultQueue: increment-backup-results":          "resultQueue: two",
		"deadLetterQueue: increment-backup-dead-letters": "deadLetterQueue: three",
	} {
		require.Equal(t, 1, strings.Count(text, "  "+old), old)
		text = strings.Replace(text, "  "+old, "  "+other, 1)
	}
	d := parseDeployment(t, text)
	made, props := d.Resources.Resources.Props.Template.Resources, d.Resources.Function.Props
	for name, places := range map[string][]any{
		"one": {
			made["SourceQueue"].Properties["QueueName"], props.EnvironmentVariables["SOURCE_QUEUE"],
			d.stream(t).TriggerConfig.EventSourceConfig.EventSourceParameters.SourceMNSParameters.QueueName,
		},
		"two": {made["ResultQueue"].Properties["QueueName"], props.EnvironmentVariables["RESULT_QUEUE"]},
		"three": {
			made["DeadLetterQueue"].Properties["QueueName"], props.EnvironmentVariables["DEAD_LETTER_QUEUE"],
			strings.TrimPrefix(d.stream(t).TriggerConfig.RunOptions.DeadLetterQueue.Arn,
				"acs:mns:ap-southeast-1:${config('AccountID')}:/queues/"),
		},
		"binlogs": {made["Role"].Properties["RoleName"], props.Role},
		"binlogs-${config('AccountID')}": {
			made["LogProject"].Properties["Name"], made["Logstore"].Properties["ProjectName"],
			made["LogIndex"].Properties["ProjectName"], props.LogConfig.Project,
		},
		"function": {
			made["Logstore"].Properties["LogstoreName"], made["LogIndex"].Properties["LogstoreName"], props.LogConfig.Logstore,
		},
		"ap-southeast-1": {
			props.Region, d.stream(t).TriggerConfig.EventSourceConfig.EventSourceParameters.SourceMNSParameters.RegionID,
		},
		"dbsqdss5tmh0001,dbsqdss5tmh0002": {props.EnvironmentVariables["BACKUP_PLAN_IDS"]},
		"720":                             {props.EnvironmentVariables["LOOKBACK_HOURS"]},
		"4":                               {props.EnvironmentVariables["CONCURRENCY"]},
	} {
		for _, place := range places {
			assert.Equal(t, name, place)
		}
	}
	_, settings, found := strings.Cut(text, "resources:\n  resources:")
	require.True(t, found)
	assert.NotRegexp(t, `cn-hangzhou|increment-backup-|\b\d{16}\b|LTAI`, settings, "a name that does not follow the vars, or an account")
}

// Each change of the guide is one line of s.yaml, and changes what it says.
func TestDeployment_TheGuideChangesIt(t *testing.T) {
	content, err := os.ReadFile("../s.yaml")
	require.NoError(t, err)
	before := string(content)
	effects := map[string]func(deployment) string{
		"backupPlanIds": func(d deployment) string { return d.Resources.Function.Props.EnvironmentVariables["BACKUP_PLAN_IDS"] },
		"lookbackHours": func(d deployment) string { return d.Resources.Function.Props.EnvironmentVariables["LOOKBACK_HOURS"] },
		"concurrency":   func(d deployment) string { return d.Resources.Function.Props.EnvironmentVariables["CONCURRENCY"] },
		"cronExpression": func(d deployment) string {
			return strings.TrimPrefix(d.timer(t).TriggerConfig.CronExpression, "@every ")
		},
		"enable":        func(d deployment) string { return strconv.FormatBool(d.timer(t).TriggerConfig.Enable) },
		"triggerEnable": func(d deployment) string { return strconv.FormatBool(d.stream(t).TriggerConfig.TriggerEnable) },
	}
	changes := regexp.MustCompile("(?m)^\\| [^|]+ \\| `([^`]+)` → `([^`]+)`").FindAllStringSubmatch(readPage(t, "docs/operations.md"), -1)
	require.NotEmpty(t, changes)
	for _, change := range changes {
		t.Run(change[2], func(t *testing.T) {
			require.Equal(t, 1, strings.Count(before, " "+change[1]+"\n"))
			name, value, _ := strings.Cut(change[2], ": ")
			require.Contains(t, effects, name)
			changed := parseDeployment(t, strings.Replace(before, " "+change[1]+"\n", " "+change[2]+"\n", 1))
			assert.Equal(t, strings.TrimPrefix(strings.Trim(value, "'"), "@every "), effects[name](changed))
			assert.Empty(t, tryStart(t, changed.Resources.Function.Props.EnvironmentVariables))
		})
	}
}

// The pre-deploy action is run as it stands, in a copy of the folder.
func TestDeployment_ThePreDeployActionBuildsAStaticExecutable(t *testing.T) {
	d := readDeployment(t)
	folder := t.TempDir()
	root, err := harness.Root()
	require.NoError(t, err)
	for _, name := range []string{"go.mod", "go.sum", "bootstrap", "function", "handler", "events"} {
		require.NoError(t, os.Symlink(filepath.Join(root, name), filepath.Join(folder, name)))
	}
	command := exec.CommandContext(t.Context(), "sh", "-c", d.Actions["pre-deploy"][0].Run)
	command.Dir = folder
	output, err := command.CombinedOutput()
	require.NoError(t, err, string(output))
	file, err := elf.Open(filepath.Join(folder, d.Resources.Function.Props.Code, d.Resources.Function.Props.Handler))
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

// The function takes the timer's event with the payload of s.yaml; without plans it
// does nothing. A slip in the payload fails.
func TestDeployment_TheTimersPayloadIsOneThatTheFunctionAccepts(t *testing.T) {
	d := readDeployment(t)
	cloud, _ := deploy(t, d.Resources.Function.Props.EnvironmentVariables)
	timer := d.timer(t)
	fire := func(payload string) error {
		event, err := json.Marshal(map[string]string{
			"triggerTime": "2026-11-23T09:00:00Z", "triggerName": timer.TriggerName, "payload": payload,
		})
		require.NoError(t, err)
		_, err = cloud.Invoke(t.Context(), event)
		return err
	}
	require.NoError(t, fire(timer.TriggerConfig.Payload))
	assert.Empty(t, cloud.MNS.Messages(harness.SourceQueue))
	for _, slip := range []string{`{"Discovery":{}}`, `{"Discover":{"LookbackDays":3}}`, "every plan"} {
		failure(t, fire(slip), "EventError")
	}
}
