package attempt

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"increment-backup-download/handler/cloud"
)

// Log counts the attempts of an invocation, and logs its repeats. It is safe for
// concurrent use.
type Log struct {
	*slog.Logger
	calls     atomic.Int64
	throttled atomic.Int64
}

// NewLog returns a log of an invocation that writes to log.
func NewLog(log *slog.Logger) *Log { return &Log{Logger: log} }

// Counts returns how many calls to DBS were made, and how many answers of DBS and MNS
// were throttled, as attributes of the invocation's log line.
func (l *Log) Counts() []slog.Attr {
	return []slog.Attr{slog.Int64("attempts", l.calls.Load()), slog.Int64("throttled", l.throttled.Load())}
}

func (l *Log) count(service string, err error) {
	if service == DBS {
		l.calls.Add(1)
	}
	if err != nil && cloud.ErrorOf(err).Throttled {
		l.throttled.Add(1)
	}
}

// repeat notes that a call is made again after err and a wait.
func (l *Log) repeat(service string, made int, wait time.Duration, err error, what []slog.Attr) {
	ctx := context.Background()
	if !l.Enabled(ctx, slog.LevelDebug) {
		return
	}
	l.LogAttrs(ctx, slog.LevelDebug, "calling "+service+" again", append(what, slog.Int("attempts", made),
		slog.Int64("waitMs", wait.Milliseconds()), slog.String("error", err.Error()))...)
}
