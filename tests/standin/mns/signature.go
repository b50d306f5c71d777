package mns

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// authenticate checks what the service checks before anything else.
func (s *Service) authenticate(r *http.Request, body []byte) *refusal {
	authorization := r.Header.Get("Authorization")
	if authorization == "" {
		return &refusal{http.StatusBadRequest, "MissingAuthorizationHeader", "Authorization header is required."}
	}
	id, signature, ok := strings.Cut(strings.TrimPrefix(authorization, "MNS "), ":")
	if !ok || !strings.HasPrefix(authorization, "MNS ") {
		return &refusal{http.StatusBadRequest, "InvalidAuthorizationHeader",
			"The Authorization header format is invalid."}
	}
	key, ok := s.Keys.Find(id)
	if !ok {
		return &refusal{http.StatusForbidden, "InvalidAccessKeyId", "The access Id you provided is not exist."}
	}
	if r.Header.Get("X-Mns-Version") == "" {
		return invalid("x-mns-version is required.")
	}
	date := r.Header.Get("X-Mns-Date")
	if date == "" {
		date = r.Header.Get("Date")
	}
	if date == "" {
		return &refusal{http.StatusBadRequest, "MissingDateHeader", "Date header is required."}
	}
	at, err := http.ParseTime(date)
	if err != nil {
		return &refusal{http.StatusBadRequest, "InvalidDateHeader", "The Date header format is invalid."}
	}
	if time.Since(at).Abs() > 15*time.Minute {
		return &refusal{http.StatusRequestTimeout, "TimeExpired", "The http request you sent is expired."}
	}
	// Some clients sign the endpoint's path with the resource, some do not.
	withPrefix, without := StringToSign(r, r.RequestURI), StringToSign(r, strings.TrimPrefix(r.RequestURI, Prefix))
	if Sign(key.Secret, withPrefix) != signature && Sign(key.Secret, without) != signature {
		return &refusal{http.StatusForbidden, "SignatureDoesNotMatch",
			"The request signature we calculated does not match the signature you provided. string to sign: " +
				without + " security-token: " + r.Header.Get("Security-Token")}
	}
	if r.Header.Get("Security-Token") != key.Token {
		return &refusal{http.StatusForbidden, "AccessDenied", "The security token you provided is invalid."}
	}
	if given := r.Header.Get("Content-Md5"); given != "" {
		sum := md5.Sum(body)
		hexText := hex.EncodeToString(sum[:])
		encode := base64.StdEncoding.EncodeToString
		forms := []string{encode(sum[:]), encode([]byte(hexText)), hexText}
		if !slices.Contains(forms, given) {
			return &refusal{http.StatusBadRequest, "InvalidDegist",
				"The Content-MD5 you specified did not match what we received."}
		}
	}
	return nil
}

// StringToSign returns what a request's signature is over, for a resource.
func StringToSign(r *http.Request, resource string) string {
	date := r.Header.Get("X-Mns-Date")
	if date == "" {
		date = r.Header.Get("Date")
	}
	var headers []string
	for name, values := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-mns-") {
			headers = append(headers, name+":"+strings.TrimSpace(values[0])+"\n")
		}
	}
	slices.Sort(headers)
	return strings.Join([]string{
		r.Method, r.Header.Get("Content-Md5"), r.Header.Get("Content-Type"), date, strings.Join(headers, "") + resource,
	}, "\n")
}

// Sign returns the signature over a text.
func Sign(secret, text string) string {
	mac := hmac.New(sha1.New, []byte(secret))
	_, _ = io.WriteString(mac, text)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
