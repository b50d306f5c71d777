package function

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"increment-backup-download/events"
)

// settings are read once, from the environment, and never change.
type settings struct {
	source               events.Source
	resultQueue          string
	deadLetterQueue      string
	mnsEndpoint          *url.URL
	dbsEndpoint          *url.URL
	dataFormat           string
	concurrency          int
	maxRequestsPerSecond int
	resultEncoding       events.Encoding
	logLevel             slog.Level
	memoryMB             int // of the instance; 0 where not known
	fallback             *accessKey
}

// Bounds of the numbers. The trigger's batches end at 10,000 events.
const (
	defaultConcurrency = 16
	maxConcurrency     = 256
	maxRate            = 10_000
)

// isQueueName reports whether a name may be one of MNS, which says that it starts
// with a letter and takes up to 256 of them; older queues start with a digit too. It
// keeps a name from changing the request path.
func isQueueName(name string) bool {
	return name != "" && len(name) <= 256 && name[0] != '-' && !strings.ContainsFunc(name, func(c rune) bool {
		return c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
	})
}

// readSettings reads and checks all settings; its error names everything that is
// wrong, a line each.
func readSettings(getenv func(string) string) (settings, error) {
	r := settingsReader{getenv: getenv}
	s := settings{
		source: events.Source{
			Region:       getenv("FC_REGION"),
			AccountID:    getenv("FC_ACCOUNT_ID"),
			FunctionName: getenv("FC_FUNCTION_NAME"),
		},
		resultQueue:          r.queue("RESULT_QUEUE", "the MNS queue that takes the results"),
		deadLetterQueue:      r.queue("DEAD_LETTER_QUEUE", "the MNS queue that takes messages that can never succeed"),
		dataFormat:           r.oneOf("BACKUP_SET_DATA_FORMAT", "", events.DataFormats()),
		concurrency:          r.number("CONCURRENCY", defaultConcurrency, 1, maxConcurrency),
		maxRequestsPerSecond: r.number("MAX_REQUESTS_PER_SECOND", 0, 0, maxRate),
		resultEncoding: events.Encoding(r.oneOf("RESULT_ENCODING", string(events.EncodingRaw),
			[]string{string(events.EncodingRaw), string(events.EncodingBase64)})),
		fallback: &accessKey{
			id:     getenv("ALIBABA_CLOUD_ACCESS_KEY_ID"),
			secret: getenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET"),
			token:  getenv("ALIBABA_CLOUD_SECURITY_TOKEN"),
		},
	}
	if s.resultQueue != "" && s.resultQueue == s.deadLetterQueue {
		r.wrong("DEAD_LETTER_QUEUE is %q like RESULT_QUEUE: name two different queues", s.deadLetterQueue)
	}

	mnsDefault, dbsDefault := "", ""
	if s.source.AccountID != "" && s.source.Region != "" {
		mnsDefault = fmt.Sprintf("https://%s.mns.%s.aliyuncs.com", s.source.AccountID, s.source.Region)
	}
	if s.source.Region != "" {
		dbsDefault = "https://" + dbsHost(s.source.Region)
	}
	s.mnsEndpoint = r.endpoint("MNS_ENDPOINT", mnsDefault, "FC_ACCOUNT_ID and FC_REGION", true)
	s.dbsEndpoint = r.endpoint("DBS_ENDPOINT", dbsDefault, "FC_REGION", false)

	level := r.oneOf("LOG_LEVEL", "info", []string{"debug", "info", "warn", "error"})
	// The four values are levels of slog; a wrong one is already reported.
	_ = s.logLevel.UnmarshalText([]byte(level))
	// Function Compute sets the size; without it the Go default, no limit, stays.
	s.memoryMB, _ = strconv.Atoi(getenv("FC_FUNCTION_MEMORY_SIZE"))

	// The Alibaba Cloud SDKs print requests, with Authorization and the security
	// token, when this variable names them.
	for name := range strings.SplitSeq(getenv("DEBUG"), ",") {
		if slices.Contains([]string{"dara", "tea", "credential"}, name) {
			r.wrong("DEBUG names %q, which makes the SDK print credentials: remove it", name)
		}
	}
	return s, errors.Join(r.mistakes...)
}

// dbsHost returns the endpoint of DBS in a region. Some regions share one.
func dbsHost(region string) string {
	switch region {
	case "cn-hangzhou", "cn-beijing", "cn-qingdao", "cn-shanghai", "cn-shenzhen", "cn-hongkong", "us-west-1", "us-east-1",
		"cn-hangzhou-finance", "cn-shanghai-finance-1", "cn-shenzhen-finance-1":
		return "dbs-api.cn-hangzhou.aliyuncs.com"
	}
	return "dbs-api." + region + ".aliyuncs.com"
}

// settingsReader collects every mistake instead of stopping at the first.
type settingsReader struct {
	getenv   func(string) string
	mistakes []error
}

func (r *settingsReader) wrong(format string, args ...any) {
	r.mistakes = append(r.mistakes, fmt.Errorf(format, args...))
}

func (r *settingsReader) queue(name, meaning string) string {
	value := r.getenv(name)
	switch {
	case value == "":
		r.wrong("%s is not set: name %s", name, meaning)
	case !isQueueName(value):
		r.wrong("%s is %.300q: a queue name has letters, digits and hyphens, at most 256", name, value)
	default:
		return value
	}
	return ""
}

func (r *settingsReader) number(name string, unset, low, high int) int {
	value := r.getenv(name)
	if value == "" {
		return unset
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < low || n > high {
		r.wrong("%s is %.64q: give a whole number from %d to %d", name, value, low, high)
	}
	return n
}

func (r *settingsReader) oneOf(name, unset string, values []string) string {
	value := r.getenv(name)
	if value == "" {
		return unset
	}
	if !slices.Contains(values, value) {
		r.wrong("%s is %.64q: give one of %s", name, value, strings.Join(values, ", "))
	}
	return value
}

// endpoint reads a URL; a path is taken where the service can stand behind one.
func (r *settingsReader) endpoint(name, unset, needs string, path bool) *url.URL {
	value := r.getenv(name)
	if value == "" {
		value = unset
	}
	if value == "" {
		r.wrong("%s is not set, and its default needs %s, which Function Compute sets", name, needs)
		return nil
	}
	endpoint, err := url.Parse(value)
	switch {
	case err != nil || endpoint.Host == "" || endpoint.Hostname() == "" || endpoint.Scheme != "https" && endpoint.Scheme != "http":
		r.wrong("%s is %.300q: give a URL such as https://example.aliyuncs.com", name, redacted(value))
	case endpoint.User != nil || endpoint.RawQuery != "" || endpoint.ForceQuery || endpoint.Fragment != "":
		r.wrong("%s must be a URL without user, query and fragment", name)
	case endpoint.Scheme == "http" && !loopback(endpoint.Hostname()):
		r.wrong("%s is %.300q: http:// is for loopback addresses only; use https://", name, value)
	case !path && strings.Trim(endpoint.Path, "/") != "":
		r.wrong("%s is %.300q: give a URL without a path", name, value)
	default:
		endpoint.Path = strings.TrimRight(endpoint.Path, "/")
		return endpoint
	}
	return nil
}

// redacted hides what stands where a URL has its password.
func redacted(value string) string {
	if at := strings.LastIndexByte(value, '@'); at >= 0 {
		return "***" + value[at:]
	}
	return value
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}
