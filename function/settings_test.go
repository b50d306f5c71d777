package function_test

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/function"
	"increment-backup-download/handler"
)

// environment returns a getenv over the variables of a deployment and the given
// ones, which go before; NAME= unsets one.
func environment(changes ...string) func(string) string {
	variables := map[string]string{
		"FC_RUNTIME_API": "127.0.0.1:1", "FC_REGION": "cn-shanghai", "FC_ACCOUNT_ID": "1234567890123456",
		"FC_FUNCTION_NAME": "increment-backup-download", "RESULT_QUEUE": "results", "DEAD_LETTER_QUEUE": "dead-letters",
	}
	for _, change := range changes {
		name, value, _ := strings.Cut(change, "=")
		variables[name] = value
	}
	return func(name string) string { return variables[name] }
}

// targets reads the endpoints and queues that an environment leads to.
func targets(t *testing.T, changes ...string) handler.Targets {
	t.Helper()
	h, err := function.Assemble(environment(changes...), io.Discard)
	require.NoError(t, err)
	summary, err := h.Handle(context.Background(), "", []byte(`{"BackupSetId":"a","BackupSetName":"b","DryRun":true}`))
	require.NoError(t, err)
	return summary.DryRun.Targets
}

func TestSettings_Defaults(t *testing.T) {
	assert.Equal(t, handler.Targets{
		DBSEndpoint:     "https://dbs-api.cn-hangzhou.aliyuncs.com",
		MNSEndpoint:     "https://1234567890123456.mns.cn-shanghai.aliyuncs.com",
		ResultQueue:     "results",
		DeadLetterQueue: "dead-letters",
	}, targets(t))
	for region, host := range map[string]string{
		"cn-hangzhou": "dbs-api.cn-hangzhou.aliyuncs.com", "us-east-1": "dbs-api.cn-hangzhou.aliyuncs.com",
		"cn-shenzhen-finance-1": "dbs-api.cn-hangzhou.aliyuncs.com",
		"cn-zhangjiakou":        "dbs-api.cn-zhangjiakou.aliyuncs.com", "eu-central-1": "dbs-api.eu-central-1.aliyuncs.com",
	} {
		assert.Equal(t, "https://"+host, targets(t, "FC_REGION="+region).DBSEndpoint)
	}
}

func TestSettings_Accepted(t *testing.T) {
	got := targets(t, "MNS_ENDPOINT=http://127.0.0.1:8080/mns.local/", "DBS_ENDPOINT=http://localhost:8081",
		"BACKUP_SET_DATA_FORMAT=CSV", "CONCURRENCY=64", "MAX_REQUESTS_PER_SECOND=50", "RESULT_ENCODING=base64", "LOG_LEVEL=debug")
	assert.Equal(t, "http://127.0.0.1:8080/mns.local", got.MNSEndpoint)
	assert.Equal(t, "http://localhost:8081", got.DBSEndpoint)
	assert.Equal(t, "http://[::1]:9", targets(t, "DBS_ENDPOINT=http://[::1]:9").DBSEndpoint)
	assert.Equal(t, "https://mns", targets(t, "MNS_ENDPOINT=https://mns", "FC_ACCOUNT_ID=").MNSEndpoint)
}

func TestSettings_NamesEverythingThatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		environment []string
		says        []string
	}{
		"no queue":               {[]string{"RESULT_QUEUE="}, []string{"RESULT_QUEUE is not set"}},
		"no dead-letter queue":   {[]string{"DEAD_LETTER_QUEUE="}, []string{"DEAD_LETTER_QUEUE is not set"}},
		"one queue for both":     {[]string{"DEAD_LETTER_QUEUE=results"}, []string{"two different queues"}},
		"a path as a queue":      {[]string{"RESULT_QUEUE=../x"}, []string{`RESULT_QUEUE is "../x"`}},
		"http to another host":   {[]string{"MNS_ENDPOINT=http://mns.example.com"}, []string{"MNS_ENDPOINT", "loopback"}},
		"http to a name like it": {[]string{"DBS_ENDPOINT=http://127.0.0.1.example.com"}, []string{"DBS_ENDPOINT", "loopback"}},
		"no scheme":              {[]string{"DBS_ENDPOINT=dbs-api.cn-hangzhou.aliyuncs.com"}, []string{"DBS_ENDPOINT", "give a URL"}},
		"another scheme":         {[]string{"DBS_ENDPOINT=ftp://x"}, []string{"DBS_ENDPOINT", "give a URL"}},
		"no URL":                 {[]string{"MNS_ENDPOINT=https://%zz"}, []string{"MNS_ENDPOINT", "give a URL"}},
		"no host":                {[]string{"MNS_ENDPOINT=https://:443"}, []string{"MNS_ENDPOINT", "give a URL"}},
		"a query":                {[]string{"MNS_ENDPOINT=https://x?y=z"}, []string{"without user, query and fragment"}},
		"an empty query":         {[]string{"MNS_ENDPOINT=https://x?"}, []string{"without user, query and fragment"}},
		"a path for DBS":         {[]string{"DBS_ENDPOINT=https://x/y"}, []string{"without a path"}},
		"format":                 {[]string{"BACKUP_SET_DATA_FORMAT=XML"}, []string{`BACKUP_SET_DATA_FORMAT is "XML": give one of Native, SQL, CSV, JSON`}},
		"zero concurrency":       {[]string{"CONCURRENCY=0"}, []string{`CONCURRENCY is "0": give a whole number from 1 to 256`}},
		"words for a number":     {[]string{"CONCURRENCY=many"}, []string{`CONCURRENCY is "many"`}},
		"negative rate":          {[]string{"MAX_REQUESTS_PER_SECOND=-1"}, []string{"MAX_REQUESTS_PER_SECOND"}},
		"encoding":               {[]string{"RESULT_ENCODING=hex"}, []string{"raw, base64"}},
		"log level":              {[]string{"LOG_LEVEL=loud"}, []string{"debug, info, warn, error"}},
		"no region":              {[]string{"FC_REGION="}, []string{"MNS_ENDPOINT", "DBS_ENDPOINT", "FC_REGION"}},
		"an SDK's debug output":  {[]string{"DEBUG=x,dara"}, []string{`DEBUG names "dara"`}},
		"all at once": {[]string{"RESULT_QUEUE=", "DEAD_LETTER_QUEUE=", "MNS_ENDPOINT=http://x", "DBS_ENDPOINT=x", "BACKUP_SET_DATA_FORMAT=x", "CONCURRENCY=0", "RESULT_ENCODING=x", "LOG_LEVEL=x", "MAX_REQUESTS_PER_SECOND=x"},
			[]string{"RESULT_QUEUE", "DEAD_LETTER_QUEUE", "MNS_ENDPOINT", "DBS_ENDPOINT", "BACKUP_SET_DATA_FORMAT", "CONCURRENCY", "RESULT_ENCODING", "LOG_LEVEL", "MAX_REQUESTS_PER_SECOND"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := function.Run(environment(c.environment...), io.Discard)
			var wrong *function.SettingsError
			require.ErrorAs(t, err, &wrong)
			for _, text := range c.says {
				assert.Contains(t, err.Error(), text)
			}
			if name != "all at once" && name != "no region" {
				assert.Equal(t, 1, strings.Count(err.Error(), "\n"), err.Error())
			}
		})
	}
	t.Run("and tells no password", func(t *testing.T) {
		err := function.Run(environment("MNS_ENDPOINT=htt://user:hunter2@x", "DBS_ENDPOINT=https://user:hunter2@x"), io.Discard)
		assert.NotContains(t, err.Error(), "hunter2")
	})
}

func TestLimitMemory_FollowsTheInstance(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	function.LimitMemory(0)
	assert.Equal(t, before, debug.SetMemoryLimit(-1))
	function.LimitMemory(128)
	limit := debug.SetMemoryLimit(-1)
	assert.Less(t, limit, int64(128<<20))
	assert.Greater(t, limit, int64(100<<20))
}

func TestRun_OutsideFunctionComputeSaysWhatItIs(t *testing.T) {
	err := function.Run(environment("FC_RUNTIME_API="), io.Discard)
	require.ErrorIs(t, err, function.ErrOutsideFC)
	assert.Contains(t, err.Error(), "go run ./tests/local")
}

func TestAccessKey_PrintsNoSecret(t *testing.T) {
	key := function.NewAccessKey("id", "hush-secret", "hush-token")
	nested := struct{ key *function.AccessKey }{key}
	for _, text := range []string{fmt.Sprint(key), fmt.Sprintf("%v %+v %#v %s", key, key, key, key), fmt.Sprintf("%v %+v %#v", *key, *key, *key),
		fmt.Sprintf("%v %+v %#v", nested, nested, nested), fmt.Sprintf("%v %+v", function.NewDBS("https://x", 1, key), function.NewQueue("https://x", "q", key))} {
		assert.NotContains(t, text, "hush")
	}
}
