package events

import "strings"

// maxTrace bounds traceparent and tracestate, in bytes. The W3C asks for at least
// 512 of tracestate to be carried.
const maxTrace = 512

// readTraceContext notes the trace context of an envelope: a traceparent of the
// W3C's form, and the tracestate beside it if it is printable and not too long. See
// https://www.w3.org/TR/trace-context/ and
// https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/distributed-tracing.md
func (r *reader) readTraceContext(traceparent, tracestate raw) {
	if !traceparent.isString() || !isTraceparent(traceparent.string()) {
		return
	}
	r.event.Traceparent, r.event.Tracestate = traceparent.string(), ""
	if state := tracestate.string(); tracestate.isString() && len(state) <= maxTrace && isPrintable(state) {
		r.event.Tracestate = state
	}
}

// isTraceparent reports whether s is version-traceid-parentid-flags in lower-case hex, and
// neither ID is all zero. Version ff is invalid; one after 00 may go on after a dash.
func isTraceparent(s string) bool {
	fields := strings.SplitN(s, "-", 5)
	if len(fields) < 4 || len(s) > maxTrace || !isPrintable(s) {
		return false
	}
	for i, length := range []int{2, 32, 16, 2} {
		if len(fields[i]) != length || strings.Trim(fields[i], "0123456789abcdef") != "" {
			return false
		}
	}
	return fields[0] != "ff" && (fields[0] != "00" || len(fields) == 4) &&
		strings.Trim(fields[1], "0") != "" && strings.Trim(fields[2], "0") != ""
}

func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' })
}
