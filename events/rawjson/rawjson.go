// Package rawjson reads JSON without decoding it: it checks a text, and walks over
// the members of objects and the elements of arrays as slices of that text. A fuzz
// test holds it equal to encoding/json.
//
// A payload of 32 MB is thus held once, as it came, and only the message at hand is
// copied; a page of a list is read without reflection. Reading a message of a
// queue takes a third of the time that encoding/json takes, which validates each
// string again before it decodes it.
//
// Names are compared exactly by those who use it, while encoding/json would take
// "messageid" for "messageId" when it fills a struct. Of a repeated name the last
// value counts.
package rawjson

import (
	"bytes"
	"iter"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Elements yields the elements of a valid JSON array.
func Elements(array []byte) iter.Seq[[]byte] {
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

// Members yields the names, unquoted, and the values of a valid JSON object.
func Members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		i := skipSpace(object, 1)
		for object[i] != '}' {
			end := stringEnd(object, i)
			name := Unquote(object[i:end])
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
	for i < len(text) && (text[i] == ' ' || text[i] == '\t' || text[i] == '\n' || text[i] == '\r') {
		i++
	}
	return i
}

// valueEnd returns the index after the valid value that starts at text[i].
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

// stringEnd returns the index after the valid string that starts at text[i].
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

// Valid reports whether text is one JSON value.
func Valid(text []byte) bool {
	end, ok := checkValue(text, skipSpace(text, 0), 0)
	return ok && skipSpace(text, end) == len(text)
}

// maxDepth is the depth of arrays and objects that encoding/json accepts.
const maxDepth = 10_000

// checkValue checks the value that starts at text[i] and returns the index after
// it.
func checkValue(text []byte, i, depth int) (int, bool) {
	if i >= len(text) {
		return i, false
	}
	switch text[i] {
	case '{', '[':
		return checkComposite(text, i, depth+1)
	case '"':
		return checkString(text, i)
	case 't':
		return checkLiteral(text, i, "true")
	case 'f':
		return checkLiteral(text, i, "false")
	case 'n':
		return checkLiteral(text, i, "null")
	}
	return checkNumber(text, i)
}

// checkComposite checks the array or object that starts at text[i].
func checkComposite(text []byte, i, depth int) (int, bool) {
	inObject := text[i] == '{'
	closing := text[i] + 2 // '}' for '{', ']' for '['
	if depth > maxDepth {
		return i, false
	}
	if i = skipSpace(text, i+1); i < len(text) && text[i] == closing {
		return i + 1, true
	}
	for {
		if inObject {
			if i >= len(text) || text[i] != '"' {
				return i, false
			}
			end, ok := checkString(text, i)
			if !ok {
				return end, false
			}
			if i = skipSpace(text, end); i >= len(text) || text[i] != ':' {
				return i, false
			}
			i = skipSpace(text, i+1)
		}
		end, ok := checkValue(text, i, depth)
		if !ok {
			return end, false
		}
		if i = skipSpace(text, end); i >= len(text) {
			return i, false
		}
		if text[i] == closing {
			return i + 1, true
		}
		if text[i] != ',' {
			return i, false
		}
		i = skipSpace(text, i+1)
	}
}

func checkString(text []byte, i int) (int, bool) {
	for i++; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return i + 1, true
		case c < ' ':
			return i, false
		case c == '\\':
			if i++; i >= len(text) {
				return i, false
			}
			switch text[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if _, ok := hex4(text[i+1:]); !ok {
					return i, false
				}
				i += 4
			default:
				return i, false
			}
		}
	}
	return i, false
}

func checkLiteral(text []byte, i int, literal string) (int, bool) {
	end := i + len(literal)
	return end, end <= len(text) && string(text[i:end]) == literal
}

func checkNumber(text []byte, i int) (int, bool) {
	digits := func() bool {
		start := i
		for i < len(text) && '0' <= text[i] && text[i] <= '9' {
			i++
		}
		return i > start
	}
	if i < len(text) && text[i] == '-' {
		i++
	}
	if i < len(text) && text[i] == '0' {
		i++
	} else if !digits() {
		return i, false
	}
	if i < len(text) && text[i] == '.' {
		if i++; !digits() {
			return i, false
		}
	}
	if i < len(text) && (text[i] == 'e' || text[i] == 'E') {
		if i++; i < len(text) && (text[i] == '+' || text[i] == '-') {
			i++
		}
		if !digits() {
			return i, false
		}
	}
	return i, true
}

// hex4 reads the four hexadecimal digits that text starts with.
func hex4(text []byte) (r rune, ok bool) {
	if len(text) < 4 {
		return 0, false
	}
	for _, c := range text[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// Unquote returns the text of a valid JSON string: a part of quoted if it stands
// there as it is. Invalid UTF-8 and unpaired surrogates become U+FFFD.
func Unquote(quoted []byte) []byte {
	inner := quoted[1 : len(quoted)-1 : len(quoted)-1]
	if !utf8.Valid(inner) {
		inner = []byte(string([]rune(string(inner)))) // U+FFFD for each wrong byte
	}
	i := bytes.IndexByte(inner, '\\')
	if i < 0 {
		return inner
	}
	text := append(make([]byte, 0, len(inner)), inner[:i]...)
	for i < len(inner) {
		if inner[i] != '\\' {
			end := bytes.IndexByte(inner[i:], '\\')
			if end < 0 {
				return append(text, inner[i:]...)
			}
			text = append(text, inner[i:i+end]...)
			i += end
		}
		c := inner[i+1]
		i += 2
		switch c {
		case 'b':
			text = append(text, '\b')
		case 'f':
			text = append(text, '\f')
		case 'n':
			text = append(text, '\n')
		case 'r':
			text = append(text, '\r')
		case 't':
			text = append(text, '\t')
		case 'u':
			r, _ := hex4(inner[i:])
			i += 4
			if utf16.IsSurrogate(r) {
				pair := rune(utf8.RuneError)
				if bytes.HasPrefix(inner[i:], []byte(`\u`)) {
					second, _ := hex4(inner[i+2:])
					pair = utf16.DecodeRune(r, second)
				}
				if r = pair; r != utf8.RuneError {
					i += 6
				}
			}
			text = utf8.AppendRune(text, r)
		default:
			text = append(text, c)
		}
	}
	return text
}

// IsString reports whether a value is a string.
func IsString(value []byte) bool { return len(value) > 0 && value[0] == '"' }

// IsObject reports whether a value is an object.
func IsObject(value []byte) bool { return len(value) > 0 && value[0] == '{' }

// IsNull reports whether a value is null or absent.
func IsNull(value []byte) bool { return len(value) == 0 || value[0] == 'n' }
