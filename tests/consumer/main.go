// Command consumer fetches the file of each finished download task into a directory. It
// is an example to copy: one file, which needs nothing else of this module.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	openapiutil "github.com/alibabacloud-go/darabonba-openapi/v2/utils"
	"github.com/alibabacloud-go/tea/dara"
	mns "github.com/aliyun/aliyun-mns-go-sdk"
)

const usage = `Fetch the file of each finished download task into a directory.

  go run ./tests/consumer -mns https://<account>.mns.<region>.aliyuncs.com \
      -dbs https://dbs-api.<region>.aliyuncs.com -dir downloads

Set ALIBABA_CLOUD_ACCESS_KEY_ID, ALIBABA_CLOUD_ACCESS_KEY_SECRET and, for an assumed role,
ALIBABA_CLOUD_SECURITY_TOKEN; policy.json has the permissions. A file is <plan>_<set>_<task>, and
ends in .part until it is complete. You may stop the program at any time: start it to go on.

`

type consumer struct {
	dbs               *openapi.Client
	dir               *os.File
	intranet, anySize bool
	seen              map[[3]string]bool // source, id and type of each result handled since the start
}

func main() {
	mnsEndpoint := flag.String("mns", "", "MNS `endpoint`, public or private")
	queue := flag.String("queue", "increment-backup-results", "`name` of the result queue")
	dbsEndpoint := flag.String("dbs", "", "DBS `endpoint`")
	dir := flag.String("dir", "downloads", "`directory` for the files")
	intranet := flag.Bool("intranet", false, "fetch by the intranet link, from the region of the plan")
	anySize := flag.Bool("any-size", false, "accept a file if DBS lists another size")
	flag.Usage = func() { _, _ = io.WriteString(flag.CommandLine.Output(), usage); flag.PrintDefaults() }
	flag.Parse()
	getenv := os.Getenv //nolint:forbidigo // the settings of this program
	id, secret := getenv("ALIBABA_CLOUD_ACCESS_KEY_ID"), getenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET")
	token := getenv("ALIBABA_CLOUD_SECURITY_TOKEN")
	// Requests go out with TLS, or to this machine, or to private endpoints of MNS, which have none.
	safe := regexp.MustCompile(`^(https://[\w.-]+(:\d+)?|http://(127\.0\.0\.1|\[::1])(:\d+)?|` +
		`http://\d+\.mns\.[a-z0-9-]+-internal(-vpc)?\.aliyuncs\.com)(/|$)`)
	switch {
	case id == "" || secret == "":
		log.Fatal("set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET")
	case !safe.MatchString(*mnsEndpoint) || strings.Count(*mnsEndpoint, ".") != 4: // the SDK panics
		log.Fatal("-mns: give https://<account>.mns.<region>.aliyuncs.com")
	case !safe.MatchString(*dbsEndpoint):
		log.Fatal("-dbs: give https://dbs-api.<region>.aliyuncs.com")
	}
	protocol, host, _ := strings.Cut(strings.TrimSuffix(*dbsEndpoint, "/"), "://")
	dbs, err := openapi.NewClient(&openapiutil.Config{Protocol: &protocol, Endpoint: &host, HttpClient: web,
		AccessKeyId: &id, AccessKeySecret: &secret, SecurityToken: &token})
	if err = errors.Join(err, os.MkdirAll(*dir, 0o750)); err != nil {
		log.Fatal(err)
	}
	dbs.DisableSDKError = dara.Bool(true) // keeps the types of errors
	files, err := os.Open(*dir)
	if err != nil {
		log.Fatal(err)
	}
	c := consumer{dbs, files, *intranet, *anySize, make(map[[3]string]bool)}
	c.consume(mns.NewMNSQueue(*queue, mns.NewAliMNSClientWithConfig(mns.AliMNSClientConfig{
		EndPoint: *mnsEndpoint, AccessKeyId: id, AccessKeySecret: secret, Token: token})))
}

// consume handles one message after another, and deletes each last. A message that is not
// deleted within the queue's visibility timeout comes again.
func (c *consumer) consume(queue mns.AliMNSQueue) {
	for {
		received, failed := make(chan mns.MessageReceiveResponse, 1), make(chan error, 1)
		queue.ReceiveMessage(received, failed, 30) // waits up to 30 s, then sends to one of them
		select {
		case message := <-received:
			if err := c.handle(message.MessageBody); err != nil {
				log.Printf("message %s stays in the queue: %v", message.MessageId, err)
			} else if err := queue.DeleteMessage(message.ReceiptHandle); err != nil {
				log.Printf("message %s is done, but will come again: %v", message.MessageId, err)
			}
		case err := <-failed:
			if !mns.ERR_MNS_MESSAGE_NOT_EXIST.IsEqual(err) {
				log.Printf("receiving: %v; again in 5 s", err)
				<-time.After(5 * time.Second)
			}
		}
	}
}

// handle does what a result asks for. If it returns nil, the message may be deleted.
func (c *consumer) handle(body string) error {
	if text, err := base64.StdEncoding.DecodeString(body); err == nil { // RESULT_ENCODING is base64
		body = string(text)
	}
	var r struct { // the rest: events/schema/result.schema.json
		Source, ID, Type string
		Data             struct{ BackupPlanID, BackupSetName, BackupSetDownloadTaskID, ErrMessage string }
	}
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		return fmt.Errorf("it is no result: %w", err)
	}
	plan, set, task := r.Data.BackupPlanID, r.Data.BackupSetName, r.Data.BackupSetDownloadTaskID
	key := [3]string{r.Source, r.ID, r.Type}
	if c.seen[key] {
		return nil
	}
	switch kind := strings.TrimPrefix(r.Type, "dbs:IncrementBackupSetDownload:"); kind {
	case "TaskFinished":
		path := filepath.Join(c.dir.Name(), fileName(plan, set, task))
		err := c.fetch(task, path)
		if about, ok := errors.AsType[*url.Error](err); ok {
			err = about.Err // without the link, which gives access to the backup
		}
		if err != nil {
			return fmt.Errorf("task %s of %s: %w", task, set, err)
		}
		log.Printf("%s: %s", kind, path)
	case "TaskFailed", "TaskStopped", "TaskUnfinished": // nothing to fetch: raise an alarm here
		log.Printf("%s: plan %q, set %q, task %q, event %q: %q", kind, plan, set, task, r.ID, r.Data.ErrMessage)
	case "TaskCreated": // another result will say how the task ended
	default:
		return fmt.Errorf("its type %q is unknown", r.Type)
	}
	c.seen[key] = true
	return nil
}

// fileName joins three names with underscores, in characters that every file system
// takes. Task IDs are unique, so the other two may be cut.
func fileName(plan, set, task string) string {
	escape := func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "_", "%5F") }
	return fmt.Sprintf("%.60s_%.120s_%s", escape(plan), escape(set), escape(task))
}

// fetch brings the file of a finished task to a path, unless it is there already. What an
// earlier attempt left in path.part is kept, and each byte is written at its own place, so
// two processes may write one part. The file gets its name when it is on the disk.
func (c *consumer) fetch(task, path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	link, size, err := c.link(task) // a new one for each attempt, since links expire
	if err != nil {
		return err
	}
	part, err := os.OpenFile(path+".part", os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = part.Close() }()
	have, _ := part.Seek(0, io.SeekEnd) // if that fails, the whole file is fetched
	if size > 0 && !c.anySize {
		have = min(have, size)
	}
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, link, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Range", fmt.Sprintf("bytes=%d-", max(have-1, 0))) // the last byte at least
	answer, err := web.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	at, total := int64(0), answer.ContentLength // if it is the whole file
	if answer.StatusCode == http.StatusPartialContent {
		_, err = fmt.Sscanf(answer.Header.Get("Content-Range"), "bytes %d-%d/%d", &at, new(int64), &total)
	}
	switch {
	case answer.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return errors.Join(errors.New("more is there than the file has: the next attempt starts anew"), part.Truncate(0))
	case answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusPartialContent:
		return fmt.Errorf("the link was answered with HTTP %d", answer.StatusCode)
	case err != nil || at > have || at > total:
		return errors.New("the answer to the link does not say which part of the file it is")
	case size > 0 && total != size && !c.anySize:
		return fmt.Errorf("the file has %d bytes, and DBS lists %d; -any-size accepts that", total, size)
	}
	if n, err := io.CopyN(io.NewOffsetWriter(part, at), answer.Body, total-at); err != nil {
		return fmt.Errorf("%d bytes of %d are there: %w", at+n, total, err)
	}
	if err := errors.Join(part.Truncate(total), part.Sync(), part.Close()); err != nil {
		return err
	}
	return errors.Join(os.Rename(part.Name(), path), c.dir.Sync())
}

// link asks DBS for a link to the file of a finished task, and for the file's size.
func (c *consumer) link(task string) (link string, size int64, err error) {
	query := map[string]*string{"BackupSetDownloadTaskId": &task}
	answer, err := c.dbs.CallApi(&openapiutil.Params{Action: dara.String("DescribeBackupSetDownloadTaskList"),
		Version: dara.String("2019-03-06"), Method: dara.String("POST"), Pathname: dara.String("/"),
		BodyType: dara.String("string")}, &openapiutil.OpenApiRequest{Query: query}, &dara.RuntimeOptions{})
	if refused, ok := errors.AsType[dara.ResponseError](err); ok { // its text may hold what was signed, with the token
		return "", 0, fmt.Errorf("DBS answered HTTP %d %s, request %v", dara.IntValue(refused.GetStatusCode()),
			dara.StringValue(refused.GetCode()), refused.GetData()["RequestId"])
	}
	if err != nil {
		return "", 0, err
	}
	var list struct {
		ErrCode, RequestID string
		Items              struct {
			BackupSetDownloadTaskDetail []struct {
				BackupSetDownloadTaskID, BackupSetDownloadStatus           string
				BackupSetDownloadInternetURL, BackupSetDownloadIntranetURL string
				BackupSetDataSize                                          int64
			}
		}
	}
	err, status := json.Unmarshal([]byte(fmt.Sprint(answer["body"])), &list), "not listed"
	for _, row := range list.Items.BackupSetDownloadTaskDetail {
		if row.BackupSetDownloadTaskID == task {
			status, link, size = row.BackupSetDownloadStatus, row.BackupSetDownloadInternetURL, row.BackupSetDataSize
			if c.intranet {
				link = row.BackupSetDownloadIntranetURL
			}
		}
	}
	// In the samples of DBS a link has quotes, and no scheme. See
	// https://help.aliyun.com/zh/dms/developer-reference/api-dbs-2019-03-06-describebackupsetdownloadtasklist
	_, link, ok := strings.Cut(strings.Trim(link, `" `), "//")
	if err != nil || status != "finish" || !ok {
		return "", 0, fmt.Errorf("DBS gives no link: the task is %s; %s, request %s", status, list.ErrCode, list.RequestID)
	}
	return *c.dbs.Protocol + "://" + link, size, nil
}

// web follows no redirect, which would hand the token or the link to whoever it names. A
// file that takes longer than the timeout comes in several attempts.
var web = &client{http.Client{Timeout: 5 * time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error {
	return errors.New("a redirect is not followed")
}}}

type client struct{ http.Client } // implements dara.HttpClient

//nolint:gosec // G704: the endpoint is a setting, checked at the start
func (c *client) Call(r *http.Request, _ *http.Transport) (*http.Response, error) { return c.Do(r) }
