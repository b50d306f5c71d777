package function

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// readJSON reads an answer of DBS. Repeated names and broken characters are no reason
// to overlook a task that was created: the last member of a name counts.
func readJSON(document []byte, into any) error {
	return json.Unmarshal(document, into, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

// text is a string, or a number or boolean as it is written: a field of another type
// than the documented one must not hide that a task was created. Anything else is empty.
type text string

// UnmarshalJSONFrom implements [json.UnmarshalerFrom].
func (t *text) UnmarshalJSONFrom(from *jsontext.Decoder) error {
	*t = ""
	switch from.PeekKind() {
	case '"', '0', 't', 'f':
		token, err := from.ReadToken()
		if err == nil {
			*t = text(token.String())
		}
		return err
	}
	return from.SkipValue()
}

// number reads a whole number, which may be written as a fraction; -1 if it is none, or
// too large for one.
func (t text) number() int64 {
	n, err := strconv.ParseFloat(strings.TrimSpace(string(t)), 64)
	if err != nil || !(math.Abs(n) < 1<<53) { // nor is NaN
		return -1
	}
	return int64(n)
}

// time reads a time in milliseconds since 1970. 0 or less, as some write "never", is the
// zero time.
func (t text) time() time.Time {
	if ms := t.number(); ms > 0 {
		return time.UnixMilli(ms).UTC()
	}
	return time.Time{}
}
