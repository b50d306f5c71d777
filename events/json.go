package events

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxNesting bounds how many wrappings (envelope in envelope, JSON in a string,
// base64) are taken off one message. The deepest known is four: a CloudEvent
// around a queue message around base64 around a CloudEvent.
const maxNesting = 8

// raw is a JSON value that is read later: a part of the text it was found in, or
// empty if it was not found.
type raw []byte

// UnmarshalJSONFrom keeps the value without a copy, so that a message of 30 MB is held
// once. The value is valid after the next read, too, because a decoder of a byte slice or
// of a [bytes.Buffer] never writes to its buffer. See invalidatePreviousRead in
// github.com/go-json-experiment/json v1.27.2, jsontext/decode.go.
func (r *raw) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	value, err := d.ReadValue()
	*r = raw(value)
	return err
}

func (r raw) isString() bool { return len(r) > 0 && r[0] == '"' }
func (r raw) isObject() bool { return len(r) > 0 && r[0] == '{' }
func (r raw) isNull() bool   { return len(r) == 0 || r[0] == 'n' } // or absent

// text returns the text of a JSON string, a part of it if it has no escapes, and
// any other value as it stands.
func (r raw) text() []byte {
	if !r.isString() {
		return r
	}
	if inner := r[1 : len(r)-1]; bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return inner
	}
	text, _ := jsontext.AppendUnquote(nil, r) // the error is invalid UTF-8, which it replaces
	return text
}

func (r raw) string() string { return string(r.text()) }

// unmarshal reads JSON as producers write it: the last of repeated names counts,
// and invalid UTF-8 becomes U+FFFD.
func unmarshal(text []byte, into any) error {
	return json.Unmarshal(text, into, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

// elements yields the elements of a valid array.
func elements(array []byte) iter.Seq[raw] {
	return func(yield func(raw) bool) {
		d := jsontext.NewDecoder(bytes.NewBuffer(array), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
		_, _ = d.ReadToken() // [
		for {
			element, err := d.ReadValue()
			if err != nil || !yield(raw(element)) { // the array is valid: an error is its end
				return
			}
		}
	}
}

// names returns the sorted names of an object's members; none if the value is not an
// object, or larger than any message.
func names(object []byte) []string {
	var members map[string]raw
	if len(object) <= maxBody {
		_ = unmarshal(object, &members)
	}
	return slices.Sorted(maps.Keys(members))
}

// jsonText returns the JSON array or object that text is, quotes, or encodes in
// base64. Producers differ: the Java, Python and PHP SDKs of MNS send base64 by
// default, those for Go and Node.js do not. An error says what text is instead.
func jsonText(text []byte) ([]byte, error) {
	layer := ""
	for range maxNesting {
		whole := text
		if text = trim(text); len(text) == 0 {
			break
		}
		if strings.IndexByte(`{["`, text[0]) < 0 {
			decoded, err := base64.StdEncoding.AppendDecode(nil, text)
			if err != nil {
				break
			}
			text, layer = decoded, "base64 of "
			continue
		}
		var value raw
		if err := unmarshal(text, &value); err != nil {
			return nil, fmt.Errorf("%sinvalid JSON, %s", layer, position(whole, text, err))
		}
		if !value.isString() {
			return text, nil
		}
		text, layer = value.text(), "a string that holds "
	}
	return nil, errors.New("neither a JSON object or array nor base64 of one")
}

// trim removes white space and a byte order mark.
func trim(text []byte) []byte {
	return bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(text), []byte("\xef\xbb\xbf")))
}

// position says where text, a part of whole, stops being JSON. The error itself
// would quote names.
func position(whole, text []byte, err error) string {
	var syntax *jsontext.SyntacticError
	if !errors.As(err, &syntax) {
		return "which cannot be read"
	}
	read := whole[:bytes.Index(whole, text)+int(syntax.ByteOffset)]
	line := bytes.Count(read, []byte("\n")) + 1
	column := utf8.RuneCount(read[bytes.LastIndexByte(read, '\n')+1:]) + 1
	return fmt.Sprintf("line %d, column %d: %s", line, column, syntax.Err)
}
