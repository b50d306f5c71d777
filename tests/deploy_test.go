package tests_test

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
)

// deployment is s.yaml: every key that it may have.
type deployment struct {
	Edition, Name, Access string
	Validation            bool
	Vars                  map[string]string
	Actions               map[string][]struct{ Run, Path string }
	Flow                  map[string][][]string
	Resources             struct {
		Resources struct {
			Component string
			Props     struct {
				Region, Name string
				Template     rosTemplate
			}
		}
		Function struct {
			Component string
			Props     functionProps
		}
	}
}

type rosTemplate struct {
	FormatVersion string `yaml:"ROSTemplateFormatVersion"`
	Description   string `yaml:"Description"`
	Resources     struct {
		SourceQueue     rosQueue `yaml:"SourceQueue"`
		ResultQueue     rosQueue `yaml:"ResultQueue"`
		DeadLetterQueue rosQueue `yaml:"DeadLetterQueue"`
		Role            struct {
			Type       string `yaml:"Type"`
			Properties struct {
				RoleName      string `yaml:"RoleName"`
				Description   string `yaml:"Description"`
				DeletionForce bool   `yaml:"DeletionForce"`
				Trust         any    `yaml:"AssumeRolePolicyDocument"`
				Policies      []struct {
					PolicyName     string         `yaml:"PolicyName"`
					PolicyDocument map[string]any `yaml:"PolicyDocument"`
				} `yaml:"Policies"`
			} `yaml:"Properties"`
		} `yaml:"Role"`
	} `yaml:"Resources"`
}

type rosQueue struct {
	Type       string `yaml:"Type"`
	Properties struct {
		QueueName              string `yaml:"QueueName"`
		MessageRetentionPeriod int    `yaml:"MessageRetentionPeriod"`
	} `yaml:"Properties"`
}

type functionProps struct {
	Region               string
	FunctionName         string `yaml:"functionName"`
	Description          string
	Runtime              string
	Handler              string
	Code                 string
	CPU                  float64
	MemorySize           int `yaml:"memorySize"`
	DiskSize             int `yaml:"diskSize"`
	Timeout              int
	InstanceConcurrency  int  `yaml:"instanceConcurrency"`
	InternetAccess       bool `yaml:"internetAccess"`
	Role                 string
	EnvironmentVariables map[string]any `yaml:"environmentVariables"`
	LogConfig            any            `yaml:"logConfig"`
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
	Description   string
	Qualifier     string
	TriggerConfig struct {
		// Of a timer.
		Enable         bool
		CronExpression string `yaml:"cronExpression"`
		Payload        string
		// Of an event stream.
		TriggerEnable          bool   `yaml:"triggerEnable"`
		AsyncInvocationType    *bool  `yaml:"asyncInvocationType"`
		EventRuleFilterPattern string `yaml:"eventRuleFilterPattern"`
		EventSourceConfig      struct {
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

func readDeployment(t *testing.T) deployment {
	t.Helper()
	rendered, err := harness.ReadDeployment()
	require.NoError(t, err)
	var d deployment
	require.NoError(t, rendered.DecodeWhole(&d))
	return d
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

func TestDeployment_LosesNothingAndStarts(t *testing.T) {
	text, err := os.ReadFile("../s.yaml")
	require.NoError(t, err)
	assert.Empty(t, check(t, string(text)))
}

func TestDeployment_TheStandInsHaveItsNames(t *testing.T) {
	assert.Equal(t, map[string]string{
		"region": harness.Region, "functionName": harness.FunctionName, "backupPlanIds": "",
		"sourceQueue": harness.SourceQueue, "resultQueue": harness.ResultQueue, "deadLetterQueue": harness.DeadLetterQueue,
	}, readDeployment(t).Vars)
}

// Other values of the vars reach all places that they are meant for.
func TestDeployment_FollowsItsVars(t *testing.T) {
	content, err := os.ReadFile("../s.yaml")
	require.NoError(t, err)
	text := string(content)
	for old, other := range map[string]string{
		"region: cn-hangzhou":                            "region: ap-southeast-1",
		"functionName: increment-backup-download":        "functionName: binlogs",
		"backupPlanIds: ''":                              "backupPlanIds: dbsqdss5tmh0001,dbsqdss5tmh0002",
		"sourceQueue: backup-events":                     "sourceQueue: one",
		"resultQueue: increment-backup-results":          "resultQueue: two",
		"deadLetterQueue: increment-backup-dead-letters": "deadLetterQueue: three",
	} {
		require.Equal(t, 1, strings.Count(text, "  "+old), old)
		text = strings.Replace(text, "  "+old, "  "+other, 1)
	}
	assert.Empty(t, check(t, text))
	_, settings, found := strings.Cut(text, "resources:\n  resources:")
	require.True(t, found)
	for _, fixed := range []string{"cn-hangzhou", "increment-backup-", ": backup-events\n              MessageRetention"} {
		assert.NotContains(t, settings, fixed, "a name that does not follow the vars")
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
	settings := make(map[string]string)
	for name, value := range d.Resources.Function.Props.EnvironmentVariables {
		settings[name] = value.(string)
	}
	cloud, _ := deploy(t, settings)
	timer := d.Resources.Function.Props.Triggers[1]
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
