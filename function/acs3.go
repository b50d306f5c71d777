package function

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aliyun/credentials-go/credentials"
)

const acs3Algorithm = "ACS3-HMAC-SHA256"

// emptyHash is the SHA-256 of the body. Operations of the RPC style take their
// parameters in the query, and the body is empty.
const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// signACS3 returns the headers of POST /?query with the signature of the OpenAPI
// gateway, version 3. query is in canonical form. The gateway refuses a date that is
// more than 15 minutes off, and a nonce that was used. See
// https://help.aliyun.com/zh/sdk/product-overview/v3-request-structure-and-signature
func signACS3(host, action, query string, key *credentials.CredentialModel, now time.Time, nonce string) http.Header {
	signed := map[string]string{
		"host":                  host,
		"x-acs-action":          action,
		"x-acs-content-sha256":  emptyHash,
		"x-acs-date":            now.UTC().Format(time.RFC3339),
		"x-acs-signature-nonce": nonce,
		"x-acs-version":         dbsVersion,
	}
	if *key.SecurityToken != "" {
		signed["x-acs-accesskey-id"], signed["x-acs-security-token"] = *key.AccessKeyId, *key.SecurityToken
	}
	names := slices.Sorted(maps.Keys(signed))
	signedHeaders := strings.Join(names, ";")
	header := http.Header{"Accept": {"application/json"}, "User-Agent": {userAgent}}
	canonical := append(make([]byte, 0, 2048), "POST\n/\n"+query+"\n"...)
	for _, name := range names {
		canonical = append(canonical, name+":"+strings.TrimSpace(signed[name])+"\n"...)
		header.Set(name, signed[name]) // net/http trims it too, and leaves Host out
	}
	canonical = append(canonical, "\n"+signedHeaders+"\n"+emptyHash...)

	digest := sha256.Sum256(canonical)
	mac := hmac.New(sha256.New, []byte(*key.AccessKeySecret))
	_, _ = io.WriteString(mac, acs3Algorithm+"\n"+hex.EncodeToString(digest[:]))
	header.Set("Authorization", acs3Algorithm+" Credential="+*key.AccessKeyId+
		",SignedHeaders="+signedHeaders+",Signature="+hex.EncodeToString(mac.Sum(nil)))
	return header
}

// canonicalQuery returns parameters sorted by name and percent-encoded by RFC 3986: the
// form that is signed, and sent. A parameter without a value is not sent. A space is
// %20, not + as in a form.
func canonicalQuery(parameters map[string]string) string {
	query := make(url.Values, len(parameters))
	for name, value := range parameters {
		if value != "" {
			query.Set(name, value)
		}
	}
	return strings.ReplaceAll(query.Encode(), "+", "%20")
}
