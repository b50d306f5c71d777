package events

import (
	"encoding/base64"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Encoding is how a result becomes the text of a queue message.
type Encoding string

// The encodings: the JSON text, and its base64, which the Java, Python and PHP
// SDKs of MNS decode by default.
const (
	EncodingRaw    Encoding = "raw"
	EncodingBase64 Encoding = "base64"
)

// Encode returns the message body that carries the result.
func (e Encoding) Encode(result Result) string {
	text := marshal(result)
	if e == EncodingBase64 {
		return base64.StdEncoding.EncodeToString([]byte(text))
	}
	return text
}

// marshal returns a struct of strings and numbers as the JSON text of a queue
// message, which travels in XML: JSON escapes every control character, but not
// U+FFFE and U+FFFF, which XML cannot carry either. See
// https://www.w3.org/TR/xml/#charsets.
func marshal(value any) string {
	text, _ := json.Marshal(value, jsontext.AllowInvalidUTF8(true)) // strings and numbers always marshal
	return strings.ReplaceAll(strings.ReplaceAll(string(text), "\ufffe", `\ufffe`), "\uffff", `\uffff`)
}
