package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/dbs"
	"increment-backup-download/tests/standin/mns"
)

// The tests run the consumer as a process of its own: this executable, with the mark in
// its environment.
const mark = "CONSUMER_UNDER_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(mark) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const (
	queueName = "increment-backup-results"
	planID    = "dbsqdss5tmh0001"
	fileSize  = 300_000
)

// cloud are stand-ins, and a directory for files.
type cloud struct {
	key       standin.Key
	dbs       *dbs.Service
	mns       *mns.Service
	dbsFaults *standin.Faulty
	mnsFaults *standin.Faulty
	dbsURL    string
	mnsURL    string
	dir       string
	mu        sync.Mutex
	file      func(http.ResponseWriter, *http.Request, http.Handler) // serves files, if set; guarded by mu
	answer    func(body []byte) []byte                               // changes the answers of DBS, if set; guarded by mu
	policy    *standin.Policy
	output    output // of every process
}

// output collects what processes write.
type output struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func start(t *testing.T) *cloud {
	t.Helper()
	document, err := os.ReadFile("policy.json")
	require.NoError(t, err)
	policy, err := standin.ParsePolicy(document)
	require.NoError(t, err)
	c := &cloud{key: standin.NewKey(), policy: policy, dir: filepath.Join(t.TempDir(), "files")}
	c.dbs, c.mns = dbs.New(standin.NewKeys(c.key), policy), mns.New(standin.NewKeys(c.key), policy, queueName)
	c.dbsFaults, c.mnsFaults = standin.WithFaults(c.dbs), standin.WithFaults(c.mns)
	for url, handler := range map[*string]http.Handler{&c.dbsURL: http.HandlerFunc(c.serveDBS), &c.mnsURL: c.mnsFaults} {
		server, err := standin.Start(handler)
		require.NoError(t, err)
		t.Cleanup(server.Close)
		*url = server.URL
	}
	t.Cleanup(func() {
		assert.NotContains(t, c.output.String(), dbs.URLSecret, "a link was printed")
		assert.NotContains(t, c.output.String(), c.key.Secret)
		assert.NotContains(t, c.output.String(), c.key.Token)
	})
	return c
}

func (c *cloud) serveDBS(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	file, answer := c.file, c.answer
	c.mu.Unlock()
	if file != nil && dbs.IsFile(r) {
		file(w, r, c.dbsFaults)
		return
	}
	if answer == nil || dbs.IsFile(r) {
		c.dbsFaults.ServeHTTP(w, r)
		return
	}
	recorder := httptest.NewRecorder()
	c.dbsFaults.ServeHTTP(recorder, r)
	_, _ = w.Write(answer(recorder.Body.Bytes()))
}

// changeAnswers has the answers of DBS pass through a function.
func (c *cloud) changeAnswers(change func(body []byte) []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = change
}

// serveFiles lets a function serve files; nil ends it.
func (c *cloud) serveFiles(file func(http.ResponseWriter, *http.Request, http.Handler)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.file = file
}

// finish adds a finished task and its result, and returns the task's ID and file.
func (c *cloud) finish(t *testing.T, set string) (taskID string, file []byte) {
	t.Helper()
	taskID = c.dbs.AddTask(planID, dbs.ListedTask{JobID: "job", SetName: set, Status: "finish", Size: fileSize})
	c.publish(t, "event of "+set, "TaskFinished", set, taskID)
	return taskID, dbs.File(taskID, fileSize)
}

func (c *cloud) publish(t *testing.T, id, kind, set, taskID string) {
	t.Helper()
	_, err := c.mns.Put(queueName, body(id, kind, set, taskID))
	require.NoError(t, err)
}

func body(id, kind, set, taskID string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"acs:fc:cn-hangzhou:1:functions/f",`+
		`"type":"dbs:IncrementBackupSetDownload:%s","data":{"BackupPlanId":%q,"BackupSetName":%q,"BackupSetDownloadTaskId":%q}}`,
		id, kind, planID, set, taskID)
}

// start starts the consumer as a process.
func (c *cloud) start(t *testing.T, arguments ...string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0],
		append([]string{"-mns", mns.Endpoint(c.mnsURL), "-dbs", c.dbsURL, "-dir", c.dir}, arguments...)...)
	command.Env = append(os.Environ(), mark+"=1", "ALIBABA_CLOUD_ACCESS_KEY_ID="+c.key.ID,
		"ALIBABA_CLOUD_ACCESS_KEY_SECRET="+c.key.Secret, "ALIBABA_CLOUD_SECURITY_TOKEN="+c.key.Token)
	command.Stdout, command.Stderr = &c.output, &c.output
	require.NoError(t, command.Start())
	return command
}

// runUntil runs the consumer until something is true, and stops it.
func (c *cloud) runUntil(t *testing.T, done func() bool, arguments ...string) {
	t.Helper()
	command := c.start(t, arguments...)
	assert.Eventually(t, done, 20*time.Second, 5*time.Millisecond, "%s", &c.output)
	require.NoError(t, command.Process.Kill())
	require.Error(t, command.Wait(), "it ran until it was stopped")
}

// says reports whether a process wrote something.
func (c *cloud) says(text string) func() bool {
	return func() bool { return strings.Contains(c.output.String(), text) }
}

// isDone reports whether the queue is empty.
func (c *cloud) isDone() bool { return len(c.mns.Messages(queueName)) == 0 }

// files are the names and contents in the directory.
func (c *cloud) files(t *testing.T) map[string]string {
	t.Helper()
	found := make(map[string]string)
	entries, err := os.ReadDir(c.dir)
	require.NoError(t, err)
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(c.dir, entry.Name()))
		require.NoError(t, err)
		found[entry.Name()] = string(content)
	}
	return found
}

func TestConsumer_FetchesEachFinishedTaskOnce(t *testing.T) {
	c := start(t)
	first, file := c.finish(t, "mysql-bin.000054")
	c.publish(t, "event of mysql-bin.000054", "TaskFinished", "mysql-bin.000054", first)
	c.publish(t, "event of mysql-bin.000054", "TaskCreated", "mysql-bin.000054", first)
	second, other := c.finish(t, "mysql-bin.000055")
	c.publish(t, "3", "TaskFailed", "mysql-bin.000056", "")
	c.publish(t, "4", "TaskStopped", "mysql-bin.000057", "1jydacm0003")
	c.publish(t, "4", "TaskStopped", "mysql-bin.000057", "1jydacm0003")
	c.publish(t, "5", "TaskUnfinished", "mysql-bin.000058", "1jydacm0004")
	c.runUntil(t, c.isDone)
	assert.Equal(t, map[string]string{
		planID + "_mysql-bin.000054_" + first:  string(file),
		planID + "_mysql-bin.000055_" + second: string(other),
	}, c.files(t))
	assert.Equal(t, 2, c.dbs.FileCalls())
	for _, line := range []string{
		`TaskFailed: plan "dbsqdss5tmh0001", set "mysql-bin.000056", task "", event "3"`,
		`TaskStopped: plan "dbsqdss5tmh0001", set "mysql-bin.000057", task "1jydacm0003", event "4"`,
		`TaskUnfinished: plan "dbsqdss5tmh0001", set "mysql-bin.000058", task "1jydacm0004", event "5"`,
	} {
		assert.Equal(t, 1, strings.Count(c.output.String(), line), "%s", &c.output)
	}
	assert.Empty(t, c.policy.Unused(), "policy.json grants more than is used")

	// After a restart, a repeat finds the file.
	c.publish(t, "event of mysql-bin.000054", "TaskFinished", "mysql-bin.000054", first)
	c.runUntil(t, func() bool {
		c.mns.Release(queueName) // if the last call of the killed process received it
		return c.isDone()
	})
	assert.Equal(t, 2, c.dbs.FileCalls())
}

func TestConsumer_ReadsBase64(t *testing.T) {
	c := start(t)
	id := c.dbs.AddTask(planID, dbs.ListedTask{JobID: "job", SetName: "x", Status: "finish", Size: fileSize})
	_, err := c.mns.Put(queueName, base64.StdEncoding.EncodeToString([]byte(body("1", "TaskFinished", "x", id))))
	require.NoError(t, err)
	c.runUntil(t, c.isDone)
	assert.Equal(t, map[string]string{planID + "_x_" + id: string(dbs.File(id, fileSize))}, c.files(t))
}

func TestConsumer_KeepsTheMessageOfWhatItCannotFetch(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*testing.T, *cloud)
		says    string
	}{
		"a task that runs": {func(t *testing.T, c *cloud) {
			c.publish(t, "1", "TaskFinished", "x", c.dbs.AddTask(planID, dbs.ListedTask{JobID: "job", SetName: "x"}))
		}, "the task is running"},
		"a task that DBS does not list": {func(t *testing.T, c *cloud) { c.publish(t, "1", "TaskFinished", "x", "none") }, "the task is not listed"},
		"a task that DBS was not asked for": {func(t *testing.T, c *cloud) {
			id, _ := c.finish(t, "x")
			c.changeAnswers(func(body []byte) []byte { return bytes.ReplaceAll(body, []byte(`"`+id+`"`), []byte(`"other"`)) })
		}, "the task is not listed"},
		"a task that is not finished": {func(t *testing.T, c *cloud) {
			c.finish(t, "x")
			c.changeAnswers(func(body []byte) []byte { return bytes.ReplaceAll(body, []byte(`"finish"`), []byte(`"stop"`)) })
		}, "the task is stop"},
		"no permission": {func(t *testing.T, c *cloud) {
			c.finish(t, "x")
			c.dbs.Policy.Revoke("dbs:DescribeBackupSetDownloadTaskList")
		}, "HTTP 403 Request.Forbidden"},
		"a link that is always refused": {func(t *testing.T, c *cloud) {
			c.finish(t, "x")
			c.serveFiles(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				c.dbs.ExpireLinks()
				next.ServeHTTP(w, r)
			})
		}, "answered with HTTP 403"},
		"a file of another size": {func(t *testing.T, c *cloud) {
			c.finish(t, "x")
			c.serveFiles(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { _, _ = io.WriteString(w, "short") })
		}, "the file has 5 bytes, and DBS lists 300000"},
		"a file that ends early": {func(t *testing.T, c *cloud) {
			c.finish(t, "x")
			c.serveFiles(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
				w.Header().Set("Content-Range", "bytes 0-299999/300000")
				w.WriteHeader(http.StatusPartialContent)
				_, _ = io.WriteString(w, "short")
			})
		}, "5 bytes of 300000 are there"},
		"another piece than asked for": {func(t *testing.T, c *cloud) {
			c.finish(t, "x")
			c.serveFiles(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				r.Header.Set("Range", "bytes=1000-")
				next.ServeHTTP(w, r)
			})
		}, "does not say which part"},
		"a redirect": {func(t *testing.T, c *cloud) {
			c.finish(t, "x")
			elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was followed") }))
			t.Cleanup(elsewhere.Close)
			c.serveFiles(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
				http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
			})
		}, "a redirect is not followed"},
		"a redirect of DBS": {func(t *testing.T, c *cloud) {
			c.finish(t, "x")
			elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was followed") }))
			t.Cleanup(elsewhere.Close)
			c.dbsFaults.SetPlan(standin.Always(standin.Fault{Kind: standin.Redirect, Location: elsewhere.URL}))
		}, "a redirect is not followed"},
		"a dead connection": {func(t *testing.T, c *cloud) {
			c.finish(t, "x")
			c.dbsFaults.SetPlan(standin.Choose(dbs.IsFile, standin.Always(standin.Fault{Kind: standin.Reset})))
		}, "reset"},
		"no result": {func(t *testing.T, c *cloud) {
			_, err := c.mns.Put(queueName, "hello")
			require.NoError(t, err)
		}, "it is no result"},
		"an unknown type": {func(t *testing.T, c *cloud) { c.publish(t, "1", "TaskPaused", "x", "1") }, "TaskPaused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cloud := start(t)
			c.prepare(t, cloud)
			cloud.runUntil(t, func() bool {
				return cloud.says("stays in the queue: ")() && cloud.says(c.says)()
			})
			assert.Len(t, cloud.mns.Messages(queueName), 1)
			for name := range cloud.files(t) {
				assert.True(t, strings.HasSuffix(name, ".part"), name)
			}
		})
	}
}

func TestConsumer_AcceptsAnotherSizeIfAsked(t *testing.T) {
	c := start(t)
	id, _ := c.finish(t, "x")
	c.serveFiles(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { _, _ = io.WriteString(w, "short") })
	c.runUntil(t, c.isDone, "-any-size")
	assert.Equal(t, map[string]string{planID + "_x_" + id: "short"}, c.files(t))
}

// What is there already is not fetched again, whatever size DBS lists.
func TestConsumer_GoesOnWhateverSizeIsListed(t *testing.T) {
	for name, c := range map[string]struct {
		listed    string
		part      int // bytes that are there
		arguments []string
		ranges    []string
	}{
		"none":                           {"0", 100_000, nil, []string{"bytes=99999-"}},
		"too small a one":                {"1000", 100_000, []string{"-any-size"}, []string{"bytes=99999-"}},
		"none, and the part is too long": {"0", fileSize + 9, nil, []string{fmt.Sprintf("bytes=%d-", fileSize+8), "bytes=0-"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cloud := start(t)
			id, file := cloud.finish(t, "x")
			cloud.changeAnswers(func(body []byte) []byte {
				return regexp.MustCompile(`"BackupSetDataSize":\d+`).ReplaceAll(body, []byte(`"BackupSetDataSize":`+c.listed))
			})
			var ranges []string
			cloud.serveFiles(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				ranges = append(ranges, r.Header.Get("Range"))
				next.ServeHTTP(w, r)
			})
			require.NoError(t, os.MkdirAll(cloud.dir, 0o750))
			path := filepath.Join(cloud.dir, planID+"_x_"+id)
			require.NoError(t, os.WriteFile(path+".part", append(bytes.Clone(file), make([]byte, 9)...)[:c.part], 0o600))
			cloud.runUntil(t, func() bool {
				if cloud.says("starts anew")() {
					cloud.mns.Release(queueName) // what the visibility timeout does
				}
				return cloud.isDone()
			}, c.arguments...)
			assert.Equal(t, map[string]string{planID + "_x_" + id: string(file)}, cloud.files(t))
			assert.Equal(t, c.ranges, ranges)
		})
	}
}

func TestConsumer_AsksAgainForAnExpiredLink(t *testing.T) {
	c := start(t)
	id, file := c.finish(t, "x")
	var expire sync.Once
	c.serveFiles(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		expire.Do(c.dbs.ExpireLinks)
		next.ServeHTTP(w, r)
	})
	c.runUntil(t, func() bool {
		if c.says("answered with HTTP 403")() {
			c.mns.Release(queueName) // what the visibility timeout does
		}
		return c.isDone()
	})
	assert.Equal(t, map[string]string{planID + "_x_" + id: string(file)}, c.files(t))
	assert.Equal(t, 2, c.dbs.CallsOf(dbs.ActionListTasks))
}

// What is already there: a part that is whole, too long, or of a server that knows no
// ranges.
func TestConsumer_GoesOnFromAnyPart(t *testing.T) {
	whole := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		r.Header.Del("Range")
		next.ServeHTTP(w, r)
	}
	for name, c := range map[string]struct {
		part  func(file []byte) []byte
		serve func(http.ResponseWriter, *http.Request, http.Handler)
	}{
		"a part":                 {func(file []byte) []byte { return file[:1000] }, nil},
		"the whole":              {func(file []byte) []byte { return file }, nil},
		"too much":               {func(file []byte) []byte { return append(file, 'x') }, nil},
		"a part, without ranges": {func(file []byte) []byte { return file[:1000] }, whole},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cloud := start(t)
			id, file := cloud.finish(t, "x")
			cloud.serveFiles(c.serve)
			require.NoError(t, os.MkdirAll(cloud.dir, 0o750))
			path := filepath.Join(cloud.dir, planID+"_x_"+id)
			require.NoError(t, os.WriteFile(path+".part", c.part(bytes.Clone(file)), 0o600))
			cloud.runUntil(t, cloud.isDone)
			assert.Equal(t, map[string]string{planID + "_x_" + id: string(file)}, cloud.files(t))
			assert.Equal(t, 1, cloud.dbs.FileCalls())
		})
	}
}

// A process that is killed, wherever it is, and started again, ends with the file and
// an empty queue.
func TestConsumer_SurvivesKillsAnywhere(t *testing.T) {
	at := func(kind standin.Kind) func(*cloud, func()) {
		return func(c *cloud, kill func()) {
			c.mnsFaults.SetPlan(standin.Choose(func(r *http.Request) bool { return r.Method == http.MethodGet },
				standin.Script(&standin.Fault{Kind: kind, Then: kill})))
		}
	}
	atDelete := func(kind standin.Kind) func(*cloud, func()) {
		return func(c *cloud, kill func()) {
			c.mnsFaults.SetPlan(standin.Choose(func(r *http.Request) bool { return r.Method == http.MethodDelete },
				standin.Script(&standin.Fault{Kind: kind, Then: kill})))
		}
	}
	atDBS := func(kind standin.Kind) func(*cloud, func()) {
		return func(c *cloud, kill func()) {
			c.dbsFaults.SetPlan(standin.Script(&standin.Fault{Kind: kind, Then: kill}))
		}
	}
	points := map[string]func(*cloud, func()){
		"before it receives": at(standin.Hang), "when it has received": at(standin.HangAfter),
		"before it deletes": atDelete(standin.Hang), "when it has deleted": atDelete(standin.HangAfter),
		"before it asks DBS": atDBS(standin.Hang), "when it has asked DBS": atDBS(standin.HangAfter),
	}
	for _, n := range []int{0, 1, 32_768, 100_000, fileSize - 1, fileSize} {
		points[fmt.Sprintf("after %d bytes", n)] = func(c *cloud, kill func()) { c.serveFiles(cut(n, kill)) }
	}
	for name, prepare := range points {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := start(t)
			id, file := c.finish(t, "x")
			c.killOnce(t, prepare)
			c.runUntil(t, c.isDone)
			assert.Equal(t, map[string]string{planID + "_x_" + id: string(file)}, c.files(t))
		})
	}
}

// Killed again and again, it goes on where it was: each byte comes about once.
func TestConsumer_ResumesAfterEachKill(t *testing.T) {
	c := start(t)
	id, file := c.finish(t, "x")
	const kills, piece = 5, fileSize / 6
	var mu sync.Mutex
	served := 0
	count := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		served += n
	}
	for n := range kills {
		c.killOnce(t, func(c *cloud, kill func()) {
			c.serveFiles(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				cut(piece, func() {
					c.waitForPart(t, (n+1)*piece-n) // the last byte is fetched again
					kill()
				})(counted{w, count}, r, next)
			})
		})
	}
	c.serveFiles(func(w http.ResponseWriter, r *http.Request, next http.Handler) { next.ServeHTTP(counted{w, count}, r) })
	c.runUntil(t, c.isDone)
	assert.Equal(t, map[string]string{planID + "_x_" + id: string(file)}, c.files(t))
	assert.LessOrEqual(t, served, fileSize+piece, "from the start each time, it would be 5 pieces more")
}

// waitForPart waits until the part has a size.
func (c *cloud) waitForPart(t *testing.T, size int) {
	t.Helper()
	assert.Eventually(t, func() bool {
		parts, _ := filepath.Glob(filepath.Join(c.dir, "*.part"))
		if len(parts) != 1 {
			return false
		}
		info, err := os.Stat(parts[0])
		return err == nil && info.Size() == int64(size)
	}, 20*time.Second, time.Millisecond)
}

// counted counts what is written.
type counted struct {
	http.ResponseWriter
	count func(int)
}

func (w counted) Write(b []byte) (int, error) {
	w.count(len(b))
	return w.ResponseWriter.Write(b)
}

func (w counted) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// cut serves the first n bytes of an answer, kills, and holds the rest back.
func cut(n int, kill func()) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		recorder := httptest.NewRecorder()
		next.ServeHTTP(recorder, r)
		for name, values := range recorder.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(recorder.Code)
		_, _ = w.Write(recorder.Body.Bytes()[:min(n, recorder.Body.Len())])
		_ = http.NewResponseController(w).Flush()
		kill()
		<-r.Context().Done()
	}
}

// killOnce runs the consumer until what was prepared kills it.
func (c *cloud) killOnce(t *testing.T, prepare func(c *cloud, kill func())) {
	t.Helper()
	var command *exec.Cmd
	started, killed := make(chan struct{}), make(chan struct{})
	var kill sync.Once
	prepare(c, func() {
		kill.Do(func() {
			<-started
			_ = command.Process.Kill()
			close(killed)
		})
	})
	command = c.start(t)
	close(started)
	_ = command.Wait()
	<-killed
	c.mnsFaults.SetPlan(nil)
	c.dbsFaults.SetPlan(nil)
	c.serveFiles(nil)
	c.mns.Release(queueName)
}

func TestFileName_TellsPartsApart(t *testing.T) {
	for name, c := range map[string][3]string{
		"p_mysql-bin.000054_t":       {"p", "mysql-bin.000054", "t"},
		"a%5Fb_c_d":                  {"a_b", "c", "d"},
		"a_b%5Fc_d":                  {"a", "b_c", "d"},
		"..%2Fx__%00":                {"../x", "", "\x00"},
		"p_%E5%A4%87%2F%5C%3A+%2B_t": {"p", "备/\\: +", "t"},
	} {
		assert.Equal(t, name, fileName(c[0], c[1], c[2]))
	}
	long := strings.Repeat("备", 1024)
	name := fileName(long, long, "1jydacm000001")
	assert.LessOrEqual(t, len(name+".part"), 255)
	assert.NotEqual(t, name, fileName(long, long, "1jydacm000002"))
}

func TestConsumer_FetchesByTheIntranetIfAsked(t *testing.T) {
	c := start(t)
	id, file := c.finish(t, "x")
	c.changeAnswers(func(body []byte) []byte {
		return regexp.MustCompile(`("BackupSetDownloadInternetUrl":"\\"//)`).ReplaceAll(body, []byte("${1}internet.invalid"))
	})
	c.runUntil(t, c.isDone, "-intranet")
	assert.Equal(t, map[string]string{planID + "_x_" + id: string(file)}, c.files(t))
}

// A link comes in many forms.
func TestConsumer_TakesEachFormOfALink(t *testing.T) {
	for name, form := range map[string]string{
		"no quotes": `$1`, "http": `http:$1`, "https": `https:$1`, "spaces": ` $1 `,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := start(t)
			id, file := c.finish(t, "x")
			c.changeAnswers(func(body []byte) []byte {
				return regexp.MustCompile(`\\"(//[^\\]*)\\"`).ReplaceAll(body, []byte(form))
			})
			c.runUntil(t, c.isDone)
			assert.Equal(t, map[string]string{planID + "_x_" + id: string(file)}, c.files(t))
		})
	}
}

func TestConsumer_RefusesWhatIsNotSafe(t *testing.T) {
	const good = "https://1234567890123456.mns.cn-hangzhou.aliyuncs.com"
	keys := []string{"ALIBABA_CLOUD_ACCESS_KEY_ID=id", "ALIBABA_CLOUD_ACCESS_KEY_SECRET=secret"}
	for name, c := range map[string]struct {
		arguments []string
		keys      []string
		says      string
	}{
		"no keys":                     {[]string{"-mns", good, "-dbs", good}, nil, "ALIBABA_CLOUD_ACCESS_KEY_ID"},
		"MNS in clear":                {[]string{"-mns", "http" + good[5:], "-dbs", good}, keys, "-mns: "},
		"MNS like loopback":           {[]string{"-mns", "http://127.0.0.1.a", "-dbs", good}, keys, "-mns: "},
		"a short MNS":                 {[]string{"-mns", "https://mns.aliyuncs.com", "-dbs", good}, keys, "-mns: "},
		"DBS in clear":                {[]string{"-mns", good, "-dbs", "http://dbs-api.cn-hangzhou.aliyuncs.com"}, keys, "-dbs: "},
		"no DBS":                      {[]string{"-mns", good}, keys, "-dbs: "},
		"a private MNS, but no DBS":   {[]string{"-mns", "http://1.mns.cn-hangzhou-internal.aliyuncs.com"}, keys, "-dbs: "},
		"an MNS in a VPC, but no DBS": {[]string{"-mns", "http://1.mns.cn-hangzhou-internal-vpc.aliyuncs.com"}, keys, "-dbs: "},
		"a wrong flag":                {[]string{"-what"}, keys, "-what"},
		"DBS is no URL":               {[]string{"-mns", good, "-dbs", "://"}, keys, "-dbs: "},
		"no directory":                {[]string{"-mns", good, "-dbs", good, "-dir", os.Args[0]}, keys, os.Args[0]},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			command := exec.CommandContext(ctx, os.Args[0], c.arguments...)
			command.Dir, command.Env = t.TempDir(), append([]string{mark + "=1"}, c.keys...)
			output, err := command.CombinedOutput()
			require.Error(t, err)
			assert.Contains(t, string(output), c.says)
			assert.NotContains(t, string(output), "panic: ")
		})
	}
}
