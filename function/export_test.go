package function

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/url"

	"increment-backup-download/handler"
)

// What the tests of package function_test see of the adapters.

type AccessKey = accessKey

func NewAccessKey(id, secret, token string) *AccessKey { return &accessKey{id, secret, token} }

func NewDBS(endpoint string, connections int, fallback *AccessKey) handler.TaskCreator {
	return &dbsClient{endpoint: mustParse(endpoint), http: newHTTPClient(connections, dbsWriteBuffer), fallback: fallback}
}

func NewQueue(endpoint, name string, fallback *AccessKey) handler.Queue {
	return &mnsQueue{endpoint: mustParse(endpoint), name: name, http: newHTTPClient(mnsConnections, mnsWriteBuffer), fallback: fallback}
}

func mustParse(endpoint string) *url.URL {
	u, err := url.Parse(endpoint)
	if err != nil {
		panic(err)
	}
	return u
}

func ClassifyDBS(err error, header http.Header, key *AccessKey) error {
	return classifyDBS(err, header, key)
}

func ClassifyMNS(err error, key *AccessKey) error { return classifyMNS(err, "results", key) }

func NewStatusError(status int) error { return &statusError{status} }

func NewMNSRefusal(status int, code, message string) error {
	return &mnsError{status: status, code: code, message: message}
}

func ReadDBSAnswer(status int, body []byte) (handler.Task, error) {
	return readDBSAnswer(answer{status: status, body: body})
}

func SignMNS(request *http.Request, resource, secret string) string {
	return signMNS(request, resource, secret)
}

func InvocationOf(ctx context.Context) context.Context {
	invocation, _ := invocationOf(ctx)
	return invocation
}

func AccessKeyOf(ctx context.Context, fallback *AccessKey) (*AccessKey, error) {
	return accessKeyOf(ctx, fallback)
}

func LimitMemory(megabytes int) { limitMemory(megabytes) }

// Assemble makes a handler of an environment, as Run does.
func Assemble(getenv func(string) string, log io.Writer) (*handler.Handler, error) {
	s, err := readSettings(getenv)
	if err != nil {
		return nil, &SettingsError{mistakes: err}
	}
	return assemble(s, slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: s.logLevel}))), nil
}
