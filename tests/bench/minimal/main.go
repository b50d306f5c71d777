// Command minimal is a yardstick of the benchmark: the least that creates a task
// for each event of a batch and publishes the results, signing and sending the
// same requests over plain net/http. It trusts its input, its services and its
// luck: one shape of payload, no classification, no retry, no deadline.
package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/aliyun/fc-runtime-go-sdk/fc"
	"github.com/aliyun/fc-runtime-go-sdk/fccontext"
)

const (
	inFlight = 16
	perBatch = 16
)

type event struct {
	ID   string `json:"id"`
	Data struct {
		MessageBody string `json:"messageBody"`
	} `json:"data"`
}

type client struct {
	http          *http.Client
	dbs, mns      string
	queue         string
	emptyBodyHash string
}

func main() {
	empty := sha256.Sum256(nil)
	c := &client{
		http: &http.Client{Transport: &http.Transport{MaxConnsPerHost: inFlight, MaxIdleConnsPerHost: inFlight, DisableCompression: true}},
		dbs:  os.Getenv("DBS_ENDPOINT"), mns: os.Getenv("MNS_ENDPOINT"), queue: os.Getenv("RESULT_QUEUE"),
		emptyBodyHash: hex.EncodeToString(empty[:]),
	}
	fc.Start(c.handle)
}

func (c *client) handle(ctx context.Context, payload []byte) (json.RawMessage, error) {
	invocation, _ := fccontext.FromContext(ctx)
	var batch []event
	if err := json.Unmarshal(payload, &batch); err != nil {
		return nil, err
	}
	work, results := make(chan event), make(chan string, perBatch)
	var callers sync.WaitGroup
	for range min(inFlight, len(batch)) {
		callers.Go(func() {
			for e := range work {
				result, err := c.create(ctx, invocation.Credentials, e)
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
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
				return nil, err
			}
			waiting = waiting[:0]
		}
	}
	if len(waiting) > 0 {
		if err := c.publish(ctx, invocation.Credentials, waiting); err != nil {
			return nil, err
		}
	}
	return json.RawMessage("{}"), nil
}

func (c *client) create(ctx context.Context, key fccontext.Credentials, e event) (string, error) {
	var item struct{ BackupSetJobID, BackupSetID string }
	if err := json.Unmarshal([]byte(e.Data.MessageBody), &item); err != nil {
		return "", err
	}
	query := strings.ReplaceAll(url.Values{"BackupSetId": {item.BackupSetJobID}, "BackupSetName": {item.BackupSetID}, "ClientToken": {e.ID}}.Encode(), "+", "%20")
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.dbs+"/?"+query, nil)
	if err != nil {
		return "", err
	}
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce)
	signed := []struct{ name, value string }{
		{"host", request.Host},
		{"x-acs-accesskey-id", key.AccessKeyId},
		{"x-acs-action", "CreateIncrementBackupSetDownload"},
		{"x-acs-content-sha256", c.emptyBodyHash},
		{"x-acs-date", time.Now().UTC().Format("2006-01-02T15:04:05Z")},
		{"x-acs-security-token", key.SecurityToken},
		{"x-acs-signature-nonce", hex.EncodeToString(nonce)},
		{"x-acs-version", "2019-03-06"},
	}
	var headers, names strings.Builder
	for i, h := range signed {
		headers.WriteString(h.name + ":" + h.value + "\n")
		if i > 0 {
			names.WriteByte(';')
			request.Header.Set(h.name, h.value)
		}
		names.WriteString(h.name)
	}
	sum := sha256.Sum256([]byte("POST\n/\n" + query + "\n" + headers.String() + "\n" + names.String() + "\n" + c.emptyBodyHash))
	mac := hmac.New(sha256.New, []byte(key.AccessKeySecret))
	_, _ = io.WriteString(mac, "ACS3-HMAC-SHA256\n"+hex.EncodeToString(sum[:]))
	request.Header.Set("Authorization", "ACS3-HMAC-SHA256 Credential="+key.AccessKeyId+",SignedHeaders="+names.String()+",Signature="+hex.EncodeToString(mac.Sum(nil)))
	var answer struct {
		Success                 bool
		BackupSetDownloadTaskID string
		RequestID               string
	}
	body, err := c.send(request)
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	if err != nil || !answer.Success {
		return "", fmt.Errorf("%s: %w", body, err)
	}
	result, err := json.Marshal(map[string]any{
		"specversion": "1.0", "id": e.ID, "source": "acs:fc:cn-hangzhou:1234567890123456:functions/increment-backup-download",
		"type": "dbs:IncrementBackupSetDownload:TaskCreated", "subject": item.BackupSetID,
		"time": time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), "datacontenttype": "application/json",
		"data": map[string]string{"EventId": e.ID, "ClientToken": e.ID, "BackupSetId": item.BackupSetJobID, "BackupSetName": item.BackupSetID,
			"BackupSetDownloadTaskId": answer.BackupSetDownloadTaskID, "RequestId": answer.RequestID},
	})
	return string(result), err
}

func (c *client) publish(ctx context.Context, key fccontext.Credentials, bodies []string) error {
	type message struct {
		XMLName     xml.Name `xml:"Message"`
		MessageBody string
		Priority    int
	}
	var batch struct {
		XMLName  xml.Name `xml:"Messages"`
		Messages []message
	}
	for _, body := range bodies {
		batch.Messages = append(batch.Messages, message{MessageBody: body, Priority: 8})
	}
	body, err := xml.Marshal(batch)
	if err != nil {
		return err
	}
	resource := "/queues/" + c.queue + "/messages"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.mns+resource, bytes.NewReader(body))
	if err != nil {
		return err
	}
	sum := md5.Sum(body)
	digest, date := base64.StdEncoding.EncodeToString(sum[:]), time.Now().UTC().Format(http.TimeFormat)
	mac := hmac.New(sha1.New, []byte(key.AccessKeySecret))
	_, _ = io.WriteString(mac, "POST\n"+digest+"\napplication/xml\n"+date+"\nx-mns-version:2015-06-06\n"+resource)
	for name, value := range map[string]string{
		"Content-MD5": digest, "Content-Type": "application/xml", "Date": date, "x-mns-version": "2015-06-06", "security-token": key.SecurityToken,
		"Authorization": "MNS " + key.AccessKeyId + ":" + base64.StdEncoding.EncodeToString(mac.Sum(nil)),
	} {
		request.Header.Set(name, value)
	}
	_, err = c.send(request)
	return err
}

func (c *client) send(request *http.Request) ([]byte, error) {
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= 300 {
		err = fmt.Errorf("HTTP %d: %s", response.StatusCode, body)
	}
	return body, err
}
