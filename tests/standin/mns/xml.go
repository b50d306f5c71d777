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

// readXML reads a request body of any namespace; an empty one is all defaults.
func readXML(body []byte, root string, into any) *refusal {
	decoder := xml.NewDecoder(bytes.NewReader(body))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) && len(bytes.TrimSpace(body)) == 0 {
			return nil
		}
		if err != nil {
			return &refusal{http.StatusBadRequest, "MalformedXML", "The XML you provided was not well-formed."}
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if root != "" && start.Name.Local != root || decoder.DecodeElement(into, &start) != nil {
			return &refusal{http.StatusBadRequest, "MalformedXML", "The XML you provided was not well-formed."}
		}
		return nil
	}
}
