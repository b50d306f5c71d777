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
	"time"
)

// userAgent names the function to the services.
const userAgent = "increment-backup-download"

// The largest answers that are read. A page of 100 rows usually has some 200 KB, and
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

// quiet passes lines of the standard logger on, except those in which net/http quotes what
// a server sends after an answer: there may be a signed link to a backup in them.
type quiet struct{ out io.Writer }

func (q quiet) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("Unsolicited response")) {
		return len(line), nil
	}
	return q.out.Write(line)
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
	date, _ := http.ParseTime(a.header.Get("Date"))
	return date
}

// exchange sends a request and reads the answer, of at most limit bytes. Once ctx has
// ended, its error says so: net/http may return the cause, which does not.
func exchange(
	ctx context.Context, transport *http.Transport, method, target string, header http.Header, body []byte, limit int64,
) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	request.Header = header
	// An instance that was frozen holds connections that the server has closed
	// since. If this header is present, even without a value, which keeps it off the
	// wire, net/http sends a POST again on the next connection, until a fresh one: see
	// https://pkg.go.dev/net/http#Transport
	header["X-Idempotency-Key"] = []string{}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return answer{}, errors.Join(ctx.Err(), err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode < 200 { // 101: the body is the connection, and no longer ends with ctx
		return answer{status: response.StatusCode, header: response.Header}, nil
	}
	var read bytes.Buffer
	read.Grow(int(min(max(response.ContentLength, 0), limit)) + bytes.MinRead)
	size, err := read.ReadFrom(io.LimitReader(response.Body, limit+1))
	if err == nil && size > limit {
		err = fmt.Errorf("it is larger than %d bytes", limit)
	}
	if err != nil {
		return answer{}, errors.Join(ctx.Err(), fmt.Errorf("reading the answer: %w", err))
	}
	return answer{status: response.StatusCode, header: response.Header, body: read.Bytes()}, nil
}
