package function

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"increment-backup-download/handler"
	"increment-backup-download/handler/check"
	"increment-backup-download/handler/discovery"
	"increment-backup-download/handler/follow"
)

// What the tests of package function_test see of the adapters.

type Credential = credential

func NewCredential(id, secret, token string) Credential { return newCredential(id, secret, token) }

// DBS is the adapter of DBS, with all its ports.
type DBS interface {
	handler.TaskCreator
	discovery.Lister
	follow.TaskReader
	check.DBS
}

func NewDBS(endpoint string, connections int, fallback Credential) DBS {
	return &dbsClient{endpoint: mustParse(endpoint), http: newTransport(connections, 4<<10), fallback: fallback}
}

// NewQuiet returns what stands before the standard logger.
func NewQuiet(out io.Writer) io.Writer { return quiet{out} }

func NewQueue(endpoint, name string, fallback Credential) handler.Queue {
	return &mnsQueue{
		endpoint: mustParse(endpoint), name: name, http: newTransport(12, 64<<10), fallback: fallback,
	}
}

func mustParse(endpoint string) *url.URL { return must(url.Parse(endpoint)) }

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// Failure is what may go wrong with a call: an error that is no answer, or an answer.
type Failure struct {
	Err     error
	Status  int
	Header  http.Header
	Code    string // in the service's form
	Message string
	Foreign bool // not in the service's form
}

func (f Failure) err() error {
	switch {
	case f.Err != nil:
		return f.Err
	case f.Foreign:
		return foreign(answer{status: f.Status, header: f.Header}, f.Message)
	}
	return &refusal{status: f.Status, code: f.Code, message: f.Message, header: f.Header}
}

// ClassifyDBS classifies a failure, and what wrap makes of it, as one of the given
// operation.
func ClassifyDBS(f Failure, operation string, key Credential, wrap func(error) error) error {
	c := call{service: "DBS", host: "dbs.example.com", action: "dbs:" + operation,
		rules: dbsRules, credential: key, started: time.Now()}
	return c.classify(wrap(f.err()))
}

// ClassifyMNS does so for a request to a queue named results.
func ClassifyMNS(f Failure, action string, key Credential, wrap func(error) error) error {
	c := call{service: "MNS", host: "mns.example.com", action: action, queue: "results",
		rules: mnsRules, credential: key, started: time.Now()}
	return c.classify(wrap(f.err()))
}

// DBSCodes returns the codes of the table of DBS, prefixes with a *, and MNSCodes
// that of MNS.
func DBSCodes() []string { return codes(dbsRules()) }
func MNSCodes() []string { return codes(mnsRules()) }

func codes(rules []rule) (all []string) {
	for _, r := range rules {
		all = append(all, strings.Fields(r.codes)...)
	}
	return all
}

// ReadTask, ReadBackupSets and ReadDownloadTasks read an answer of DBS; their errors are
// classified.
func ReadTask(status int, body []byte) (handler.Task, error) { return readAs(status, body, readTask) }

func ReadBackupSets(status int, body []byte) (discovery.Page[discovery.BackupSet], error) {
	return readAs(status, body, page("IncrementBackupFile", backupSet.read))
}

func ReadDownloadTasks(status int, body []byte) (discovery.Page[discovery.DownloadTask], error) {
	return readAs(status, body, page(taskList, downloadTask.read))
}

func ReadBackupPlans(status int, body []byte) (discovery.Page[discovery.BackupPlan], error) {
	return readAs(status, body, page("BackupPlanDetail", backupPlan.read))
}

func readAs[T any](status int, body []byte, read func(answer) (T, error)) (T, error) {
	value, err := read(answer{status: status, body: body})
	if err != nil {
		pass := func(err error) error { return err }
		err = ClassifyDBS(Failure{Err: err}, "Operation", newCredential("id", "secret", ""), pass)
	}
	return value, err
}

// SignACS3 signs POST /?query, for a given date and nonce.
func SignACS3(host, action, query string, key Credential, date, nonce string) http.Header {
	return signACS3(host, action, query, key(), must(time.Parse(time.RFC3339, date)), nonce)
}

// NewHeader signs POST /?query as of now.
func NewHeader(host, action, query string, key Credential) http.Header {
	return signACS3(host, action, query, key(), time.Now(), rand.Text())
}

// CanonicalQuery returns the query of names and values, one after the other.
func CanonicalQuery(namesAndValues ...string) string {
	all := map[string]string{}
	for i := 0; i < len(namesAndValues); i += 2 {
		all[namesAndValues[i]] = namesAndValues[i+1]
	}
	return canonicalQuery(all)
}

func InvocationOf(ctx context.Context) context.Context {
	invocation, _ := invocationOf(ctx)
	return invocation
}

func CredentialOf(ctx context.Context, fallback Credential) (Credential, error) {
	return credentialOf(ctx, fallback)
}

// Holders returns a value of each type that holds credentials, or holds one that does.
func Holders(ctx context.Context, key Credential) map[string]any {
	settings := settings{dbsEndpoint: mustParse("https://dbs"), mnsEndpoint: mustParse("https://mns"), fallback: key}
	dbs := &dbsClient{endpoint: settings.dbsEndpoint, fallback: key}
	queue := &mnsQueue{endpoint: settings.mnsEndpoint, fallback: key}
	attempt := &call{host: "h", rules: dbsRules, credential: key}
	request := &mnsCall{ctx: ctx, queue: queue, attempt: attempt}
	return map[string]any{
		"credential": key, "settings": settings, "*settings": &settings, "dbsClient": *dbs, "*dbsClient": dbs,
		"mnsQueue": *queue, "*mnsQueue": queue, "call": *attempt, "*call": attempt, "mnsCall": *request,
		"*mnsCall": request, "context": ctx,
		"handler": assemble(settings, slog.New(slog.DiscardHandler)),
	}
}

func FitInstance(megabytes int) { fitInstance(megabytes) }

// NewTransport is the adapters' transport.
func NewTransport(connections int) *http.Transport { return newTransport(connections, 0) }

// Discovery is what the settings say about discovery.
type Discovery struct {
	BackupPlanIDs []string
	SourceQueue   string
	LookbackHours int
}

func ReadDiscovery(environ []string) (Discovery, error) {
	s, err := readSettings(environ)
	return Discovery{s.handler.BackupPlanIDs, s.sourceQueue, s.handler.LookbackHours}, err
}

// Assemble makes a handler of an environment, as Run does.
func Assemble(environ []string, log io.Writer) (*handler.Handler, error) {
	s, err := readSettings(environ)
	if err != nil {
		return nil, &SettingsError{mistakes: err}
	}
	return assemble(s, slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: s.logLevel}))), nil
}
