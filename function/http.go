package function

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"increment-backup-download/handler"
)

// maxAnswer bounds what is read of an answer. Those of DBS and MNS have a few
// kilobytes at the most.
const maxAnswer = 1 << 20

// newHTTPClient returns a client that keeps up to the given number of connections
// to its one host, and opens no more. A request of up to writeBuffer bytes is
// written at once: only then can net/http tell, on a stale connection, that the
// server has not had it.
func newHTTPClient(connections, writeBuffer int) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: 5 * time.Second,
			MaxConnsPerHost:     connections,
			MaxIdleConnsPerHost: connections,
			IdleConnTimeout:     60 * time.Second,
			WriteBufferSize:     writeBuffer,
			DisableCompression:  true,
		},
		// A redirect would carry the security token to another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// answer is a service's answer, read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// notAnAnswer is the adapters' word, where a service has its error code, for an
// answer that is not in the service's own form.
const notAnAnswer = "NotAnAnswer"

// statusError is an answer that is not in the service's own form: of a gateway,
// a proxy or a redirect. The SDKs lose the status of such an answer.
type statusError struct{ status int }

func (e *statusError) Error() string {
	return fmt.Sprintf("HTTP status %d with a body that is not the service's", e.status)
}

// exchange sends a request and reads the answer.
func exchange(client *http.Client, request *http.Request) (answer, error) {
	// An instance that was frozen holds connections that the server has closed
	// since. With this header present, even without a value, which keeps it off the
	// wire, net/http takes a POST to be replayable on a fresh connection.
	request.Header["X-Idempotency-Key"] = []string{}
	response, err := client.Do(request)
	if err != nil {
		// A url.Error prints the query string.
		var urlError *url.Error
		if errors.As(err, &urlError) {
			err = urlError.Err
		}
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return answer{}, fmt.Errorf("reading the answer: %w", err)
	}
	if len(body) > maxAnswer {
		return answer{}, fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	}
	return answer{status: response.StatusCode, header: response.Header, body: body}, nil
}

// statusKind classifies an answer whose code is not known.
func statusKind(status int) (kind handler.Kind, throttled bool) {
	switch status {
	case http.StatusTooManyRequests:
		return handler.Transient, true
	case http.StatusUnauthorized, http.StatusForbidden:
		return handler.OperatorFault, false
	}
	return handler.Transient, false
}
