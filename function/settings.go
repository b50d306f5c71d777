package function

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"increment-backup-download/events"
	"increment-backup-download/handler"
	"increment-backup-download/handler/discovery"
)

// settings are read once, from the environment, and never change.
type settings struct {
	handler                  handler.Config
	mnsEndpoint, dbsEndpoint *url.URL
	sourceQueue              string // empty if there is none
	logLevel                 slog.Level
	inFC                     bool       // Function Compute started the process
	memoryMB                 int        // of the instance; 0 if unknown
	fallback                 credential // of the environment; nil if it has none
	misspelt                 []string   // warnings of variables that resemble a setting
}

// readSettings reads and checks all settings, from variables given as NAME=value; of a
// repeated name the last counts. Its error lists every mistake, one a line.
func readSettings(environ []string) (settings, error) {
	environment := make(map[string]string, len(environ))
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		environment[name] = value
	}
	r := settingsReader{environment: environment}
	region, account := environment["FC_REGION"], environment["FC_ACCOUNT_ID"]
	s := settings{
		handler: handler.Config{
			Source:               events.Source{Region: region, AccountID: account, FunctionName: environment["FC_FUNCTION_NAME"]},
			DataFormat:           r.oneOf("BACKUP_SET_DATA_FORMAT", "", events.DataFormats()...),
			ResultEncoding:       events.Encoding(r.oneOf("RESULT_ENCODING", "raw", "raw", "base64")),
			Concurrency:          r.number("CONCURRENCY", 16, 1, 256),
			MaxRequestsPerSecond: r.number("MAX_REQUESTS_PER_SECOND", 0, 0, 10_000), // the events of the trigger's largest batch
			BackupPlanIDs:        r.backupPlanIDs("BACKUP_PLAN_IDS"),
			LookbackHours:        r.number("LOOKBACK_HOURS", discovery.DefaultLookbackHours, 1, events.MaxLookbackHours),
		},
		mnsEndpoint: r.endpoint("MNS_ENDPOINT", account+".mns."+region+".aliyuncs.com", "FC_ACCOUNT_ID", "FC_REGION"),
		dbsEndpoint: r.endpoint("DBS_ENDPOINT", dbsHost(region), "FC_REGION"),
		inFC:        environment["FC_RUNTIME_API"] != "",
		fallback: newCredential(environment["ALIBABA_CLOUD_ACCESS_KEY_ID"],
			environment["ALIBABA_CLOUD_ACCESS_KEY_SECRET"], environment["ALIBABA_CLOUD_SECURITY_TOKEN"]),
	}
	results := r.queue("RESULT_QUEUE", "the MNS queue that takes the results")
	deadLetters := r.queue("DEAD_LETTER_QUEUE", "the MNS queue that takes messages that can never succeed")
	if results != "" && results == deadLetters {
		r.wrong("DEAD_LETTER_QUEUE is %q, the same as RESULT_QUEUE: name two different queues", deadLetters)
	}
	// Follow-ups need the queue too, and discovery by hand.
	if r.getenv("SOURCE_QUEUE") != "" || environment["BACKUP_PLAN_IDS"] != "" {
		s.sourceQueue = r.queue("SOURCE_QUEUE", "the MNS queue that takes announcements and follow-ups")
	}
	if q := s.sourceQueue; q != "" && (q == results || q == deadLetters) {
		r.wrong("SOURCE_QUEUE is %q, the same as RESULT_QUEUE or DEAD_LETTER_QUEUE: results would come back as events", q)
	}
	s.handler.Targets = handler.Targets{
		DBSEndpoint: s.dbsEndpoint.String(), MNSEndpoint: s.mnsEndpoint.String(),
		ResultQueue: results, DeadLetterQueue: deadLetters,
	}

	// The four values are levels of slog; a wrong one is already reported.
	_ = s.logLevel.UnmarshalText([]byte(r.oneOf("LOG_LEVEL", "info", "debug", "info", "warn", "error")))
	// Function Compute sets the size; without it the Go default, no limit, stays.
	s.memoryMB, _ = strconv.Atoi(environment["FC_FUNCTION_MEMORY_SIZE"])

	// If this variable names one, an Alibaba Cloud SDK prints each request, with
	// Authorization and the security token: tea/tea.go, dara/core.go of alibabacloud-go/tea
	// v1.5.3, credentials/internal/http/http.go of credentials-go v1.4.14.
	for name := range strings.SplitSeq(environment["DEBUG"], ",") {
		if slices.Contains([]string{"dara", "tea", "credential"}, name) {
			r.wrong("DEBUG names %q, which makes the SDK print credentials: remove it", name)
		}
	}
	s.misspelt = r.misspelt()
	return s, errors.Join(r.mistakes...)
}

// resemble reports whether two names differ in at most two characters side by side.
func resemble(a, b string) bool {
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for a != "" && b != "" && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return len(a) <= 2 && len(b) <= 2
}

// dbsHost returns the endpoint of DBS in a region. Some regions share one: see the
// endpoint map of the official SDKs, such as dbs-20190306/src/client.ts of
// aliyun/alibabacloud-typescript-sdk. They have cn-zhangjiakou among those, other tables
// do not. That is unverified; DBS_ENDPOINT corrects it.
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
	environment map[string]string
	names       []string // of the settings that were read, with repeats
	mistakes    []error
}

func (r *settingsReader) getenv(name string) string {
	r.names = append(r.names, name)
	return r.environment[name]
}

// misspelt warns of variables that are not settings but resemble one.
func (r *settingsReader) misspelt() (warnings []string) {
	for _, name := range slices.Sorted(maps.Keys(r.environment)) {
		like := slices.IndexFunc(r.names, func(setting string) bool { return resemble(strings.ToUpper(name), setting) })
		if like >= 0 && !slices.Contains(r.names, name) {
			warnings = append(warnings, fmt.Sprintf("%s is not a setting; did you mean %s?", name, r.names[like]))
		}
	}
	return warnings
}

func (r *settingsReader) wrong(format string, args ...any) {
	r.mistakes = append(r.mistakes, fmt.Errorf(format, args...))
}

// queue reads the name of a queue: letters, digits and hyphens, which also keep it from
// changing the path of a request. See
// https://www.alibabacloud.com/help/en/mns/product-overview/limits and
// https://www.alibabacloud.com/help/en/mns/developer-reference/queue-queue
func (r *settingsReader) queue(name, meaning string) string {
	value := r.getenv(name)
	switch {
	case value == "":
		r.wrong("%s is not set: name %s", name, meaning)
	case !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,119}$`).MatchString(value):
		r.wrong("%s is %.300q: a queue name has at most 120 letters, digits and hyphens, and does not start with a hyphen", name, value)
	default:
		return value
	}
	return ""
}

// backupPlanIDs reads a comma-separated list, or [events.AllPlans] alone.
func (r *settingsReader) backupPlanIDs(name string) []string {
	value := r.getenv(name)
	if value == "" {
		return nil
	}
	if strings.EqualFold(strings.TrimSpace(value), events.AllPlans) {
		return []string{events.AllPlans}
	}
	var ids []string
	for id := range strings.SplitSeq(value, ",") {
		switch id = strings.TrimSpace(id); {
		case strings.EqualFold(id, events.AllPlans):
			r.wrong("%s is %.300q: give either all or IDs", name, value)
			return nil
		case !events.IsBackupPlanID(id):
			r.wrong("%s has %.300q: an ID has 1 to 128 letters, digits, hyphens and underscores", name, id)
		case slices.Contains(ids, id):
			r.wrong("%s names %q twice", name, id)
		default:
			ids = append(ids, id)
		}
	}
	return ids
}

func (r *settingsReader) number(name string, unset, low, high int) int {
	value := cmp.Or(r.getenv(name), strconv.Itoa(unset))
	n, err := strconv.Atoi(value)
	if err != nil || n < low || n > high {
		r.wrong("%s is %.64q: give a whole number from %d to %d", name, value, low, high)
	}
	return n
}

func (r *settingsReader) oneOf(name, unset string, values ...string) string {
	value := cmp.Or(r.getenv(name), unset)
	if value != unset && !slices.Contains(values, value) {
		r.wrong("%s is %.64q: give one of %s", name, value, strings.Join(values, ", "))
	}
	return value
}

// endpoint reads a URL. Its default is https:// and a host, made of the given variables.
func (r *settingsReader) endpoint(name, host string, variables ...string) *url.URL {
	value := r.getenv(name)
	isUnset := func(variable string) bool { return r.environment[variable] == "" }
	if value == "" && slices.ContainsFunc(variables, isUnset) {
		r.wrong("%s is not set, and its default needs %s, which Function Compute sets", name, strings.Join(variables, " and "))
		return &url.URL{}
	}
	endpoint, err := url.Parse(cmp.Or(value, "https://"+host))
	ofMNS := name == "MNS_ENDPOINT" // it can be under a path, and without TLS
	switch {
	case err != nil || endpoint.Hostname() == "" || endpoint.Scheme != "https" && endpoint.Scheme != "http",
		strings.HasSuffix(endpoint.Host, ":"), strings.ContainsFunc(endpoint.Host+endpoint.Path, func(c rune) bool { return c <= ' ' || c > '~' }):
		r.wrong("%s must be a URL such as https://example.aliyuncs.com", name) // the value may hold a password
	case endpoint.User != nil || endpoint.RawQuery != "" || endpoint.ForceQuery || endpoint.Fragment != "":
		r.wrong("%s must be a URL without user, query and fragment", name)
	case endpoint.Scheme == "http" && !isLoopback(endpoint.Hostname()) && (!ofMNS || !isPrivateMNS(endpoint.Hostname())):
		r.wrong("%s is %.300q: http:// is for loopback addresses and private endpoints of MNS; use https://", name, value)
	case !ofMNS && strings.Trim(endpoint.Path, "/") != "":
		r.wrong("%s is %.300q: give a URL without a path", name, value)
	default:
		endpoint.Path = strings.TrimRight(endpoint.Path, "/")
		return endpoint
	}
	return &url.URL{}
}

// isPrivateMNS reports whether a host is a private endpoint of MNS, which has no TLS:
// <account>.mns.<region>-internal.aliyuncs.com, or -internal-vpc. See
// https://www.alibabacloud.com/help/doc-detail/175569.htm
func isPrivateMNS(host string) bool {
	return regexp.MustCompile(`(?i)^[^.]+\.mns\.[^.]+-internal(-vpc)?\.aliyuncs\.com$`).MatchString(host)
}

func isLoopback(host string) bool {
	address, _ := netip.ParseAddr(host) // the zero address is not on loopback
	return host == "localhost" || address.IsLoopback()
}
