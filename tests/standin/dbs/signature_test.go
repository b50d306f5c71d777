package dbs_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/dbs"
)

func TestSignature_RefusesWithTheGatewaysCodes(t *testing.T) {
	service, server, key := start(t)
	good := parameters{"BackupSetId": "a", "BackupSetName": "b"}
	wrongSecret, wrongToken, withoutToken := key, key, key
	wrongSecret.Secret, wrongToken.Token, withoutToken.Token = "wrong", "wrong", ""
	for name, c := range map[string]struct {
		key    standin.Key
		action string
		code   string
	}{
		"unknown key":    {standin.NewKey(), dbs.Action, "InvalidAccessKeyId.NotFound"},
		"wrong secret":   {wrongSecret, dbs.Action, "SignatureDoesNotMatch"},
		"wrong token":    {wrongToken, dbs.Action, "InvalidSecurityToken.Malformed"},
		"no token":       {withoutToken, dbs.Action, "InvalidSecurityToken.Malformed"},
		"another action": {key, "DescribeFullBackupList", "InvalidApi.NotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := call(server, c.key, c.action, good)
			assert.Equal(t, c.code, code(t, err))
		})
	}
	t.Run("no signature", func(t *testing.T) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, nil)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		assert.Equal(t, http.StatusBadRequest, response.StatusCode)
	})
	t.Run("a request sent again", func(t *testing.T) {
		var seen *http.Request
		recorder, err := standin.Start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen = r.Clone(t.Context())
			service.ServeHTTP(w, r)
		}))
		require.NoError(t, err)
		defer recorder.Close()
		_, err = call(recorder, key, dbs.Action, good)
		require.NoError(t, err)
		// again sends the request once more to the service itself, with changed headers.
		again := func(change func(http.Header), resign bool) string {
			request := seen.Clone(t.Context())
			change(request.Header)
			if resign {
				dbs.Resign(request, key.Secret)
			}
			answer := httptest.NewRecorder()
			service.ServeHTTP(answer, request)
			return answer.Body.String()
		}
		now := time.Now().UTC()
		assert.Contains(t, again(func(http.Header) {}, false), "SignatureNonceUsed")
		assert.Contains(t, again(func(h http.Header) { h.Set("X-Acs-Signature-Nonce", "another") }, false), "SignatureDoesNotMatch")
		assert.Contains(t, again(func(h http.Header) { h.Set("X-Acs-Signature-Nonce", "another") }, true), `"Success":true`)
		for _, off := range []time.Duration{-16 * time.Minute, 16 * time.Minute} {
			assert.Contains(t, again(func(h http.Header) { h.Set("X-Acs-Date", now.Add(off).Format("2006-01-02T15:04:05Z")) }, true), "InvalidTimeStamp.Expired")
		}
		assert.Contains(t, again(func(h http.Header) { h.Set("X-Acs-Extra", "not signed") }, false), "IncompleteSignature")
		assert.Contains(t, again(func(h http.Header) { h.Set("X-Acs-Version", "2020-01-01"); h.Set("X-Acs-Signature-Nonce", "third") }, true), "InvalidVersion")
	})
}

func TestSignature_TakesAKeyPairWithoutAToken(t *testing.T) {
	service, server, _ := start(t)
	pair := standin.NewKeyPair()
	service.Keys.Add(pair)
	_, err := call(server, pair, dbs.Action, parameters{"BackupSetId": "a", "BackupSetName": "b"})
	require.NoError(t, err)
	pair.Token = "one too many"
	_, err = call(server, pair, dbs.Action, parameters{"BackupSetId": "a", "BackupSetName": "b"})
	assert.Equal(t, "InvalidSecurityToken.Malformed", code(t, err))
}

// v1 is a call with the older signature, by
// https://www.alibabacloud.com/help/en/sdk/product-overview/rpc-mechanism.
func v1(key standin.Key, method string, given parameters) url.Values {
	all := url.Values{
		"Format": {"JSON"}, "Version": {dbs.Version}, "AccessKeyId": {key.ID}, "SignatureMethod": {"HMAC-SHA1"},
		"SignatureVersion": {"1.0"}, "SignatureNonce": {standin.Random(32)}, "Timestamp": {time.Now().UTC().Format("2006-01-02T15:04:05Z")},
	}
	if key.Token != "" {
		all.Set("SecurityToken", key.Token)
	}
	for name, value := range given {
		all.Set(name, value)
	}
	// Encode sorts by name; what it escapes differs from RFC 3986 in the space only.
	canonical := strings.ReplaceAll(all.Encode(), "+", "%20")
	mac := hmac.New(sha1.New, []byte(key.Secret+"&"))
	_, _ = io.WriteString(mac, method+"&%2F&"+url.QueryEscape(canonical))
	all.Set("Signature", base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return all
}

func TestSignature_TakesTheOlderOne(t *testing.T) {
	service, server, key := start(t)
	pair := standin.NewKeyPair()
	service.Keys.Add(pair)
	set := parameters{"Action": dbs.Action, "BackupSetId": "a b~/*+", "BackupSetName": "mysql-bin.000054"}
	with := func(name, value string) parameters {
		changed := parameters{name: value}
		for n, v := range set {
			if n != name {
				changed[n] = v
			}
		}
		return changed
	}
	wrongSecret := key
	wrongSecret.Secret = "wrong"
	withoutToken := key
	withoutToken.Token = ""
	for name, c := range map[string]struct {
		method string
		key    standin.Key
		given  parameters
		has    string
	}{
		"in the query":             {http.MethodGet, key, set, `"Success":true`},
		"in a form":                {http.MethodPost, key, set, `"Success":true`},
		"without a security token": {http.MethodPost, pair, set, `"Success":true`},
		"a token is missing":       {http.MethodPost, withoutToken, set, "InvalidSecurityToken.Malformed"},
		"unknown key":              {http.MethodGet, standin.NewKey(), set, "InvalidAccessKeyId.NotFound"},
		"wrong secret":             {http.MethodGet, wrongSecret, set, "SignatureDoesNotMatch"},
		"another method":           {http.MethodGet, key, with("SignatureMethod", "HMAC-SHA256"), "IncompleteSignature"},
		"an old time":              {http.MethodGet, key, with("Timestamp", "2020-01-01T00:00:00Z"), "InvalidTimeStamp.Expired"},
		"another version":          {http.MethodGet, key, with("Version", "2021-01-01"), "InvalidVersion"},
		"another action":           {http.MethodGet, key, with("Action", "DescribeFullBackupList"), "InvalidApi.NotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			signed := v1(c.key, c.method, c.given).Encode()
			address, body := server.URL+"/?"+signed, ""
			if c.method == http.MethodPost {
				address, body = server.URL, signed
			}
			send := func() string {
				request, err := http.NewRequestWithContext(t.Context(), c.method, address, strings.NewReader(body))
				require.NoError(t, err)
				request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				assert.Equal(t, c.given["Action"], dbs.ActionOf(request))
				response, err := http.DefaultClient.Do(request)
				require.NoError(t, err)
				defer func() { _ = response.Body.Close() }()
				text, err := io.ReadAll(response.Body)
				require.NoError(t, err)
				return string(text)
			}
			assert.Contains(t, send(), c.has)
			if c.has == `"Success":true` {
				assert.Contains(t, send(), "SignatureNonceUsed")
			}
		})
	}
	require.Len(t, service.Tasks(), 3)
	assert.Equal(t, "a b~/*+", service.Tasks()[0].BackupSetID)
}
