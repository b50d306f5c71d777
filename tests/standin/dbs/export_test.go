package dbs

import (
	"net/http"
	"strings"
)

// Resign signs a request anew, after a change of its headers.
func Resign(r *http.Request, secret string) {
	before, signature, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
	_, headers, _ := strings.Cut(before, "SignedHeaders=")
	headers, _, _ = strings.Cut(headers, ",")
	r.Header.Set("Authorization", strings.Replace(before+"Signature="+signature, signature, sign(secret, stringToSign(r, strings.Split(headers, ";"))), 1))
}
