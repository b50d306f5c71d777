package function

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"increment-backup-download/events/rawjson"
)

// The answers of DBS are read without reflection: a page of a list may have
// 200 KB, and a discovery may read 2,000 of them in an instance of a twentieth of
// a CPU. All functions take valid JSON, without space around it.

// text reads a string, or a number as it is written: a field of another type must
// not hide that a task was created. Anything else is empty.
func text(value []byte) string {
	switch c := value[0]; {
	case c == '"':
		return string(rawjson.Unquote(value))
	case c == '-', '0' <= c && c <= '9':
		return string(value)
	}
	return ""
}

// truth reports whether a value is true, which may come as text.
func truth(value []byte) bool {
	return string(value) == "true" || strings.EqualFold(text(value), "true")
}

// count reads a number that is not negative, which may come as text.
func count(value []byte) (n int, ok bool) {
	n, err := strconv.Atoi(strings.TrimSpace(text(value)))
	return n, err == nil && n >= 0
}

// millis reads a time in milliseconds since 1970. What is no such number, 0, or less,
// as some write "never", is the zero time.
func millis(value []byte) time.Time {
	number := strings.TrimSpace(text(value))
	ms, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		if f, err := strconv.ParseFloat(number, 64); err == nil && math.Abs(f) < 1<<53 {
			ms = int64(f)
		}
	}
	if ms <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// withoutURLs appends a value to to, less the members of objects, at any depth,
// whose names end with "Url" in any case: links to backups, signed, are secrets.
func withoutURLs(to, value []byte) []byte {
	switch value[0] {
	case '{':
		to = append(to, '{')
		first := true
		for name, member := range rawjson.Members(value) {
			if len(name) >= 3 && bytes.EqualFold(name[len(name)-3:], []byte("url")) {
				continue
			}
			if !first {
				to = append(to, ',')
			}
			first = false
			to = appendName(to, name)
			to = withoutURLs(append(to, ':'), member)
		}
		return append(to, '}')
	case '[':
		to = append(to, '[')
		first := true
		for element := range rawjson.Elements(value) {
			if !first {
				to = append(to, ',')
			}
			first = false
			to = withoutURLs(to, element)
		}
		return append(to, ']')
	}
	return append(to, value...)
}

// appendName appends the name of a member, in quotes.
func appendName(to, name []byte) []byte {
	for _, c := range name {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(string(name)) // a string never fails
			return append(to, quoted...)
		}
	}
	return append(append(append(to, '"'), name...), '"')
}
