package events

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"increment-backup-download/events/rawjson"
)

// maxNesting bounds how many wrappings (envelope in envelope, JSON in a string,
// base64) are taken off one message. The deepest known is four: a CloudEvent
// around a queue message around base64 around a CloudEvent.
const maxNesting = 8

// jsonText returns the JSON array or object that text is, quotes, or encodes in
// base64. Producers differ: the Java, Python and PHP SDKs of MNS send base64 by
// default, those for Go and Node.js do not.
//
// If there is none, fault says so, and where the JSON is broken.
func jsonText(text []byte) (content []byte, fault string) {
	const neither = "neither a JSON object or array nor base64 of one"
	layer := ""
	for range maxNesting {
		whole := text
		text = bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(text), []byte("\xef\xbb\xbf")))
		if len(text) == 0 {
			return nil, neither
		}
		switch first := text[0]; {
		case first != '{' && first != '[' && first != '"':
			decoded, err := base64.StdEncoding.AppendDecode(nil, text)
			if err != nil {
				return nil, neither
			}
			text, layer = decoded, "base64 of "
		case !rawjson.Valid(text):
			return nil, layer + "invalid JSON, " + position(whole, text)
		case first == '"':
			text, layer = rawjson.Unquote(text), "a string that holds "
		default:
			return text, ""
		}
	}
	return nil, neither
}

// position says where text, a part of whole, stops being JSON.
func position(whole, text []byte) string {
	var syntax *json.SyntaxError
	if !errors.As(json.Unmarshal(text, new(json.RawMessage)), &syntax) {
		return "nested too deeply"
	}
	// Offset counts the bytes read, the wrong one included.
	before := bytes.Index(whole, text) + int(syntax.Offset)
	if strings.HasPrefix(syntax.Error(), "invalid character") {
		before--
	}
	read := whole[:before]
	line := bytes.Count(read, []byte("\n")) + 1
	column := utf8.RuneCount(read[bytes.LastIndexByte(read, '\n')+1:]) + 1
	return fmt.Sprintf("line %d, column %d: %s", line, column, syntax)
}

func unquote(quoted []byte) string { return string(rawjson.Unquote(quoted)) }
