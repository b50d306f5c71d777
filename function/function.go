package function

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/aliyun/fc-runtime-go-sdk/fc"

	"increment-backup-download/handler"
)

// ErrOutsideFC says that the process was not started by Function Compute.
var ErrOutsideFC = errors.New("FC_RUNTIME_API is not set: only Function Compute can start this function")

// Usage describes the executable and its settings.
const Usage = `increment-backup-download: an Alibaba Cloud Function Compute function that finds the
finished incremental backup sets of DBS backup plans, creates a download task for each of them
and for each that other producers announce in its queue, and follows each task to its end.

Function Compute starts it without arguments (runtime go1, handler bootstrap). Its settings
are environment variables:
  RESULT_QUEUE             MNS queue that takes the results; required
  DEAD_LETTER_QUEUE        MNS queue that takes messages that can never succeed; required
  MNS_ENDPOINT             default https://<account>.mns.<region>.aliyuncs.com
  DBS_ENDPOINT             default https:// and the region's endpoint
  BACKUP_SET_DATA_FORMAT   Native, SQL, CSV or JSON, for events that name none; default: none
  CONCURRENCY              DBS calls in flight, 1 to 256; default 16
  MAX_REQUESTS_PER_SECOND  DBS calls started a second; default 0, no limit
  RESULT_ENCODING          raw or base64; default raw
  BACKUP_PLAN_IDS          DBS backup plans to discover, comma-separated, or all; default: none
  SOURCE_QUEUE             MNS queue that takes announcements and follow-ups; required with
                           BACKUP_PLAN_IDS; without it no task is followed to its end
  LOOKBACK_HOURS           how far back discovery looks, 1 to 43800; default 72
  LOG_LEVEL                debug, info, warn or error; default info
With -check it lists every invalid setting, and ends. For those in s.yaml:
  go run ./tests/settings

Try it on this machine, without a cloud account, from the project's folder:
  go run ./tests/local
Deploy it with Serverless Devs:
  s deploy -y`

// SettingsError lists every invalid setting.
type SettingsError struct{ mistakes error }

func (e *SettingsError) Error() string {
	return fmt.Sprintf("the function cannot start until these settings are corrected:\n%v", e.mistakes)
}

// Check says on stdout whether the function would start in an environment, given as
// NAME=value, and which names look like misspelt settings. Variables that Function
// Compute sets may be missing. Its error is a [*SettingsError].
func Check(environ []string, stdout io.Writer) error {
	s, err := readSettings(append([]string{"FC_REGION=cn-hangzhou", "FC_ACCOUNT_ID=1234567890123456"}, environ...))
	verdict := "Every setting is valid."
	for _, warning := range s.misspelt {
		_, _ = fmt.Fprintln(stdout, "warning: "+warning)
		verdict = "No value is invalid, but the names above are ignored."
	}
	if err != nil {
		return &SettingsError{mistakes: err}
	}
	_, err = fmt.Fprintln(stdout, verdict)
	return err
}

// Run starts the function in an environment, given as NAME=value, and serves
// invocations for the life of the process, so that it returns only with an error:
// [ErrOutsideFC] or a [*SettingsError]. It writes its log to stdout, a JSON object a
// line; wrong settings too, so that a search for errors finds them.
func Run(environ []string, stdout io.Writer) error {
	s, err := readSettings(environ)
	if !s.inFC {
		return ErrOutsideFC
	}
	log := slog.New(slog.NewJSONHandler(stdout, &slog.HandlerOptions{Level: s.logLevel}))
	for _, warning := range s.misspelt {
		log.Warn("unknown setting", "warning", warning)
	}
	if err != nil {
		wrong := &SettingsError{mistakes: err}
		log.Error("wrong settings", "error", wrong.Error())
		return wrong
	}
	fitInstance(s.memoryMB)
	stdlog.SetOutput(quiet{os.Stderr})
	h := assemble(s, log)
	fc.Start(func(ctx context.Context, payload []byte) (any, error) {
		if len(payload) > 4<<20 { // more than a batch of 1,000 events has
			// The payload, of up to 32 MB, is most of the heap, and by default garbage may
			// grow to as much again.
			defer debug.SetGCPercent(debug.SetGCPercent(25))
		}
		invocation, requestID := invocationOf(ctx)
		return h.Serve(invocation, requestID, payload)
	})
	return errors.New("the Function Compute runtime returned")
}

// fitInstance makes the Go runtime keep within an instance of the given size; 0 changes
// nothing. A tenth of the memory is left for what the runtime does not count. Below that
// the heap may grow to three times what is live: usual batches are small, and need half as
// many garbage collections then. An instance of up to a gigabyte has at most one CPU: a
// second running thread would only take time from the quota, for idle garbage collection
// workers and for handing goroutines over. See cpu and memorySize in
// https://help.aliyun.com/zh/functioncompute/fc/developer-reference/api-fc-2023-03-30-struct-createfunctioninput
func fitInstance(megabytes int) {
	if megabytes <= 0 {
		return
	}
	debug.SetMemoryLimit(int64(megabytes) << 20 / 10 * 9)
	debug.SetGCPercent(200)
	if megabytes <= 1024 {
		runtime.GOMAXPROCS(1)
	}
}

// assemble connects the handler to the services.
func assemble(s settings, log *slog.Logger) *handler.Handler {
	// A call of DBS has no body, a usual batch of results some 15 KB. Each of three outboxes
	// sends four batches at once.
	dbs := &dbsClient{endpoint: s.dbsEndpoint, http: newTransport(s.handler.Concurrency, 4<<10), fallback: s.fallback}
	mnsHTTP := newTransport(3*4, 64<<10)
	queue := func(name string) *mnsQueue {
		return &mnsQueue{endpoint: s.mnsEndpoint, name: name, http: mnsHTTP, fallback: s.fallback}
	}
	ports := handler.Ports{
		Tasks: dbs, Lists: dbs, States: dbs, Check: dbs,
		Results: queue(s.handler.Targets.ResultQueue), DeadLetters: queue(s.handler.Targets.DeadLetterQueue),
	}
	if s.sourceQueue != "" {
		ports.Source = queue(s.sourceQueue)
	}
	return handler.New(s.handler, ports, log)
}
