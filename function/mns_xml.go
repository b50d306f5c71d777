package function

import (
	"bytes"
	"encoding/xml"
	"strconv"
	"strings"

	mns "github.com/aliyun/aliyun-mns-go-sdk"
)

// The XML of the one request that is sent all the time, and of the usual answer to
// it, is written and read here: encoding/xml takes half of the adapter's CPU time.
// Tests hold both equal to what it does.

// mnsBody returns the XML of a request, nil for none.
func mnsBody(message any) ([]byte, error) {
	batch, ok := message.(mns.BatchMessageSendRequest)
	switch {
	case message == nil:
		return nil, nil
	case !ok:
		return xml.Marshal(message)
	}
	size := 64
	for _, m := range batch.Messages {
		size += len(m.MessageBody)*3/2 + 128
	}
	body := make([]byte, 0, size)
	body = append(body, "<Messages>"...)
	for _, m := range batch.Messages {
		body = append(body, "<Message><MessageBody>"...)
		body = appendXML(body, m.MessageBody)
		body = append(body, "</MessageBody><DelaySeconds>"...)
		body = strconv.AppendInt(body, m.DelaySeconds, 10)
		body = append(body, "</DelaySeconds><Priority>"...)
		body = strconv.AppendInt(body, m.Priority, 10)
		body = append(body, "</Priority></Message>"...)
	}
	return append(body, "</Messages>"...), nil
}

// appendXML appends text as xml.EscapeText writes it.
func appendXML(to []byte, text string) []byte {
	done := 0
	for i := range len(text) {
		var escape string
		switch c := text[i]; {
		case c == '"':
			escape = "&#34;"
		case c == '\'':
			escape = "&#39;"
		case c == '&':
			escape = "&amp;"
		case c == '<':
			escape = "&lt;"
		case c == '>':
			escape = "&gt;"
		case c < ' ' || c > '~':
			// Characters that XML may not carry among them: to the end with care.
			var rest bytes.Buffer
			_ = xml.EscapeText(&rest, []byte(text[done:])) // a buffer never fails
			return append(to, rest.Bytes()...)
		default:
			continue
		}
		to = append(append(to, text[done:i]...), escape...)
		done = i + 1
	}
	return append(to, text[done:]...)
}

// mnsBatchAnswer reads the answer to a batch of which no message was refused, in the
// form that MNS writes:
//
//	<?xml version="1.0" ?><Messages xmlns="http://mns.aliyuncs.com/doc/v1">
//	<Message><MessageBodyMD5>…</MessageBodyMD5><MessageId>…</MessageId></Message>…</Messages>
//
// Any other form is for the SDK to read.
func mnsBatchAnswer(answer string) (entries []mns.BatchMessageSendEntry, ok bool) {
	r := xmlReader{rest: answer}
	if r.skip(`<?xml version="1.0"`) {
		encoding := strings.TrimSpace(r.until("?>"))
		if encoding != "" && !strings.EqualFold(encoding, `encoding="utf-8"`) {
			return nil, false
		}
	}
	if r.skip(`<Messages xmlns="`) {
		if strings.ContainsAny(r.until(`">`), `"<>& `) {
			return nil, false
		}
	} else if !r.skip("<Messages>") {
		return nil, false
	}
	for r.skip("<Message>") {
		var entry mns.BatchMessageSendEntry
		for !r.skip("</Message>") {
			switch {
			case r.skip("<MessageId>"):
				entry.MessageId = r.until("</MessageId>")
			case r.skip("<MessageBodyMD5>"):
				entry.MessageBodyMD5 = r.until("</MessageBodyMD5>")
			default:
				return nil, false
			}
		}
		entries = append(entries, entry)
	}
	if !r.skip("</Messages>") || r.skip(" ") || r.rest != "" || r.odd {
		return nil, false
	}
	return entries, true
}

// xmlReader reads XML without attributes, entities and the like.
type xmlReader struct {
	rest string
	odd  bool // there was something else
}

// skip skips space, and the given tag if it comes next.
func (r *xmlReader) skip(tag string) (skipped bool) {
	r.rest = strings.TrimLeft(r.rest, " \n")
	r.rest, skipped = strings.CutPrefix(r.rest, tag)
	return skipped
}

// until returns the text before a tag, and skips both.
func (r *xmlReader) until(tag string) string {
	text, rest, found := strings.Cut(r.rest, tag)
	if !found || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' || c == '<' || c == '&' }) {
		r.odd = true
	}
	if !found {
		rest = ""
	}
	r.rest = rest
	return text
}
