package events

import "strings"

// maxTrace bounds traceparent and tracestate, in bytes. The W3C asks for at least
// 512 of tracestate to be carried.
const maxTrace = 512

// readTraceContext notes the trace context of an envelope, if it is valid. An
// invalid traceparent takes its tracestate with it; an invalid tracestate leaves
// the traceparent. See https://www.w3.org/TR/trace-context/ and
// https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/distributed-tracing.md
func (r *reader) readTraceContext(traceparent, tracestate raw) {
	if !traceparent.isString() {
		return
	}
	parent := traceparent.string()
	if !isTraceparent(parent) {
		return
	}
	r.event.Traceparent, r.event.Tracestate = parent, ""
	if tracestate.isString() {
		r.event.Tracestate = readTracestate(tracestate.string())
	}
}

// isTraceparent reports whether s is version-traceid-parentid-flags in lower-case
// hex. Version 00 ends there; a later one may go on after a dash.
func isTraceparent(s string) bool {
	const length = 55
	if len(s) < length || len(s) > maxTrace {
		return false
	}
	for i := range length {
		dash := i == 2 || i == 35 || i == 52
		if dash != (s[i] == '-') || !dash && !isLowerHex(s[i]) {
			return false
		}
	}
	version, traceID, parentID, rest := s[:2], s[3:35], s[36:52], s[length:]
	switch {
	case version == "ff", strings.Trim(traceID, "0") == "", strings.Trim(parentID, "0") == "":
		return false
	case rest == "":
		return true
	}
	return version != "00" && rest[0] == '-' && isPrintable(rest)
}

// readTracestate returns the list of up to 32 key=value members, or nothing if it
// is not valid. One that is too long loses members at its end, the oldest.
func readTracestate(s string) string {
	const maxMembers = 32
	if s = strings.Trim(s, " \t"); s == "" {
		return ""
	}
	var kept []string
	keys := map[string]bool{}
	length := 0
	for member := range strings.SplitSeq(s, ",") {
		if member = strings.Trim(member, " \t"); member == "" {
			continue // allowed, and says nothing
		}
		key, value, ok := strings.Cut(member, "=")
		if !ok || !isTraceKey(key) || !isTraceValue(value) || keys[key] || len(keys) == maxMembers {
			return ""
		}
		keys[key] = true
		if length += len(member) + len(","); length-len(",") <= maxTrace {
			kept = append(kept, member)
		}
	}
	return strings.Join(kept, ",")
}

func isTraceKey(s string) bool {
	if s == "" || len(s) > 256 || !isLowerAlphanumeric(s[0]) {
		return false
	}
	tenant, system, both := strings.Cut(s, "@")
	if both && (len(tenant) > 241 || system == "" || len(system) > 14 || system[0] < 'a' || system[0] > 'z') {
		return false
	}
	for _, c := range []byte(tenant + system) {
		if !isLowerAlphanumeric(c) && !strings.ContainsRune("_-*/", rune(c)) {
			return false
		}
	}
	return both || s[0] >= 'a'
}

func isTraceValue(s string) bool {
	return s != "" && len(s) <= 256 && isPrintable(s) && !strings.Contains(s, "=")
}

func isLowerHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' }

func isLowerAlphanumeric(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' }

func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' })
}
