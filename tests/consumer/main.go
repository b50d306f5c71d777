// Command consumer fetches the files of finished download tasks into a directory. It is
// an example to copy, and needs nothing else of this module.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	mns "github.com/aliyun/aliyun-mns-go-sdk"
)

const usage = `Fetch the file of each finished download task into a directory.

  go run ./tests/consumer -mns https://<account>.mns.<region>.aliyuncs.com \
      -dbs https://dbs-api.<region>.aliyuncs.com -dir downloads

Credentials are read from ALIBABA_CLOUD_ACCESS_KEY_ID, ALIBABA_CLOUD_ACCESS_KEY_SECRET
and, for an assumed role, ALIBABA_CLOUD_SECURITY_TOKEN; policy.json has what they must
allow. A file is named <plan>_<set>_<task>, and <plan>_<set>_<task>.part until it is
complete. A message is deleted once its file is complete. You may stop the consumer and
start it again at any time: it goes on where it was.

`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout) //nolint:forbidigo // the environment is handed in here
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintln(os.Stderr, "consumer:", err)
		os.Exit(1)
	}
}

type consumer struct {
	dbs      dbsClient
	dir      string
	intranet bool
	anySize  bool
	out      io.Writer
	// seen are the results handled since the start. A file that is there says the same
	// after a restart; if you do more with a result than fetch its file, keep this in a
	// database.
	seen map[[3]string]bool
}

func run(ctx context.Context, arguments []string, getenv func(string) string, out io.Writer) error {
	c := consumer{out: out, seen: make(map[[3]string]bool)}
	flags := flag.NewFlagSet("consumer", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() { _, _ = io.WriteString(out, usage); flags.PrintDefaults() }
	endpoint := flags.String("mns", "", "MNS `endpoint`")
	queueName := flags.String("queue", "increment-backup-results", "`name` of the result queue")
	flags.StringVar(&c.dbs.endpoint, "dbs", "", "DBS `endpoint`")
	flags.StringVar(&c.dir, "dir", "downloads", "`directory` for the files")
	flags.BoolVar(&c.intranet, "intranet", false, "fetch by the intranet link, in the region of the plan")
	flags.BoolVar(&c.anySize, "any-size", false, "accept a file whose size differs from the one that DBS says")
	once := flags.Bool("once", false, "handle each message once and end; status 1 if one could not be handled")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	id, secret := getenv("ALIBABA_CLOUD_ACCESS_KEY_ID"), getenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET")
	token := getenv("ALIBABA_CLOUD_SECURITY_TOKEN")
	switch {
	case id == "" || secret == "":
		return errors.New("set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET")
	case !isSafe(*endpoint) || strings.Count(*endpoint, ".") != 4: // the SDK panics
		return errors.New("-mns: give https://<account>.mns.<region>.aliyuncs.com")
	case !isSafe(c.dbs.endpoint):
		return errors.New("-dbs: give https://dbs-api.<region>.aliyuncs.com")
	}
	c.dbs.id, c.dbs.secret, c.dbs.token = id, secret, token
	if err := os.MkdirAll(c.dir, 0o750); err != nil {
		return err
	}
	queue := mns.NewMNSQueue(*queueName, mns.NewAliMNSClientWithConfig(mns.AliMNSClientConfig{
		EndPoint: *endpoint, AccessKeyId: id, AccessKeySecret: secret, Token: token}))
	return c.consume(ctx, queue, *once)
}

// isSafe reports whether requests to an endpoint are encrypted, or stay on this machine.
func isSafe(endpoint string) bool {
	u, err := url.Parse(endpoint)
	return err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http" && isLoopback(u))
}

func isLoopback(u *url.URL) bool { return net.ParseIP(u.Hostname()).IsLoopback() }

// consume handles the messages of the queue until ctx ends, or, once, until each was handled.
// A message is deleted last, so whatever ends the process before lets it come again. So
// does a download that outlasts the queue's visibility timeout, and then the file is
// there. Two processes may share a directory, but fetch such a file twice.
func (c *consumer) consume(ctx context.Context, queue mns.AliMNSQueue, once bool) error {
	var failure error
	open := make(map[string]bool) // messages that could not be handled
	for ctx.Err() == nil {
		received, failed := make(chan mns.MessageReceiveResponse, 1), make(chan error, 1)
		if once {
			go queue.ReceiveMessage(received, failed)
		} else {
			go queue.ReceiveMessage(received, failed, 30)
		}
		select {
		case message := <-received:
			if once && open[message.MessageId] {
				return failure
			}
			if err := c.handle(ctx, message.MessageBody); err != nil {
				failure = fmt.Errorf("message %s stays in the queue: %w", message.MessageId, err)
				open[message.MessageId] = once
				c.say("%v", failure)
			} else if err := queue.DeleteMessage(message.ReceiptHandle); err != nil {
				c.say("message %s is done, but will come again: %v", message.MessageId, err)
			}
		case err := <-failed:
			empty := mns.ERR_MNS_MESSAGE_NOT_EXIST.IsEqual(err)
			switch {
			case empty && once:
				return failure
			case once:
				return err
			case !empty:
				c.say("receiving: %v; again in 5 s", err)
				pause(ctx, 5*time.Second)
			}
		case <-ctx.Done():
		}
	}
	return nil
}

// result is what a consumer needs of a message in the result queue; the whole is in
// events/schema/result.schema.json.
type result struct {
	Source, ID, Type string
	Data             struct {
		BackupPlanID  string `json:"BackupPlanId"`
		BackupSetName string
		TaskID        string `json:"BackupSetDownloadTaskId"`
		ErrCode       string
		ErrMessage    string
	}
}

// handle does what a result asks for; nil lets its message be deleted. The Go SDK hands
// a body over as it was sent: RESULT_ENCODING must be raw.
func (c *consumer) handle(ctx context.Context, body string) error {
	var r result
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		return fmt.Errorf("it is not a result: %w", err)
	}
	key := [3]string{r.Source, r.ID, r.Type}
	if c.seen[key] {
		return nil
	}
	switch kind := strings.TrimPrefix(r.Type, "dbs:IncrementBackupSetDownload:"); kind {
	case "TaskFinished":
		if err := c.fetch(ctx, r); err != nil {
			return fmt.Errorf("task %s of %s: %w", r.Data.TaskID, r.Data.BackupSetName, err)
		}
	case "TaskFailed", "TaskStopped", "TaskUnfinished": // nothing to fetch: raise an alarm here
		var line strings.Builder
		for _, part := range [][2]string{{", plan ", r.Data.BackupPlanID}, {", set ", r.Data.BackupSetName},
			{", task ", r.Data.TaskID}, {": ", r.Data.ErrCode}, {": ", r.Data.ErrMessage}} {
			if part[1] != "" {
				line.WriteString(part[0] + part[1])
			}
		}
		c.say("%s: event %s%s", kind, r.ID, line.String())
	case "TaskCreated": // its end is a result of its own
	default:
		return fmt.Errorf("its type %q is unknown", r.Type)
	}
	c.seen[key] = true
	return nil
}

// fetch fetches the file of a finished task, unless it is there. It asks for a link at
// each attempt, since a link expires.
func (c *consumer) fetch(ctx context.Context, r result) error {
	name := filepath.Join(c.dir, fileName(r.Data.BackupPlanID, r.Data.BackupSetName, r.Data.TaskID))
	if _, err := os.Stat(name); err == nil {
		return nil
	}
	var err error
	for attempt := range 3 {
		if attempt > 0 && !pause(ctx, time.Second) {
			break
		}
		if err = c.download(ctx, r.Data.TaskID, name+".part"); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	// Both are on the disk before the message is deleted.
	if err := os.Rename(name+".part", name); err != nil {
		return err
	}
	dir, err := os.Open(c.dir)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	c.say("TaskFinished: %s", name)
	return dir.Sync()
}

// fileName joins parts so that different ones make different names, of characters that
// every file system takes.
func fileName(parts ...string) string {
	for i, part := range parts {
		var name strings.Builder
		for _, c := range []byte(part) {
			if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' && name.Len() > 0 {
				name.WriteByte(c)
			} else {
				fmt.Fprintf(&name, "%%%02X", c)
			}
		}
		parts[i] = name.String()
	}
	name := strings.Join(parts, "_")
	if len(name) > 200 {
		sum := sha256.Sum256([]byte(name))
		name = name[:130] + "_" + hex.EncodeToString(sum[:])
	}
	return name
}

func (c *consumer) say(format string, args ...any) { _, _ = fmt.Fprintf(c.out, format+"\n", args...) }

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
