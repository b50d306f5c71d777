package function_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/function"
	"increment-backup-download/handler"
	"increment-backup-download/tests/standin"
)

// environment returns the variables of a deployment with the given changes; NAME=
// unsets one.
func environment(changes ...string) (environ []string) {
	variables := map[string]string{
		"FC_RUNTIME_API": "127.0.0.1:1", "FC_REGION": "cn-shanghai", "FC_ACCOUNT_ID": "1234567890123456",
		"FC_FUNCTION_NAME": "increment-backup-download", "RESULT_QUEUE": "results", "DEAD_LETTER_QUEUE": "dead-letters",
	}
	for _, change := range changes {
		name, value, _ := strings.Cut(change, "=")
		variables[name] = value
	}
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		if variables[name] != "" {
			environ = append(environ, name+"="+variables[name])
		}
	}
	return environ
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
		"cn-hangzhou":           "dbs-api.cn-hangzhou.aliyuncs.com",
		"us-east-1":             "dbs-api.cn-hangzhou.aliyuncs.com",
		"cn-shenzhen-finance-1": "dbs-api.cn-hangzhou.aliyuncs.com",
		"cn-zhangjiakou":        "dbs-api.cn-zhangjiakou.aliyuncs.com",
		"eu-central-1":          "dbs-api.eu-central-1.aliyuncs.com",
	} {
		assert.Equal(t, "https://"+host, targets(t, "FC_REGION="+region).DBSEndpoint)
	}
}

func TestSettings_Accepted(t *testing.T) {
	got := targets(t, "MNS_ENDPOINT=http://127.0.0.1:8080/mns.local/", "DBS_ENDPOINT=http://localhost:8081",
		"BACKUP_SET_DATA_FORMAT=CSV", "CONCURRENCY=64", "MAX_REQUESTS_PER_SECOND=50", "RESULT_ENCODING=base64",
		"LOG_LEVEL=debug")
	assert.Equal(t, "http://127.0.0.1:8080/mns.local", got.MNSEndpoint)
	assert.Equal(t, "http://localhost:8081", got.DBSEndpoint)
	assert.Equal(t, "http://[::1]:9", targets(t, "DBS_ENDPOINT=http://[::1]:9").DBSEndpoint)
	for _, private := range []string{"http://1234567890123456.mns.cn-hangzhou-internal.aliyuncs.com",
		"http://1234567890123456.mns.cn-hangzhou-internal-vpc.aliyuncs.com"} {
		assert.Equal(t, private, targets(t, "MNS_ENDPOINT="+private).MNSEndpoint)
	}
	assert.Equal(t, "https://mns", targets(t, "MNS_ENDPOINT=https://mns", "FC_ACCOUNT_ID=").MNSEndpoint)
}

func TestSettings_Discovery(t *testing.T) {
	plan, queue := strings.Repeat("x", 128), strings.Repeat("q", 120)
	for name, c := range map[string]struct {
		environment []string
		want        function.Discovery
	}{
		"none": {nil, function.Discovery{LookbackHours: 72}},
		"one plan": {[]string{"BACKUP_PLAN_IDS=dbsqdss5tmh0001", "SOURCE_QUEUE=events"},
			function.Discovery{[]string{"dbsqdss5tmh0001"}, "events", 72}},
		"two, and space": {[]string{"BACKUP_PLAN_IDS= a-1 ,\tB_2 ", "SOURCE_QUEUE=events"},
			function.Discovery{[]string{"a-1", "B_2"}, "events", 72}},
		"all":                                    {[]string{"BACKUP_PLAN_IDS=all", "SOURCE_QUEUE=events"}, function.Discovery{[]string{"all"}, "events", 72}},
		"all, loose":                             {[]string{"BACKUP_PLAN_IDS= ALL ", "SOURCE_QUEUE=events"}, function.Discovery{[]string{"all"}, "events", 72}},
		"the queue alone, for discovery by hand": {[]string{"SOURCE_QUEUE=events"}, function.Discovery{nil, "events", 72}},
		"the longest": {[]string{"BACKUP_PLAN_IDS=" + plan, "SOURCE_QUEUE=" + queue, "LOOKBACK_HOURS=43800"},
			function.Discovery{[]string{plan}, queue, 43800}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := function.ReadDiscovery(environment(c.environment...))
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
}

func TestSettings_NamesEverythingThatIsWrong(t *testing.T) {
	plans := func(ids string, more ...string) []string {
		return append([]string{"BACKUP_PLAN_IDS=" + ids, "SOURCE_QUEUE=events"}, more...)
	}
	for name, c := range map[string]struct {
		environment []string
		mistakes    []string // each a line of its own
	}{
		"no queue":                   {[]string{"RESULT_QUEUE="}, []string{"RESULT_QUEUE is not set"}},
		"no dead-letter queue":       {[]string{"DEAD_LETTER_QUEUE="}, []string{"DEAD_LETTER_QUEUE is not set"}},
		"one queue for both":         {[]string{"DEAD_LETTER_QUEUE=results"}, []string{"two different queues"}},
		"a path as a queue":          {[]string{"RESULT_QUEUE=../x"}, []string{`RESULT_QUEUE is "../x"`}},
		"a queue name too long":      {[]string{"RESULT_QUEUE=" + strings.Repeat("q", 121)}, []string{"at most 120 letters"}},
		"http to another host":       {[]string{"MNS_ENDPOINT=http://mns.example.com"}, []string{"http:// is for loopback"}},
		"http to a name like it":     {[]string{"DBS_ENDPOINT=http://127.0.0.1.example.com"}, []string{"http:// is for loopback"}},
		"http to MNS in public":      {[]string{"MNS_ENDPOINT=http://1.mns.cn-hangzhou.aliyuncs.com"}, []string{"http:// is for loopback"}},
		"http to the VPC, in public": {[]string{"MNS_ENDPOINT=http://1.mns.cn-hangzhou-vpc.aliyuncs.com"}, []string{"http:// is for loopback"}},
		"http to another service":    {[]string{"MNS_ENDPOINT=http://1.oss.cn-hangzhou-internal.aliyuncs.com"}, []string{"http:// is for loopback"}},
		"http to another domain":     {[]string{"MNS_ENDPOINT=http://1.mns.cn-hangzhou-internal.aliyuncs.com.example.com"}, []string{"http:// is for loopback"}},
		"http to a host in a region": {[]string{"MNS_ENDPOINT=http://1.mns.evil.cn-hangzhou-internal.aliyuncs.com"}, []string{"http:// is for loopback"}},
		"http to a name like one":    {[]string{"MNS_ENDPOINT=http://1.mns.cn-hangzhou-internal"}, []string{"http:// is for loopback"}},
		"http to no account":         {[]string{"MNS_ENDPOINT=http://.mns.cn-hangzhou-internal.aliyuncs.com"}, []string{"http:// is for loopback"}},
		"http to no region":          {[]string{"MNS_ENDPOINT=http://1.mns.-internal.aliyuncs.com"}, []string{"http:// is for loopback"}},
		"http to DBS, internal":      {[]string{"DBS_ENDPOINT=http://1.mns.cn-hangzhou-internal.aliyuncs.com"}, []string{"http:// is for loopback"}},
		"no scheme":                  {[]string{"DBS_ENDPOINT=dbs-api.cn-hangzhou.aliyuncs.com"}, []string{"must be a URL such as"}},
		"another scheme":             {[]string{"DBS_ENDPOINT=ftp://x"}, []string{"must be a URL such as"}},
		"no URL":                     {[]string{"MNS_ENDPOINT=https://%zz"}, []string{"must be a URL such as"}},
		"a colon and no port":        {[]string{"DBS_ENDPOINT=https://host:"}, []string{"must be a URL such as"}},
		"a host in Unicode":          {[]string{"DBS_ENDPOINT=https://bücher.example.com"}, []string{"must be a URL such as"}},
		"a space after it":           {[]string{"MNS_ENDPOINT=https://1.mns.cn-hangzhou.aliyuncs.com/ "}, []string{"must be a URL such as"}},
		"no host":                    {[]string{"MNS_ENDPOINT=https://:443"}, []string{"must be a URL such as"}},
		"a query":                    {[]string{"MNS_ENDPOINT=https://x?y=z"}, []string{"without user, query and fragment"}},
		"an empty query":             {[]string{"MNS_ENDPOINT=https://x?"}, []string{"without user, query and fragment"}},
		"a path for DBS":             {[]string{"DBS_ENDPOINT=https://x/y"}, []string{"without a path"}},
		"format":                     {[]string{"BACKUP_SET_DATA_FORMAT=XML"}, []string{`is "XML": give one of Native, SQL, CSV, JSON`}},
		"zero concurrency":           {[]string{"CONCURRENCY=0"}, []string{`"0": give a whole number from 1 to 256`}},
		"words for a number":         {[]string{"CONCURRENCY=many"}, []string{`CONCURRENCY is "many"`}},
		"negative rate":              {[]string{"MAX_REQUESTS_PER_SECOND=-1"}, []string{"MAX_REQUESTS_PER_SECOND"}},
		"encoding":                   {[]string{"RESULT_ENCODING=hex"}, []string{"raw, base64"}},
		"log level":                  {[]string{"LOG_LEVEL=loud"}, []string{"debug, info, warn, error"}},
		"no region":                  {[]string{"FC_REGION="}, []string{"MNS_ENDPOINT is not set, and its default", "DBS_ENDPOINT is not"}},
		"an SDK's debug output":      {[]string{"DEBUG=x,dara"}, []string{`DEBUG names "dara"`}},

		"plans without a queue":      {[]string{"BACKUP_PLAN_IDS=a"}, []string{"SOURCE_QUEUE is not set"}},
		"results come back":          {plans("a", "SOURCE_QUEUE=results"), []string{"results would come back as events"}},
		"dead letters come back":     {plans("a", "SOURCE_QUEUE=dead-letters"), []string{"results would come back as events"}},
		"so too without plans":       {[]string{"SOURCE_QUEUE=results"}, []string{"results would come back as events"}},
		"a wrong source queue":       {plans("a", "SOURCE_QUEUE=a/b"), []string{`SOURCE_QUEUE is "a/b"`}},
		"an empty plan":              {plans("a,,b"), []string{"BACKUP_PLAN_IDS has \"\": an ID has 1 to 128 letters"}},
		"only space":                 {plans(" "), []string{"BACKUP_PLAN_IDS has \"\""}},
		"a comma at the end":         {plans("a,"), []string{"BACKUP_PLAN_IDS has \"\""}},
		"a plan with a wrong letter": {plans("a,b/c,d e"), []string{`BACKUP_PLAN_IDS has "b/c"`, `BACKUP_PLAN_IDS has "d e"`}},
		"a plan too long":            {plans(strings.Repeat("x", 129)), []string{"an ID has 1 to 128 letters"}},
		"all beside an ID":           {plans("a, All"), []string{`BACKUP_PLAN_IDS is "a, All": give either all or IDs`}},
		"all without a queue":        {[]string{"BACKUP_PLAN_IDS=all"}, []string{"SOURCE_QUEUE is not set"}},
		"a plan twice":               {plans("a,b, a"), []string{`BACKUP_PLAN_IDS names "a" twice`}},
		"no lookback":                {[]string{"LOOKBACK_HOURS=0"}, []string{`"0": give a whole number from 1 to 43800`}},
		"too long a lookback":        {[]string{"LOOKBACK_HOURS=43801"}, []string{"LOOKBACK_HOURS"}},

		"all at once": {
			[]string{"RESULT_QUEUE=", "DEAD_LETTER_QUEUE=", "MNS_ENDPOINT=http://x", "DBS_ENDPOINT=x",
				"BACKUP_SET_DATA_FORMAT=x", "CONCURRENCY=0", "RESULT_ENCODING=x", "LOG_LEVEL=x",
				"MAX_REQUESTS_PER_SECOND=x", "BACKUP_PLAN_IDS=?", "LOOKBACK_HOURS=x"},
			[]string{"RESULT_QUEUE", "DEAD_LETTER_QUEUE", "MNS_ENDPOINT", "DBS_ENDPOINT",
				"BACKUP_SET_DATA_FORMAT", "CONCURRENCY", "RESULT_ENCODING", "LOG_LEVEL",
				"MAX_REQUESTS_PER_SECOND", "BACKUP_PLAN_IDS has", "LOOKBACK_HOURS", "SOURCE_QUEUE"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout bytes.Buffer
			err := function.Run(environment(c.environment...), &stdout)
			var wrong *function.SettingsError
			require.ErrorAs(t, err, &wrong)
			for _, mistake := range c.mistakes {
				assert.Contains(t, err.Error(), mistake)
			}
			assert.Equal(t, len(c.mistakes), strings.Count(err.Error(), "\n"), err.Error())

			// A search of the log for errors finds it.
			var line struct{ Level, Msg, Error string }
			require.NoError(t, json.Unmarshal(stdout.Bytes(), &line), "one JSON line")
			assert.Equal(t, "ERROR", line.Level)
			assert.Equal(t, "wrong settings", line.Msg)
			assert.Equal(t, err.Error(), line.Error)
		})
	}
	t.Run("and hides passwords", func(t *testing.T) {
		var stdout bytes.Buffer
		wrong := environment("MNS_ENDPOINT=htt://user:hunter2@x", "DBS_ENDPOINT=https://user:hunter2@x")
		err := function.Run(wrong, &stdout)
		assert.NotContains(t, err.Error()+stdout.String(), "hunter2")
	})
}

func TestFitInstance_KeepsWithinTheInstance(t *testing.T) {
	memory, procs := debug.SetMemoryLimit(-1), runtime.GOMAXPROCS(0)
	defer func() {
		debug.SetMemoryLimit(memory)
		runtime.GOMAXPROCS(procs)
	}()
	for megabytes, want := range map[int]struct {
		memory int64
		procs  int
	}{
		0:    {memory, 4},
		128:  {120_795_950, 1},
		1024: {966_367_638, 1},
		1088: {1_026_765_612, 4},
	} {
		debug.SetMemoryLimit(memory)
		runtime.GOMAXPROCS(4)
		function.FitInstance(megabytes)
		assert.InDelta(t, want.memory, debug.SetMemoryLimit(-1), 10, megabytes)
		assert.Equal(t, want.procs, runtime.GOMAXPROCS(0), megabytes)
	}
}

func TestRun_OutsideFunctionComputeIsAnErrorOfItsOwn(t *testing.T) {
	err := function.Run(environment("FC_RUNTIME_API="), io.Discard)
	require.ErrorIs(t, err, function.ErrOutsideFC)
}

func TestUsage_NamesEverySetting(t *testing.T) {
	// A name is a setting if a misspelt one is taken for it.
	named := regexp.MustCompile(`(?m)^  ([A-Z_]+) `).FindAllStringSubmatch(function.Usage, -1)
	assert.Len(t, named, 12)
	for _, name := range named {
		var stdout bytes.Buffer
		require.NoError(t, function.Check(environment(name[1]+"_X=x"), &stdout))
		assert.Contains(t, stdout.String(), "did you mean "+name[1]+"?")
	}
}

func TestCheck_SaysWhetherTheFunctionWouldStart(t *testing.T) {
	var stdout bytes.Buffer
	require.NoError(t, function.Check([]string{"RESULT_QUEUE=a", "DEAD_LETTER_QUEUE=b", "PATH=/bin", "LOG_LEVEL=debug"}, &stdout))
	assert.Equal(t, "Every setting is valid.\n", stdout.String())

	stdout.Reset()
	err := function.Check([]string{"RESULT_QUEU=a", "DEAD_LETTER_QUEUE=b", "CONCURRENCY=0"}, &stdout)
	var wrong *function.SettingsError
	require.ErrorAs(t, err, &wrong)
	assert.Contains(t, err.Error(), "RESULT_QUEUE is not set")
	assert.Contains(t, err.Error(), "CONCURRENCY is \"0\"")
	assert.Equal(t, 2, strings.Count(err.Error(), "\n"), "what Function Compute sets may be missing")
	assert.Equal(t, "warning: RESULT_QUEU is not a setting; did you mean RESULT_QUEUE?\n", stdout.String())
}

func TestSettings_WarnOfANameThatIsNearToOne(t *testing.T) {
	warned := func(t *testing.T, name string) string {
		t.Helper()
		var stdout bytes.Buffer
		require.NoError(t, function.Check(environment(name+"=x"), &stdout))
		if warning, warned := strings.CutSuffix(stdout.String(), "No value is invalid, but the names above are ignored.\n"); warned {
			return warning
		}
		return strings.TrimSuffix(stdout.String(), "Every setting is valid.\n")
	}
	for name, nearest := range map[string]string{
		"LOOKBACK_HOUR": "LOOKBACK_HOURS", "RESULT_QUEUES": "RESULT_QUEUE", "RESLUT_QUEUE": "RESULT_QUEUE",
		"DEADLETTER_QUEUE": "DEAD_LETTER_QUEUE", "backup_plan_ids": "BACKUP_PLAN_IDS", "BACKUP_PLAN_ID": "BACKUP_PLAN_IDS",
		"SOURCE_QUEU": "SOURCE_QUEUE", "CONCURENCY": "CONCURRENCY", "LOGLEVEL": "LOG_LEVEL", "DBS_ENDPOIN": "DBS_ENDPOINT",
	} {
		assert.Equal(t, "warning: "+name+" is not a setting; did you mean "+nearest+"?\n", warned(t, name))
	}
	for _, name := range []string{"PATH", "HOME", "TZ", "LANG", "QUEUE", "FC_QUALIFIER", "FC_FUNCTION_HANDLER",
		"FC_INSTANCE_ID", "ALIBABA_CLOUD_ACCOUNT_ID", "LD_LIBRARY_PATH", "GOMAXPROCS", "RESULTING_QUEUE", "HTTPS_PROXY", ""} {
		assert.Empty(t, warned(t, name), name)
	}

	t.Run("in the log too", func(t *testing.T) {
		var stdout bytes.Buffer
		require.Error(t, function.Run(environment("RESULT_QUEUE=", "RESULT_QUEU=results"), &stdout))
		warning, _, _ := strings.Cut(stdout.String(), "\n")
		var line struct{ Level, Msg, Warning string }
		require.NoError(t, json.Unmarshal([]byte(warning), &line))
		line.Level += " " + line.Msg
		assert.Equal(t, "WARN unknown setting", line.Level)
		assert.Equal(t, "RESULT_QUEU is not a setting; did you mean RESULT_QUEUE?", line.Warning)
	})
}

func TestSettings_NameTheirBounds(t *testing.T) {
	for change, bounds := range map[string]string{
		"CONCURRENCY=257": "from 1 to 256", "MAX_REQUESTS_PER_SECOND=10001": "from 0 to 10000", "LOOKBACK_HOURS=43801": "from 1 to 43800",
	} {
		_, err := function.Assemble(environment(change), io.Discard)
		require.ErrorContains(t, err, bounds, change)
	}
}

// A setting that prints credentials, or sends requests without TLS to other hosts.
func TestSettings_RefuseWhatIsUnsafe(t *testing.T) {
	for change, mistake := range map[string]string{
		"DEBUG=tea": `DEBUG names "tea"`, "DEBUG=credential": `DEBUG names "credential"`,
		"MNS_ENDPOINT=https://x#y":                                      "without user, query and fragment",
		"MNS_ENDPOINT=http://1.mns.cn-hangzhou-internal-x.aliyuncs.com": "http:// is for loopback",
	} {
		_, err := function.Assemble(environment(change), io.Discard)
		require.ErrorContains(t, err, mistake, change)
	}
}

func TestSettings_RegionsThatShareAnEndpointOfDBS(t *testing.T) {
	for _, region := range []string{"cn-hangzhou", "cn-beijing", "cn-qingdao", "cn-shanghai", "cn-shenzhen", "cn-hongkong", "us-west-1",
		"us-east-1", "cn-hangzhou-finance", "cn-shanghai-finance-1", "cn-shenzhen-finance-1"} {
		assert.Equal(t, "https://dbs-api.cn-hangzhou.aliyuncs.com", targets(t, "FC_REGION="+region).DBSEndpoint, region)
	}
}

// Without CONCURRENCY sixteen calls to DBS are in flight.
func TestSettings_ConcurrencyIs16ByDefault(t *testing.T) {
	s := start(t)
	var arrived atomic.Int32
	release := make(chan struct{})
	server, err := standin.Start(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived.Add(1)
		<-release
		_, _ = io.WriteString(w, `{"Success":true,"BackupSetDownloadTaskId":"task"}`)
	}))
	require.NoError(t, err)
	defer server.Close()
	h, err := function.Assemble(environment("DBS_ENDPOINT="+server.URL, "MNS_ENDPOINT="+s.mnsServer.URL), io.Discard)
	require.NoError(t, err)
	events := make([]string, 20)
	for i := range events {
		events[i] = fmt.Sprintf(`{"specversion":"1.0","id":"%d","data":{"BackupSetId":"a","BackupSetName":"%d"}}`, i, i)
	}
	ended, ctx := make(chan error, 1), invocation(t, s.key)
	go func() {
		_, err := h.Handle(ctx, "", []byte("["+strings.Join(events, ",")+"]"))
		ended <- err
	}()
	assert.Eventually(t, func() bool { return arrived.Load() == 16 }, 20*time.Second, time.Millisecond)
	assert.EqualValues(t, 16, arrived.Load())
	close(release)
	require.NoError(t, <-ended)
	assert.EqualValues(t, 20, arrived.Load())
}
