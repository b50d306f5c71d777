package function

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"runtime/debug"

	"github.com/aliyun/fc-runtime-go-sdk/fc"

	"increment-backup-download/handler"
)

// ErrOutsideFC says that the process was not started by Function Compute.
var ErrOutsideFC = errors.New("FC_RUNTIME_API is not set: only Function Compute can start this function")

// largePayload is the size from which a payload counts in an instance of 128 MB. A
// batch of 1,000 events is below it; the platform's limit is 32 MB.
const largePayload = 4 << 20

// Usage says what the executable is, and how it is started and set.
const Usage = `increment-backup-download: an Alibaba Cloud Function Compute function that finds the
finished incremental backup sets of DBS backup plans, and creates a download task for each of
them, and for each that other producers announce in its queue.

Function Compute starts it without arguments (runtime go1, handler bootstrap). Its settings
are environment variables:
  RESULT_QUEUE             MNS queue that takes the results; required
  DEAD_LETTER_QUEUE        MNS queue that takes messages that can never succeed; required
  MNS_ENDPOINT             default https://<account>.mns.<region>.aliyuncs.com
  DBS_ENDPOINT             default https:// and the region's endpoint
  BACKUP_SET_DATA_FORMAT   Native, SQL, CSV or JSON, for events that name none; default: not sent
  CONCURRENCY              DBS calls in flight, 1 to 256; default 16
  MAX_REQUESTS_PER_SECOND  DBS calls started a second; default 0, no limit
  RESULT_ENCODING          raw or base64; default raw
  BACKUP_PLAN_IDS          DBS backup plans to discover, comma-separated, or all; default: discovery by hand only
  SOURCE_QUEUE             MNS queue that takes what discovery finds; required with BACKUP_PLAN_IDS
  LOOKBACK_HOURS           how far back discovery looks, 1 to 43800; default 72
  LOG_LEVEL                debug, info, warn or error; default info

Try it on this machine, without a cloud account, from the project's folder:
  go run ./tests/local
Deploy it with Serverless Devs:
  s deploy`

// SettingsError says what is wrong with the environment, all of it.
type SettingsError struct{ mistakes error }

func (e *SettingsError) Error() string {
	return fmt.Sprintf("the function cannot start, its settings are wrong:\n%v", e.mistakes)
}

// Run starts the function and serves invocations for the life of the process, so
// that it returns only with an error: [ErrOutsideFC] or a [*SettingsError]. It
// writes its log to stdout, a JSON object a line; wrong settings too, so that a
// search for errors finds them.
func Run(getenv func(string) string, stdout io.Writer) error {
	if getenv("FC_RUNTIME_API") == "" {
		return ErrOutsideFC
	}
	s, err := readSettings(getenv)
	if err != nil {
		wrong := &SettingsError{mistakes: err}
		slog.New(slog.NewJSONHandler(stdout, nil)).Error("wrong settings", "error", wrong.Error())
		return wrong
	}
	fitInstance(s.memoryMB)
	log := slog.New(slog.NewJSONHandler(stdout, &slog.HandlerOptions{Level: s.logLevel}))
	h := assemble(s, log)
	fc.Start(func(ctx context.Context, payload []byte) (any, error) {
		if len(payload) > largePayload {
			// The payload is most of the heap, and by default garbage may grow to as
			// much again.
			defer debug.SetGCPercent(debug.SetGCPercent(25))
		}
		invocation, requestID := invocationOf(ctx)
		return h.Serve(invocation, requestID, payload)
	})
	return errors.New("the Function Compute runtime returned")
}

// oneCPU is the memory, in megabytes, up to which an instance has at most one CPU:
// Function Compute wants a gigabyte or more with each. See cpu and memorySize in
// https://help.aliyun.com/zh/functioncompute/fc/developer-reference/api-fc-2023-03-30-struct-createfunctioninput
const oneCPU = 1024

// fitInstance makes the Go runtime keep within an instance of the given size. A
// tenth of the memory is left for what the runtime does not count. With one CPU or
// less, more than one running thread only takes time from the quota for idle
// garbage collection workers and for handing goroutines over. Without a size, both
// stay as they are.
func fitInstance(megabytes int) {
	if megabytes <= 0 {
		return
	}
	debug.SetMemoryLimit(int64(megabytes) << 20 / 10 * 9)
	if megabytes <= oneCPU {
		runtime.GOMAXPROCS(1)
	}
}

// assemble connects the handler to the services.
func assemble(s settings, log *slog.Logger) *handler.Handler {
	dbs := &dbsClient{endpoint: s.dbsEndpoint, http: newTransport(s.concurrency, dbsWriteBuffer), fallback: s.fallback}
	mnsHTTP := newTransport(mnsConnections, mnsWriteBuffer)
	queue := func(name string) *mnsQueue {
		return &mnsQueue{endpoint: s.mnsEndpoint, name: name, http: mnsHTTP, fallback: s.fallback}
	}
	ports := handler.Ports{
		Tasks: dbs, Lists: dbs, States: dbs, Check: dbs,
		Results: queue(s.resultQueue), DeadLetters: queue(s.deadLetterQueue),
	}
	if s.sourceQueue != "" {
		ports.Source = queue(s.sourceQueue)
	}
	return handler.New(handler.Config{
		Source:               s.source,
		DataFormat:           s.dataFormat,
		ResultEncoding:       s.resultEncoding,
		Concurrency:          s.concurrency,
		MaxRequestsPerSecond: s.maxRequestsPerSecond,
		BackupPlanIDs:        s.backupPlanIDs,
		LookbackHours:        s.lookbackHours,
		Targets: handler.Targets{
			DBSEndpoint:     s.dbsEndpoint.String(),
			MNSEndpoint:     s.mnsEndpoint.String(),
			ResultQueue:     s.resultQueue,
			DeadLetterQueue: s.deadLetterQueue,
		},
	}, ports, log)
}
