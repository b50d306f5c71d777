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
	if !tracestate.isString() {
		return
	}
	if state := tracestate.string(); len(state) <= maxTrace && isPrintable(state) {
		r.event.Tracestate = state
	}
}

// isTraceparent reports whether s is version-traceid-parentid-flags in lower-case
// hex, and neither ID is all zero. Version ff is invalid; one after 00 may go on
// after a dash.
func isTraceparent(s string) bool {
	const length = 55
	if len(s) < length || len(s) > maxTrace || !isPrintable(s) {
		return false
	}
	for i, c := range []byte(s[:length]) {
		if dash := i == 2 || i == 35 || i == 52; dash != (c == '-') || !dash && !strings.ContainsRune("0123456789abcdef", rune(c)) {
			return false
		}
	}
	version, traceID, parentID := s[:2], s[3:35], s[36:52]
	return version != "ff" && strings.Trim(traceID, "0") != "" && strings.Trim(parentID, "0") != "" &&
		(len(s) == length || version != "00" && s[length] == '-')
}

func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' })
}
