// Command minimal is a yardstick of the benchmark: the least that creates a task
// for each event of a batch and publishes the results, signing and sending the
// same requests over plain net/http. It trusts its input, its services and its
// luck: one shape of payload, no classification, no retry, no deadline, no log.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/aliyun/fc-runtime-go-sdk/fc"
	"github.com/aliyun/fc-runtime-go-sdk/fccontext"
)

const (
	inFlight  = 16
	perBatch  = 16
	emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // SHA-256 of nothing
)

type event struct {
	ID   string `json:"id"`
	Data struct {
		MessageBody string `json:"messageBody"`
	} `json:"data"`
}

type client struct {
	http               *http.Client
	dbs, mns, resource string
	escape             *strings.Replacer // of XML text
}

func main() {
	runtime.GOMAXPROCS(1) // an instance of up to 1,024 MB has at most one CPU
	c := &client{
		http: &http.Client{Transport: &http.Transport{
			MaxConnsPerHost: inFlight, MaxIdleConnsPerHost: inFlight, WriteBufferSize: 64 << 10, DisableCompression: true,
		}},
		dbs: os.Getenv("DBS_ENDPOINT"), mns: os.Getenv("MNS_ENDPOINT"), resource: "/queues/" + os.Getenv("RESULT_QUEUE") + "/messages",
		escape: strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;"),
	}
	fc.Start(c.handle)
}

func (c *client) handle(ctx context.Context, payload []byte) (json.RawMessage, error) {
	invocation, _ := fccontext.FromContext(ctx)
	var batch []event
	if err := json.Unmarshal(payload, &batch); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work, results := make(chan event), make(chan string, perBatch)
	var callers sync.WaitGroup
	for range min(inFlight, len(batch)) {
		callers.Go(func() {
			for e := range work {
				result, err := c.create(ctx, invocation.Credentials, e)
				if err != nil {
					cancel(err)
					continue
				}
				results <- result
			}
		})
	}
	go func() {
		for _, e := range batch {
			work <- e
		}
		close(work)
		callers.Wait()
		close(results)
	}()
	var waiting []string
	for result := range results {
		if waiting = append(waiting, result); len(waiting) == perBatch {
			if err := c.publish(ctx, invocation.Credentials, waiting); err != nil {
				cancel(err)
			}
			waiting = waiting[:0]
		}
	}
	if len(waiting) > 0 {
		if err := c.publish(ctx, invocation.Credentials, waiting); err != nil {
			cancel(err)
		}
	}
	return json.RawMessage("{}"), context.Cause(ctx)
}

func (c *client) create(ctx context.Context, key fccontext.Credentials, e event) (string, error) {
	var item struct{ BackupSetJobID, BackupSetID string }
	if err := json.Unmarshal([]byte(e.Data.MessageBody), &item); err != nil {
		return "", err
	}
	query := "BackupSetId=" + url.QueryEscape(item.BackupSetJobID) + "&BackupSetName=" + url.QueryEscape(item.BackupSetID) + "&ClientToken=" + url.QueryEscape(e.ID)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.dbs+"/?"+query, nil)
	if err != nil {
		return "", err
	}
	const names = "host;x-acs-accesskey-id;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-security-token;x-acs-signature-nonce;x-acs-version"
	now := time.Now().UTC()
	date, nonce := now.Format("2006-01-02T15:04:05Z"), rand.Text()
	sum := sha256.Sum256([]byte("POST\n/\n" + query + "\nhost:" + request.URL.Host + "\nx-acs-accesskey-id:" + key.AccessKeyId +
		"\nx-acs-action:CreateIncrementBackupSetDownload\nx-acs-content-sha256:" + emptyHash + "\nx-acs-date:" + date +
		"\nx-acs-security-token:" + key.SecurityToken + "\nx-acs-signature-nonce:" + nonce + "\nx-acs-version:2019-03-06\n\n" + names + "\n" + emptyHash))
	mac := hmac.New(sha256.New, []byte(key.AccessKeySecret))
	mac.Write([]byte("ACS3-HMAC-SHA256\n" + hex.EncodeToString(sum[:])))
	request.Header = http.Header{
		"X-Acs-Accesskey-Id":    {key.AccessKeyId},
		"X-Acs-Action":          {"CreateIncrementBackupSetDownload"},
		"X-Acs-Content-Sha256":  {emptyHash},
		"X-Acs-Date":            {date},
		"X-Acs-Security-Token":  {key.SecurityToken},
		"X-Acs-Signature-Nonce": {nonce},
		"X-Acs-Version":         {"2019-03-06"},
		"Authorization": {"ACS3-HMAC-SHA256 Credential=" + key.AccessKeyId + ",SignedHeaders=" + names +
			",Signature=" + hex.EncodeToString(mac.Sum(nil))},
	}
	body, err := c.send(request)
	if err != nil {
		return "", err
	}
	var answer struct {
		Success                            bool
		BackupSetDownloadTaskID, RequestID string
	}
	if err := json.Unmarshal(body, &answer); err != nil || !answer.Success {
		return "", fmt.Errorf("%s: %w", body, err)
	}
	return `{"specversion":"1.0","id":"` + e.ID + `","source":"acs:fc:cn-hangzhou:1234567890123456:functions/increment-backup-download",` +
		`"type":"dbs:IncrementBackupSetDownload:TaskCreated","subject":"` + item.BackupSetID + `","time":"` + now.Format("2006-01-02T15:04:05.000Z") +
		`","datacontenttype":"application/json","data":{"EventId":"` + e.ID + `","ClientToken":"` + e.ID + `","BackupSetId":"` + item.BackupSetJobID +
		`","BackupSetName":"` + item.BackupSetID + `","BackupSetDownloadTaskId":"` + answer.BackupSetDownloadTaskID + `","RequestId":"` + answer.RequestID + `"}}`, nil
}

func (c *client) publish(ctx context.Context, key fccontext.Credentials, bodies []string) error {
	var xml strings.Builder
	xml.WriteString(`<Messages>`)
	for _, body := range bodies {
		xml.WriteString("<Message><MessageBody>")
		_, _ = c.escape.WriteString(&xml, body)
		xml.WriteString("</MessageBody><Priority>8</Priority></Message>")
	}
	xml.WriteString("</Messages>")
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.mns+c.resource, strings.NewReader(xml.String()))
	if err != nil {
		return err
	}
	sum := md5.Sum([]byte(xml.String()))
	digest, date := base64.StdEncoding.EncodeToString(sum[:]), time.Now().UTC().Format(http.TimeFormat)
	mac := hmac.New(sha1.New, []byte(key.AccessKeySecret))
	mac.Write([]byte("POST\n" + digest + "\napplication/xml\n" + date + "\nx-mns-version:2015-06-06\n" + c.resource))
	request.Header = http.Header{
		"Content-Md5":    {digest},
		"Content-Type":   {"application/xml"},
		"Date":           {date},
		"X-Mns-Version":  {"2015-06-06"},
		"Security-Token": {key.SecurityToken},
		"Authorization":  {"MNS " + key.AccessKeyId + ":" + base64.StdEncoding.EncodeToString(mac.Sum(nil))},
	}
	_, err = c.send(request)
	return err
}

func (c *client) send(request *http.Request) ([]byte, error) {
	// With this header, which is not sent, net/http repeats a POST that met a
	// connection which the service had closed: net/http, Request.isReplayable.
	request.Header["X-Idempotency-Key"] = nil
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK && response.StatusCode != http.StatusCreated {
		err = fmt.Errorf("HTTP %d: %s", response.StatusCode, body)
	}
	return body, err
}
