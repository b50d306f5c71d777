package mns

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
)

// namespace is the one that the real service writes, without a slash at its end.
const namespace = "http://mns.aliyuncs.com/doc/v1"

func writeXML(w http.ResponseWriter, status int, document any) {
	body, err := xml.Marshal(document)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "text/xml;charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, xml.Header)
	_, _ = w.Write(body)
}

// readXML reads a request body of any namespace, with one root element that is
// named as given, or in any way if root is empty. An empty body is all defaults.
// What follows the root element is refused too: with two messages side by side,
// the second would be lost without a word.
func readXML(body []byte, root string, into any) *refusal {
	malformed := &refusal{http.StatusBadRequest, "MalformedXML", "The XML you provided was not well-formed."}
	decoder := xml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(body, []byte("\ufeff"))))
	read := false
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) && (read || len(bytes.TrimSpace(body)) == 0) {
			return nil
		}
		if err != nil {
			return malformed
		}
		switch token := token.(type) {
		case xml.StartElement:
			if read || root != "" && token.Name.Local != root || decoder.DecodeElement(into, &token) != nil {
				return malformed
			}
			read = true
		case xml.CharData:
			if len(bytes.TrimSpace(token)) > 0 {
				return malformed
			}
		}
	}
}
