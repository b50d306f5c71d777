package function

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aliyun/credentials-go/credentials"
)

// What every signed request has in common. Operations of the RPC style take their
// parameters in the query; the body is empty.
const (
	acs3Algorithm = "ACS3-HMAC-SHA256"
	emptyHash     = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // SHA-256 of nothing
	signedHeaders = "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version"
	// A security token brings two headers more, and all x-acs- headers must be signed.
	signedHeadersSTS = "host;x-acs-accesskey-id;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-security-token;" +
		"x-acs-signature-nonce;x-acs-version"
)

// moment makes one signature different from the next: the gateway refuses a date
// that is more than 15 minutes off, and a nonce that was used.
type moment struct{ date, nonce string }

func newMoment() moment {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails: see crypto/rand
	return moment{date: time.Now().UTC().Format("2006-01-02T15:04:05Z"), nonce: hex.EncodeToString(random[:])}
}

// signACS3 returns the headers of POST /?query with the signature of the OpenAPI
// gateway, version 3. query is in canonical form.
//
// See https://help.aliyun.com/zh/sdk/product-overview/v3-request-structure-and-signature
func signACS3(host, action, version, query string, key *credentials.CredentialModel, at moment) http.Header {
	id, token := *key.AccessKeyId, strings.TrimSpace(*key.SecurityToken) // as it is signed, so it is sent
	signed := signedHeaders
	canonical := make([]byte, 0, 768+len(query)+len(token))
	canonical = appendAll(canonical, "POST\n/\n", query, "\nhost:", host)
	if token != "" {
		signed = signedHeadersSTS
		canonical = appendAll(canonical, "\nx-acs-accesskey-id:", strings.TrimSpace(id))
	}
	canonical = appendAll(canonical, "\nx-acs-action:", action, "\nx-acs-content-sha256:"+emptyHash,
		"\nx-acs-date:", at.date)
	if token != "" {
		canonical = appendAll(canonical, "\nx-acs-security-token:", token)
	}
	canonical = appendAll(canonical, "\nx-acs-signature-nonce:", at.nonce, "\nx-acs-version:", version,
		"\n\n", signed, "\n"+emptyHash)

	digest := sha256.Sum256(canonical)
	mac := hmac.New(sha256.New, []byte(*key.AccessKeySecret))
	_, _ = mac.Write(hex.AppendEncode(append(canonical[:0], acs3Algorithm+"\n"...), digest[:]))
	authorization := acs3Algorithm + " Credential=" + id + ",SignedHeaders=" + signed +
		",Signature=" + hex.EncodeToString(mac.Sum(nil))

	header := make(http.Header, 12) // and one that exchange adds
	values := make([]string, 0, 10) // of all, in one piece
	set := func(name, value string) {
		values = append(values, value)
		header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	set("Accept", "application/json")
	set("Authorization", authorization)
	set("User-Agent", userAgent)
	set("X-Acs-Action", action)
	set("X-Acs-Content-Sha256", emptyHash)
	set("X-Acs-Date", at.date)
	set("X-Acs-Signature-Nonce", at.nonce)
	set("X-Acs-Version", version)
	if token != "" {
		set("X-Acs-Accesskey-Id", id)
		set("X-Acs-Security-Token", token)
	}
	return header
}

func appendAll(to []byte, parts ...string) []byte {
	for _, part := range parts {
		to = append(to, part...)
	}
	return to
}

// canonicalQuery returns parameters sorted by name and percent-encoded by RFC 3986: the
// form that is signed, and sent. A parameter without a value is not sent. A space is
// %20, unlike in the query of a form.
func canonicalQuery(parameters map[string]string) string {
	query := make(url.Values, len(parameters))
	for name, value := range parameters {
		if value != "" {
			query.Set(name, value)
		}
	}
	return strings.ReplaceAll(query.Encode(), "+", "%20")
}
