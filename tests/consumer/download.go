package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// stalled is how long a download may bring nothing.
const stalled = time.Minute

// download brings a part of a file up to the whole, and onto the disk. Each byte is
// written at its own place, so two processes that write the same part do no harm.
func (c *consumer) download(ctx context.Context, taskID, part string) (err error) {
	link, size, err := c.dbs.link(ctx, taskID, c.intranet)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stall := time.AfterFunc(stalled, cancel)
	defer stall.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
	if err != nil {
		return withoutURL(err)
	}
	have, total := info.Size(), int64(-1)
	request.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	answer, err := client.Do(request)
	if err != nil {
		return withoutURL(err)
	}
	defer func() { _ = answer.Body.Close() }()
	start := have
	switch answer.StatusCode {
	case http.StatusOK: // the whole, whatever was asked for
		start, total = 0, answer.ContentLength
	case http.StatusPartialContent:
		_, err = fmt.Sscanf(answer.Header.Get("Content-Range"), "bytes %d-%d/%d", &start, new(int64), &total)
	case http.StatusRequestedRangeNotSatisfiable: // there is no more
		_, err = fmt.Sscanf(answer.Header.Get("Content-Range"), "bytes */%d", &total)
		answer.Body = http.NoBody
	default:
		return fmt.Errorf("the link was answered with HTTP %d", answer.StatusCode)
	}
	switch {
	case err != nil || total < 0 || start > have:
		return errors.New("the answer to the link does not say which part of the file it is")
	case size > 0 && total != size && !c.anySize:
		return fmt.Errorf("the file has %d bytes, and DBS says %d; -any-size accepts that", total, size)
	case have > total:
		return errors.Join(fmt.Errorf("%d bytes of %d were there, and are fetched again", have, total), os.Remove(part))
	}
	n, err := io.Copy(io.NewOffsetWriter(file, start), progress{answer.Body, stall})
	if err != nil {
		return withoutURL(err)
	}
	if start+n != total {
		return fmt.Errorf("%d bytes of %d came", start+n, total)
	}
	return file.Sync()
}

// progress puts a timer off at each read.
type progress struct {
	io.Reader
	stall *time.Timer
}

func (p progress) Read(b []byte) (int, error) {
	p.stall.Reset(stalled)
	return p.Reader.Read(b)
}

// client follows no redirect: with one, a signature or a link would go to whoever it
// names. DBS and OSS send none.
var client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// withoutURL takes the URL out of an error of net/http: who has a link has the backup.
func withoutURL(err error) error {
	var about *url.Error
	if errors.As(err, &about) {
		return about.Err
	}
	return err
}

// secure returns a link of DBS as a URL. The official sample of its JSON has quotes
// within the text, and no scheme:
// https://help.aliyun.com/zh/dms/developer-reference/api-dbs-2019-03-06-describebackupsetdownloadtasklist
func secure(link string) (string, error) {
	link = strings.Trim(link, "\" ")
	if _, rest, ok := strings.Cut(link, "//"); ok {
		link = rest
	}
	u, err := url.Parse("https://" + link)
	if err != nil || u.Host == "" {
		return "", errors.New("DBS gives a link that is none")
	}
	if isLoopback(u) { // a stand-in
		u.Scheme = "http"
	}
	return u.String(), nil
}

// dbsClient calls one operation of DBS.
type dbsClient struct{ endpoint, id, secret, token string }

// link returns the link to the file of a finished task, and the file's size.
func (d dbsClient) link(ctx context.Context, taskID string, intranet bool) (link string, size int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := d.sign(ctx, "DescribeBackupSetDownloadTaskList", url.Values{"BackupSetDownloadTaskId": {taskID}})
	if err != nil {
		return "", 0, withoutURL(err)
	}
	answer, err := client.Do(request)
	if err != nil {
		return "", 0, withoutURL(err)
	}
	defer func() { _ = answer.Body.Close() }()
	var list struct {
		Success                  bool
		Code, ErrCode, RequestID string
		Items                    struct {
			BackupSetDownloadTaskDetail []struct {
				BackupSetDownloadTaskID      string `json:"BackupSetDownloadTaskId"`
				BackupSetDownloadStatus      string
				BackupSetDownloadInternetURL string `json:"BackupSetDownloadInternetUrl"`
				BackupSetDownloadIntranetURL string `json:"BackupSetDownloadIntranetUrl"`
				BackupSetDataSize            int64
			}
		}
	}
	err = json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&list)
	if err != nil || answer.StatusCode != http.StatusOK || !list.Success {
		return "", 0, fmt.Errorf("DBS answered HTTP %d %s%s, request %s", answer.StatusCode, list.Code, list.ErrCode, list.RequestID)
	}
	for _, task := range list.Items.BackupSetDownloadTaskDetail {
		if task.BackupSetDownloadTaskID != taskID {
			continue
		}
		link := task.BackupSetDownloadInternetURL
		if intranet {
			link = task.BackupSetDownloadIntranetURL
		}
		if task.BackupSetDownloadStatus != "finish" || link == "" {
			return "", 0, fmt.Errorf("DBS says %q, and gives no link", task.BackupSetDownloadStatus)
		}
		link, err = secure(link)
		return link, task.BackupSetDataSize, err
	}
	return "", 0, errors.New("DBS does not list it")
}

// sign returns a request with the V3 signature (ACS3-HMAC-SHA256). See
// https://www.alibabacloud.com/help/en/sdk/product-overview/v3-request-structure-and-signature.
func (d dbsClient) sign(ctx context.Context, action string, query url.Values) (*http.Request, error) {
	encoded := strings.ReplaceAll(query.Encode(), "+", "%20") // sorted by name
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(d.endpoint, "/")+"/?"+encoded, nil)
	if err != nil {
		return nil, err
	}
	empty := sha256.Sum256(nil)
	headers := [][2]string{ // in the order of their names
		{"host", request.URL.Host},
		{"x-acs-action", action},
		{"x-acs-content-sha256", hex.EncodeToString(empty[:])},
		{"x-acs-date", time.Now().UTC().Format("2006-01-02T15:04:05Z")},
		{"x-acs-security-token", d.token},
		{"x-acs-signature-nonce", rand.Text()},
		{"x-acs-version", "2019-03-06"},
	}
	lines, names := []string{"POST", "/", encoded}, []string{}
	for _, header := range headers {
		if header[1] != "" {
			request.Header.Set(header[0], header[1])
			lines = append(lines, header[0]+":"+header[1])
			names = append(names, header[0])
		}
	}
	signed := strings.Join(names, ";")
	sum := sha256.Sum256([]byte(strings.Join(append(lines, "", signed, hex.EncodeToString(empty[:])), "\n")))
	mac := hmac.New(sha256.New, []byte(d.secret))
	mac.Write([]byte("ACS3-HMAC-SHA256\n" + hex.EncodeToString(sum[:])))
	request.Header.Set("Authorization", "ACS3-HMAC-SHA256 Credential="+d.id+",SignedHeaders="+signed+
		",Signature="+hex.EncodeToString(mac.Sum(nil)))
	return request, nil
}
