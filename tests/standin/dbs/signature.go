package dbs

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // G505: the older signature is made with it
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// timestampLayout is that of both signatures, in UTC.
const timestampLayout = "2006-01-02T15:04:05Z"

// ActionOf returns the operation that a request calls, so that a plan of faults
// can choose by it.
func ActionOf(r *http.Request) string {
	if action := r.Header.Get("X-Acs-Action"); action != "" {
		return action
	}
	return parameters(r).Get("Action")
}

// parameters are those of the query and of a form in the body.
func parameters(r *http.Request) url.Values {
	given := r.URL.Query()
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		return given
	}
	body, err := readBody(r)
	if err != nil {
		return given
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return given
	}
	for name, values := range form {
		given[name] = append(given[name], values...)
	}
	return given
}

// authenticate checks what the gateway checks before it passes a call on, and
// returns the caller's access key ID.
func (s *Service) authenticate(r *http.Request, body []byte) (string, *refusal) {
	var signed signedCall
	var refused *refusal
	if r.Header.Get("Authorization") == "" {
		signed, refused = s.authenticateV1(r, parameters(r))
	} else {
		signed, refused = s.authenticateV3(r, body)
	}
	if refused != nil {
		return "", refused
	}
	at, err := time.Parse(timestampLayout, signed.date)
	if err != nil || time.Since(at).Abs() > 15*time.Minute {
		return "", &refusal{http.StatusBadRequest, "InvalidTimeStamp.Expired",
			"Specified time stamp or date value is expired."}
	}
	s.mu.Lock()
	used := s.nonces[signed.nonce]
	s.nonces[signed.nonce] = true
	s.mu.Unlock()
	if signed.nonce == "" || used {
		return "", &refusal{http.StatusBadRequest, "SignatureNonceUsed", "Specified signature nonce was used already."}
	}
	if signed.version != Version {
		return "", &refusal{http.StatusBadRequest, "InvalidVersion", "Specified parameter Version is not valid."}
	}
	action := ActionOf(r)
	if !slices.Contains([]string{Action, ActionListSets, ActionListTasks, ActionListPlans}, action) || r.URL.Path != "/" && r.URL.Path != "" {
		return "", &refusal{http.StatusNotFound, "InvalidApi.NotFound",
			"Specified api is not found, please check your url and method."}
	}
	// The documentation names all resources for each operation but the list of plans.
	resource := "*"
	if action == ActionListPlans {
		resource = "acs:dbs:" + s.Region + ":" + s.AccountID + ":backupplan/*"
	}
	if !s.Policy.Allows("dbs:"+action, resource) {
		return "", &refusal{http.StatusForbidden, "Request.Forbidden", "Have no Permissions"}
	}
	return signed.accessKeyID, nil
}

// signedCall is what a well-signed call says of itself.
type signedCall struct {
	accessKeyID, date, nonce, version string
}

func unknownKey() *refusal {
	return &refusal{http.StatusNotFound, "InvalidAccessKeyId.NotFound", "Specified access key is not found."}
}

func wrongToken() *refusal {
	return &refusal{http.StatusBadRequest, "InvalidSecurityToken.Malformed",
		"The security token you provided is malformed."}
}

func incomplete(message string) *refusal {
	return &refusal{http.StatusBadRequest, "IncompleteSignature", message}
}

// notMatched quotes what the gateway signed, credentials and all, as the real one
// does.
func notMatched(toSign string) *refusal {
	return &refusal{http.StatusBadRequest, "SignatureDoesNotMatch",
		"Specified signature is not matched with our calculation. server string to sign is:" + toSign}
}

// authenticateV3 checks the signature ACS3-HMAC-SHA256. See
// https://www.alibabacloud.com/help/en/sdk/product-overview/v3-request-structure-and-signature.
func (s *Service) authenticateV3(r *http.Request, body []byte) (signedCall, *refusal) {
	algorithm, fields, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	given := make(map[string]string)
	for field := range strings.SplitSeq(fields, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		given[name] = value
	}
	if algorithm != "ACS3-HMAC-SHA256" || given["Signature"] == "" || given["SignedHeaders"] == "" {
		return signedCall{}, incomplete("The request signature does not conform to Aliyun standards.")
	}
	key, ok := s.Keys.Find(given["Credential"])
	if !ok {
		return signedCall{}, unknownKey()
	}
	if r.Header.Get("X-Acs-Security-Token") != key.Token {
		return signedCall{}, wrongToken()
	}
	signed := strings.Split(given["SignedHeaders"], ";")
	for name := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-acs-") && !slices.Contains(signed, name) {
			return signedCall{}, incomplete("The header " + name + " is not signed.")
		}
	}
	if !slices.Contains(signed, "host") || !slices.IsSorted(signed) {
		return signedCall{}, incomplete("The signed headers are not complete.")
	}
	sum := sha256.Sum256(body)
	if r.Header.Get("X-Acs-Content-Sha256") != hex.EncodeToString(sum[:]) {
		return signedCall{}, &refusal{http.StatusBadRequest, "SignatureDoesNotMatch",
			"The digest of the body is another one."}
	}
	if toSign := stringToSign(r, signed); sign(key.Secret, toSign) != given["Signature"] {
		return signedCall{}, notMatched(canonicalRequest(r, signed) + toSign)
	}
	return signedCall{
		accessKeyID: key.ID, date: r.Header.Get("X-Acs-Date"),
		nonce: r.Header.Get("X-Acs-Signature-Nonce"), version: r.Header.Get("X-Acs-Version"),
	}, nil
}

// authenticateV1 checks the older signature HMAC-SHA1 over all parameters, of the
// query and of a form. See https://www.alibabacloud.com/help/en/sdk/product-overview/rpc-mechanism,
// which calls it version 2; the parameter SignatureVersion says 1.0.
func (s *Service) authenticateV1(r *http.Request, given url.Values) (signedCall, *refusal) {
	if given.Get("SignatureMethod") != "HMAC-SHA1" || given.Get("SignatureVersion") != "1.0" {
		return signedCall{}, incomplete("The request signature does not conform to Aliyun standards.")
	}
	key, ok := s.Keys.Find(given.Get("AccessKeyId"))
	if !ok {
		return signedCall{}, unknownKey()
	}
	if given.Get("SecurityToken") != key.Token {
		return signedCall{}, wrongToken()
	}
	signature := given.Get("Signature")
	given.Del("Signature")
	toSign := r.Method + "&%2F&" + escape(canonicalQuery(given))
	mac := hmac.New(sha1.New, []byte(key.Secret+"&"))
	_, _ = io.WriteString(mac, toSign)
	if base64.StdEncoding.EncodeToString(mac.Sum(nil)) != signature {
		return signedCall{}, notMatched(toSign)
	}
	return signedCall{key.ID, given.Get("Timestamp"), given.Get("SignatureNonce"), given.Get("Version")}, nil
}

func canonicalQuery(given url.Values) string {
	var query []string
	for name, values := range given {
		for _, value := range values {
			query = append(query, escape(name)+"="+escape(value))
		}
	}
	slices.Sort(query)
	return strings.Join(query, "&")
}

func canonicalRequest(r *http.Request, signed []string) string {
	var headers strings.Builder
	for _, name := range signed {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		headers.WriteString(name + ":" + strings.TrimSpace(value) + "\n")
	}
	return strings.Join([]string{r.Method, r.URL.EscapedPath(), canonicalQuery(r.URL.Query()), headers.String(),
		strings.Join(signed, ";"), r.Header.Get("X-Acs-Content-Sha256")}, "\n")
}

func stringToSign(r *http.Request, signed []string) string {
	sum := sha256.Sum256([]byte(canonicalRequest(r, signed)))
	return "ACS3-HMAC-SHA256\n" + hex.EncodeToString(sum[:])
}

func sign(secret, text string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = io.WriteString(mac, text)
	return hex.EncodeToString(mac.Sum(nil))
}

// escape is the percent-encoding of RFC 3986.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
