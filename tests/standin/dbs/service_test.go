package dbs_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	openapiutil "github.com/alibabacloud-go/darabonba-openapi/v2/utils"
	"github.com/alibabacloud-go/tea/dara"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/dbs"
)

// create calls the operation as any OpenAPI client does.
func create(server *standin.Server, key standin.Key, action string, parameters map[string]string) (map[string]any, error) {
	client, err := openapi.NewClient(&openapiutil.Config{
		AccessKeyId: &key.ID, AccessKeySecret: &key.Secret, SecurityToken: &key.Token,
		Endpoint: dara.String(strings.TrimPrefix(server.URL, "http://")), Protocol: dara.String("HTTP"),
	})
	if err != nil {
		return nil, err
	}
	client.DisableSDKError = dara.Bool(true)
	query := make(map[string]any)
	for name, value := range parameters {
		query[name] = value
	}
	answer, err := client.CallApi(&openapiutil.Params{
		Action: &action, Version: dara.String(dbs.Version), Protocol: dara.String("HTTP"), Pathname: dara.String("/"), Method: dara.String(http.MethodPost),
		AuthType: dara.String("AK"), Style: dara.String("RPC"), ReqBodyType: dara.String("formData"), BodyType: dara.String("json"),
	}, &openapiutil.OpenApiRequest{Query: openapiutil.Query(query)}, &dara.RuntimeOptions{})
	if err != nil {
		return nil, err
	}
	body, _ := answer["body"].(map[string]any)
	return body, nil
}

func start(t *testing.T) (*dbs.Service, *standin.Server, standin.Key) {
	t.Helper()
	key := standin.NewKey()
	service := dbs.New(standin.NewKeys(key), nil)
	server, err := standin.Start(service)
	require.NoError(t, err)
	t.Cleanup(server.Close)
	return service, server, key
}

func TestService_HonoursClientToken(t *testing.T) {
	service, server, key := start(t)
	parameters := map[string]string{"BackupSetId": "a b~/", "BackupSetName": "mysql-bin.000054", "ClientToken": "token"}
	first, err := create(server, key, dbs.Action, parameters)
	require.NoError(t, err)
	assert.Equal(t, true, first["Success"])
	again, err := create(server, key, dbs.Action, parameters)
	require.NoError(t, err)
	assert.Equal(t, first["BackupSetDownloadTaskId"], again["BackupSetDownloadTaskId"])
	assert.Len(t, service.Tasks(), 1)

	parameters["BackupSetName"] = "another"
	_, err = create(server, key, dbs.Action, parameters)
	var refused *openapi.ClientError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "IdempotentParameterMismatch", *refused.Code)
}

func TestService_RefusesWithTheServicesCodes(t *testing.T) {
	service, server, key := start(t)
	good := map[string]string{"BackupSetId": "a", "BackupSetName": "b"}
	wrongSecret, wrongToken := key, key
	wrongSecret.Secret, wrongToken.Token = "wrong", "wrong"
	for name, c := range map[string]struct {
		key        standin.Key
		action     string
		parameters map[string]string
		code       string
	}{
		"unknown key":    {standin.NewKey(), dbs.Action, good, "InvalidAccessKeyId.NotFound"},
		"wrong secret":   {wrongSecret, dbs.Action, good, "SignatureDoesNotMatch"},
		"wrong token":    {wrongToken, dbs.Action, good, "InvalidSecurityToken.Malformed"},
		"another action": {key, "DescribeIncrementBackupList", good, "InvalidApi.NotFound"},
		"no set":         {key, dbs.Action, map[string]string{"BackupSetName": "b"}, "MissingBackupSetId"},
		"no name":        {key, dbs.Action, map[string]string{"BackupSetId": "a"}, "MissingBackupSetName"},
		"a wrong format": {key, dbs.Action, map[string]string{"BackupSetId": "a", "BackupSetName": "b", "BackupSetDataFormat": "XML"}, "InvalidParameter"},
		"a long token":   {key, dbs.Action, map[string]string{"BackupSetId": "a", "BackupSetName": "b", "ClientToken": strings.Repeat("x", 65)}, "InvalidParameter"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := create(server, c.key, c.action, c.parameters)
			var refused *openapi.ClientError
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, c.code, *refused.Code)
		})
	}
	t.Run("a backup set that is not there", func(t *testing.T) {
		body, err := create(server, key, dbs.Action, map[string]string{"BackupSetId": "a", "BackupSetName": dbs.NotFoundName})
		require.NoError(t, err, "the refusal comes with HTTP 200")
		assert.Equal(t, false, body["Success"])
		assert.Equal(t, "Param.NotFound", body["ErrCode"])
	})
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
		_, err = create(recorder, key, dbs.Action, good)
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

// An OpenAPI client with good credentials, and with bad ones.
func Example() {
	key := standin.NewKey()
	server, err := standin.Start(dbs.New(standin.NewKeys(key), nil))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	parameters := map[string]string{"BackupSetId": "t4yh0g0g0001", "BackupSetName": "mysql-bin.000054", "ClientToken": "event-1"}
	answer, err := create(server, key, dbs.Action, parameters)
	fmt.Println(answer["BackupSetDownloadTaskId"], err)
	_, err = create(server, standin.NewKey(), dbs.Action, parameters)
	var refused *openapi.ClientError
	fmt.Println(errors.As(err, &refused), *refused.Code)
	// Output:
	// 1jydacm000001 <nil>
	// true InvalidAccessKeyId.NotFound
}
