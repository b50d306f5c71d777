package function_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	openapiutil "github.com/alibabacloud-go/darabonba-openapi/v2/utils"
	"github.com/alibabacloud-go/tea/dara"
	"github.com/aliyun/credentials-go/credentials"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"increment-backup-download/function"
	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/dbs"
)

// credential serves a key to the official client, which calls GetCredential only.
type credential struct {
	credentials.Credential
	key standin.Key
}

func (c credential) GetCredential() (*credentials.CredentialModel, error) {
	return &credentials.CredentialModel{
		AccessKeyId: &c.key.ID, AccessKeySecret: &c.key.Secret, SecurityToken: &c.key.Token, Type: dara.String("sts"),
	}, nil
}

// official is the generic OpenAPI client: what it sends is how a request is signed.
type official struct{ sent *http.Request }

// Call implements the client's HTTP client.
func (o *official) Call(request *http.Request, _ *http.Transport) (*http.Response, error) {
	o.sent = request
	body := io.NopCloser(strings.NewReader(`{}`))
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: body}, nil
}

func (o *official) call(ctx context.Context, key standin.Key, host, action string, query map[string]*string) error {
	client, err := openapi.NewClient(&openapiutil.Config{
		Credential: credential{key: key}, Endpoint: &host, Protocol: dara.String("http"), HttpClient: o,
	})
	if err != nil {
		return err
	}
	_, err = client.CallApiWithCtx(ctx, &openapiutil.Params{
		Action: &action, Version: dara.String(dbs.Version), Protocol: dara.String("HTTPS"), Pathname: dara.String("/"),
		Method: dara.String("POST"), AuthType: dara.String("AK"), Style: dara.String("RPC"),
		ReqBodyType: dara.String("formData"), BodyType: dara.String("json"),
	}, &openapiutil.OpenApiRequest{Query: query}, &dara.RuntimeOptions{})
	return err
}

// For the same date and nonce, the official client's Authorization is ours, byte for
// byte; and the stand-in accepts both.
func TestSignACS3_IsTheOfficialClients(t *testing.T) {
	printable := rapid.StringMatching(`[!-~]{1,40}`)
	rapid.Check(t, func(t *rapid.T) {
		key := standin.Key{
			ID:     rapid.StringMatching(`[A-Za-z0-9.]{1,30}`).Draw(t, "id"),
			Secret: printable.Draw(t, "secret"),
			Token:  rapid.OneOf(rapid.Just(""), printable).Draw(t, "token"),
		}
		values := map[string]string{}
		for _, name := range []string{"BackupSetDataFormat", "BackupSetId", "BackupSetName", "ClientToken"} {
			values[name] = rapid.OneOf(rapid.String(), rapid.StringMatching(`[ -~]{1,20}`)).Draw(t, name)
		}
		query, ours := map[string]*string{}, []string{}
		for name, value := range values {
			if value != "" { // the adapter sends no empty parameters
				query[name] = &value
			}
			ours = append(ours, name, value)
		}
		service := dbs.New(standin.NewKeys(key), nil)
		server := httptest.NewServer(service)
		defer server.Close()
		host := server.Listener.Addr().String()

		var client official
		require.NoError(t, client.call(t.Context(), key, host, dbs.Action, query))
		sent := client.sent
		canonical, accessKey := function.CanonicalQuery(ours...), function.NewCredential(key.ID, key.Secret, key.Token)
		header := function.SignACS3(host, dbs.Action, canonical, accessKey,
			lowerCase(sent.Header, "x-acs-date"), lowerCase(sent.Header, "x-acs-signature-nonce"))
		require.Equal(t, sent.Header["Authorization"], header["Authorization"])

		// Ours has a nonce of its own, or the stand-in would refuse it.
		mine := function.NewHeader(host, dbs.Action, canonical, accessKey)
		accepted(t, sent.URL.RawQuery, server.URL, sent.Header)
		accepted(t, canonical, server.URL, mine)
	})
}

// lowerCase returns a header as the official client sets it: past http.Header.Set.
func lowerCase(header http.Header, name string) string { return header[name][0] }

// accepted requires that the stand-in takes a signature: what it says then is about
// the parameters, if anything.
func accepted(t *rapid.T, query, address string, header http.Header) {
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+"/?"+query, nil)
	require.NoError(t, err)
	for name, values := range header {
		request.Header.Set(name, values[0])
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	for _, code := range []string{"Signature", "AccessKey", "SecurityToken", "Action", "Version", "Api"} {
		require.NotContains(t, string(body), code)
	}
}

// Space around a token is not sent, so it is not signed.
func TestSignACS3_TrimsWhatIsSent(t *testing.T) {
	sign := func(token string) string {
		key := function.NewCredential("id", "secret", token)
		return function.SignACS3("h", "a", "", key, "2026-11-23T09:00:00Z", "n").Get("Authorization")
	}
	assert.Equal(t, sign("token"), sign(" token\t"))
	assert.NotEqual(t, sign("token"), sign("other"))
}

func TestCanonicalQuery_IsSortedAndDecodesToItsValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.String().Draw(t, "a"), rapid.String().Draw(t, "b")
		query := function.CanonicalQuery("B", b, "A", a)
		values, err := url.ParseQuery(query)
		require.NoError(t, err)
		require.Equal(t, a, values.Get("A"))
		require.Equal(t, b, values.Get("B"))
		require.NotContains(t, query, "+", "a space is %%20")
	})
	assert.Equal(t, "A=%20~%2A%2B%2F%E5%A4%87&C=3", function.CanonicalQuery("C", "3", "B", "", "A", " ~*+/备"))
}

func BenchmarkSignACS3(b *testing.B) {
	key := function.NewCredential("STS.NUgYrLnoC37mZZCNnAbez", "secret", strings.Repeat("t", 600))
	query := function.CanonicalQuery("BackupSetId", "t4yh0g0g0001", "BackupSetName", "mysql-bin.000054")
	b.ReportAllocs()
	for b.Loop() {
		function.NewHeader("dbs-api.cn-hangzhou.aliyuncs.com", dbs.Action, query, key)
	}
}

func TestSignACS3_DatesAreInUTC(t *testing.T) {
	header := function.SignACS3("h", "A", "", someKey, "2026-11-23T17:00:00+08:00", "n")
	assert.Equal(t, "2026-11-23T09:00:00Z", header.Get("X-Acs-Date"))
}
