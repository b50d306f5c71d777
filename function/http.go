package function

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// userAgent names the function to the services.
const userAgent = "increment-backup-download"

// What is read of an answer, at most. A page of 100 rows usually has some 200 KB, and
// some megabytes if its tasks have failed with long messages.
const (
	maxDBSAnswer = 8 << 20
	maxMNSAnswer = 1 << 20
)

// newTransport returns a transport that keeps up to the given number of connections
// to its one host, and opens no more. A request of up to writeBuffer bytes is
// written at once: only then can net/http know, on a stale connection, that the
// server has not read any of it (persistConn.nwrite in net/http/transport.go).
//
// A transport, unlike a client, follows no redirect, which would carry the security
// token to another host.
func newTransport(connections, writeBuffer int) *http.Transport {
	return &http.Transport{
		Proxy:       http.ProxyFromEnvironment,
		DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12,
			// The services close idle connections, all of them while an instance is
			// frozen. A resumed handshake verifies no certificate again.
			ClientSessionCache: tls.NewLRUClientSessionCache(connections),
		},
		TLSHandshakeTimeout: 5 * time.Second,
		MaxConnsPerHost:     connections,
		MaxIdleConnsPerHost: connections,
		IdleConnTimeout:     60 * time.Second,
		WriteBufferSize:     writeBuffer,
		DisableCompression:  true,
	}
}

// answer is a service's answer, read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) ok() bool { return a.status >= 200 && a.status < 300 }

// date returns the time of the answer by the service's clock; zero if it does not say.
func (a answer) date() time.Time {
	date, err := http.ParseTime(a.header.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return date
}

// newRequest returns a request without a body. It is what http.NewRequest makes,
// without parsing the URL of each call again.
func newRequest(ctx context.Context, method string, target *url.URL, header http.Header) *http.Request {
	return (&http.Request{
		Method: method, URL: target, Host: target.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
}

// setBody gives a request a body, which can be sent again.
func setBody(request *http.Request, body []byte) {
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	request.Body, _ = open()
	request.GetBody = open
	request.ContentLength = int64(len(body))
}

// exchange sends a request and reads the answer, of at most limit bytes.
func exchange(transport *http.Transport, request *http.Request, limit int64) (answer, error) {
	// An instance that was frozen holds connections that the server has closed
	// since. If this header is present, even without a value, which keeps it off the
	// wire, net/http sends a POST again on a fresh connection: see
	// https://pkg.go.dev/net/http#Transport
	request.Header["X-Idempotency-Key"] = []string{}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return answer{}, inTime(request.Context(), err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := readBody(response, limit)
	if err != nil {
		return answer{}, inTime(request.Context(), fmt.Errorf("reading the answer: %w", err))
	}
	return answer{status: response.StatusCode, header: response.Header, body: body}, nil
}

// inTime returns the error of a request as one that ctx has ended, if it has:
// net/http may return the cause of its end, which says nothing of that.
func inTime(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		return errors.Join(ended, err)
	}
	return err
}

// readBody reads the body of an answer, at once if its length is known.
func readBody(response *http.Response, limit int64) ([]byte, error) {
	tooLarge := fmt.Errorf("it is larger than %d bytes", limit)
	switch length := response.ContentLength; {
	case length > limit:
		return nil, tooLarge
	case length > 0:
		body := make([]byte, length)
		_, err := io.ReadFull(response.Body, body)
		return body, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err == nil && int64(len(body)) > limit {
		return nil, tooLarge
	}
	return body, err
}
