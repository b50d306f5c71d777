package events

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"iter"
	"strings"
	"unicode/utf8"
)

// The functions below walk JSON text that json.Valid has accepted. They return
// slices of that text, so that a payload of 32 MB is held once, as it came, and
// only the message at hand is copied. Names are compared exactly, where
// encoding/json would take "messageid" for "messageId".

// elements yields the elements of a valid JSON array.
func elements(array []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		i := skipSpace(array, 1)
		for array[i] != ']' {
			end := valueEnd(array, i)
			if !yield(array[i:end:end]) {
				return
			}
			i = skipSpace(array, end)
			if array[i] == ',' {
				i = skipSpace(array, i+1)
			}
		}
	}
}

// members yields the names, unquoted, and the values of a valid JSON object.
func members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		i := skipSpace(object, 1)
		for object[i] != '}' {
			end := valueEnd(object, i)
			name := object[i+1 : end-1]
			if bytes.IndexByte(name, '\\') >= 0 {
				name = []byte(unquote(object[i:end]))
			}
			i = skipSpace(object, skipSpace(object, end)+1)
			end = valueEnd(object, i)
			if !yield(name, object[i:end:end]) {
				return
			}
			i = skipSpace(object, end)
			if object[i] == ',' {
				i = skipSpace(object, i+1)
			}
		}
	}
}

func skipSpace(text []byte, i int) int {
	for text[i] == ' ' || text[i] == '\t' || text[i] == '\n' || text[i] == '\r' {
		i++
	}
	return i
}

// valueEnd returns the index behind the value that starts at text[i].
func valueEnd(text []byte, i int) int {
	switch text[i] {
	case '"':
		return stringEnd(text, i)
	case '{', '[':
		for depth := 0; ; i++ {
			switch text[i] {
			case '"':
				i = stringEnd(text, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	}
	for i < len(text) && strings.IndexByte(" \t\r\n,]}", text[i]) < 0 {
		i++
	}
	return i
}

func stringEnd(text []byte, i int) int {
	for i++; ; i++ {
		i += bytes.IndexByte(text[i:], '"')
		backslashes := 0
		for text[i-1-backslashes] == '\\' {
			backslashes++
		}
		if backslashes%2 == 0 {
			return i + 1
		}
	}
}

// unquote returns the text of a valid JSON string.
func unquote(quoted []byte) string {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner)
	}
	var text string
	// A valid JSON string always unmarshals into a Go string.
	_ = json.Unmarshal(quoted, &text)
	return text
}

func isString(value []byte) bool { return len(value) > 0 && value[0] == '"' }

func isObject(value []byte) bool { return len(value) > 0 && value[0] == '{' }

func isNull(value []byte) bool { return len(value) == 0 || value[0] == 'n' }

// maxNesting bounds how many wrappings (envelope in envelope, JSON in a string,
// base64) are taken off one message. The deepest known is four: a CloudEvent
// around a queue message around base64 around a CloudEvent.
const maxNesting = 8

// jsonText returns the JSON array or object that text is, quotes, or encodes in
// base64, and whether there is one. Producers differ: the Java, Python and PHP
// SDKs of MNS send base64 by default, those for Go and Node do not.
func jsonText(text []byte) ([]byte, bool) {
	for range maxNesting {
		text = bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(text), []byte("\xef\xbb\xbf")))
		if len(text) == 0 {
			return nil, false
		}
		switch {
		case json.Valid(text):
			switch text[0] {
			case '{', '[':
				return text, true
			case '"':
				text = []byte(unquote(text))
				continue
			}
		case text[0] == '{' || text[0] == '[' || text[0] == '"':
			return nil, false
		}
		decoded, err := base64.StdEncoding.AppendDecode(nil, text)
		if err != nil {
			return nil, false
		}
		text = decoded
	}
	return nil, false
}
