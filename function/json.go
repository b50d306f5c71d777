package function

import (
	"bytes"
	"encoding/json"
	"iter"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The answers of DBS are read without reflection: a page of a list may have
// 200 KB, and a discovery may read 2,000 of them in an instance of a twentieth of
// a CPU. All functions take JSON that json.Valid has accepted, in part or whole,
// without space around it.

// members yields the members of an object, names without quotes, in order; of
// anything else, none.
func members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		if len(object) == 0 || object[0] != '{' {
			return
		}
		for i := skipSpace(object, 1); object[i] != '}'; {
			end := valueEnd(object, i)
			name := object[i+1 : end-1]
			if bytes.IndexByte(name, '\\') >= 0 {
				name = []byte(text(object[i:end]))
			}
			i = skipSpace(object, skipSpace(object, end)+1) // the colon
			end = valueEnd(object, i)
			if !yield(name, object[i:end]) {
				return
			}
			if i = skipSpace(object, end); object[i] == ',' {
				i = skipSpace(object, i+1)
			}
		}
	}
}

// elements yields the elements of an array, in order; of anything else, none.
func elements(array []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if len(array) == 0 || array[0] != '[' {
			return
		}
		for i := skipSpace(array, 1); array[i] != ']'; {
			end := valueEnd(array, i)
			if !yield(array[i:end]) {
				return
			}
			if i = skipSpace(array, end); array[i] == ',' {
				i = skipSpace(array, i+1)
			}
		}
	}
}

func skipSpace(document []byte, i int) int {
	for document[i] == ' ' || document[i] == '\n' || document[i] == '\r' || document[i] == '\t' {
		i++
	}
	return i
}

// valueEnd returns the end of the value that starts at i.
func valueEnd(document []byte, i int) int {
	for depth := 0; ; {
		switch document[i] {
		case '"':
			for i++; document[i] != '"'; i++ {
				if document[i] == '\\' {
					i++
				}
			}
			i++
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			depth--
			i++
		default:
			if depth == 0 { // a number, true, false or null
				if n := bytes.IndexAny(document[i:], ",]} \n\r\t"); n >= 0 {
					return i + n
				}
				return len(document)
			}
			i++
			continue
		}
		if depth == 0 {
			return i
		}
	}
}

// text reads a string, or a number as it is written: a field of another type must
// not hide that a task was created. Anything else is empty.
func text(value []byte) string {
	switch c := value[0]; {
	case c == '"':
		inner := value[1 : len(value)-1]
		if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
			return string(inner)
		}
		var s string
		_ = json.Unmarshal(value, &s) // it is valid
		return s
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

// millis reads a time in milliseconds since 1970. What is no such number, or 0, is
// the zero time.
func millis(value []byte) time.Time {
	number := strings.TrimSpace(text(value))
	ms, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		if f, err := strconv.ParseFloat(number, 64); err == nil && math.Abs(f) < 1<<53 {
			ms = int64(f)
		}
	}
	if ms == 0 {
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
		for name, member := range members(value) {
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
		for element := range elements(value) {
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
