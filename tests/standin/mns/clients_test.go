package mns_test

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"io"
	"net/http"
	"testing"
	"time"

	sdk "github.com/aliyun/aliyun-mns-go-sdk"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/mns"
)

// receive waits for what the SDK sends on its channels.
func receive(queue sdk.AliMNSQueue, wait ...int64) (sdk.MessageReceiveResponse, error) {
	received, failed := make(chan sdk.MessageReceiveResponse, 1), make(chan error, 1)
	queue.ReceiveMessage(received, failed, wait...)
	select {
	case m := <-received:
		return m, nil
	case err := <-failed:
		return sdk.MessageReceiveResponse{}, err
	}
}

// The official client takes the stand-in for the service.
func TestService_ServesTheOfficialClient(t *testing.T) {
	_, server, key := start(t)
	c := client(server, key)
	manager := sdk.NewMNSQueueManager(c)
	require.NoError(t, manager.CreateQueue("letters", 0, 65536, 345600, 30, 0, 2))
	err := manager.CreateQueue("letters", 0, 65536, 345600, 60, 0, 2)
	require.Error(t, err)
	assert.True(t, sdk.ERR_MNS_QUEUE_ALREADY_EXIST.IsEqual(err) || sdk.ERR_MNS_QUEUE_ALREADY_EXIST_AND_HAVE_SAME_ATTR.IsEqual(err), err)
	attributes, err := manager.GetQueueAttributes("letters")
	require.NoError(t, err)
	assert.EqualValues(t, 30, attributes.VisibilityTimeout)
	list, err := manager.ListQueue("", 10, "let")
	require.NoError(t, err)
	require.Len(t, list.Queues, 1)
	assert.Equal(t, "http://1234567890123456.mns.cn-hangzhou.aliyuncs.com/queues/letters", list.Queues[0].QueueURL)
	details, err := manager.ListQueueDetail("", 10, "let")
	require.NoError(t, err)
	require.Len(t, details.Attrs, 1)
	assert.Equal(t, "letters", details.Attrs[0].QueueName)
	assert.EqualValues(t, 345600, details.Attrs[0].MessageRetentionPeriod)

	queue := sdk.NewMNSQueue("letters", c)
	sent, err := queue.SendMessage(sdk.MessageSendRequest{MessageBody: "<one>", Priority: 8})
	require.NoError(t, err)
	assert.Len(t, sent.MessageId, 32)
	batch, err := queue.BatchSendMessage(sdk.MessageSendRequest{MessageBody: "two", Priority: 1}, sdk.MessageSendRequest{MessageBody: "three", Priority: 16})
	require.NoError(t, err)
	require.Len(t, batch.Messages, 2)

	for _, want := range []string{"two", "<one>", "three"} { // by priority
		m, err := receive(queue)
		require.NoError(t, err)
		assert.Equal(t, want, m.MessageBody)
		changed, err := queue.ChangeMessageVisibility(m.ReceiptHandle, 100)
		require.NoError(t, err)
		require.Error(t, queue.DeleteMessage(m.ReceiptHandle), "the old handle is no longer valid")
		require.NoError(t, queue.DeleteMessage(changed.ReceiptHandle))
	}
	_, err = receive(queue)
	assert.True(t, sdk.ERR_MNS_MESSAGE_NOT_EXIST.IsEqual(err))

	_, err = queue.SendMessage(sdk.MessageSendRequest{MessageBody: "x"})
	assert.True(t, sdk.ERR_MNS_INVALID_ARGUMENT.IsEqual(err), "Priority 0 is refused: %v", err)
	_, err = sdk.NewMNSQueue("nowhere", c).BatchSendMessage(sdk.MessageSendRequest{MessageBody: "x", Priority: 8})
	assert.True(t, sdk.ERR_MNS_QUEUE_NOT_EXIST.IsEqual(err))
	require.NoError(t, manager.DeleteQueue("letters"))

	wrong := key
	wrong.Secret = "wrong"
	_, err = sdk.NewMNSQueue("letters", client(server, wrong)).SendMessage(sdk.MessageSendRequest{MessageBody: "x", Priority: 8})
	assert.True(t, sdk.ERR_MNS_SIGNATURE_DOES_NOT_MATCH.IsEqual(err))
	_, err = sdk.NewMNSQueue("letters", client(server, standin.NewKey())).SendMessage(sdk.MessageSendRequest{MessageBody: "x", Priority: 8})
	assert.True(t, sdk.ERR_MNS_INVALID_ACCESS_KEY_ID.IsEqual(err))
}

// call sends a signed request as a client in another language would.
type call struct {
	method, path, body string
	md5                func(sum []byte) string
	date               time.Time
	datedByMNSHeader   bool
	withoutToken       bool
}

func (c call) send(t *testing.T, server *standin.Server, key standin.Key) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), c.method, server.URL+c.path, bytes.NewReader([]byte(c.body)))
	require.NoError(t, err)
	if c.date.IsZero() {
		c.date = time.Now()
	}
	date := "Date"
	if c.datedByMNSHeader {
		date = "X-Mns-Date"
	}
	request.Header.Set(date, c.date.UTC().Format(http.TimeFormat))
	request.Header.Set("X-Mns-Version", "2015-06-06")
	request.Header.Set("Content-Type", "text/xml")
	if c.md5 != nil {
		sum := md5.Sum([]byte(c.body))
		request.Header.Set("Content-Md5", c.md5(sum[:]))
	}
	if !c.withoutToken {
		request.Header.Set("Security-Token", key.Token)
	}
	request.Header.Set("Authorization", "MNS "+key.ID+":"+mns.Sign(key.Secret, mns.StringToSign(request, c.path)))
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(text)
}

func TestService_ServesClientsOfOtherKinds(t *testing.T) {
	service, server, key := start(t, "letters")
	rfc1864 := base64.StdEncoding.EncodeToString
	hexText := func(sum []byte) string { return base64.StdEncoding.EncodeToString([]byte(hex.EncodeToString(sum))) }
	for name, c := range map[string]call{
		"namespace with a slash":    {body: `<Message xmlns="http://mns.aliyuncs.com/doc/v1/"><MessageBody>x</MessageBody></Message>`, md5: rfc1864},
		"namespace without a slash": {body: `<Message xmlns="http://mns.aliyuncs.com/doc/v1"><MessageBody>x</MessageBody></Message>`, md5: hexText},
		"no namespace":              {body: `<?xml version="1.0"?><Message><MessageBody>x</MessageBody><DelaySeconds>0</DelaySeconds><Priority>8</Priority></Message>`},
		"a batch":                   {body: `<Messages xmlns="http://mns.aliyuncs.com/doc/v1/"><Message><MessageBody>x</MessageBody></Message></Messages>`},
		"a comment after the root":  {body: "<Message><MessageBody>x</MessageBody></Message><!-- end -->\n"},
		"a byte order mark":         {body: "\ufeff<Message><MessageBody>x</MessageBody></Message>"},
		"x-mns-date":                {body: `<Message><MessageBody>x</MessageBody></Message>`, datedByMNSHeader: true},
		"under the prefix":          {path: mns.Prefix + "/queues/letters/messages", body: `<Message><MessageBody>x</MessageBody></Message>`},
	} {
		t.Run(name, func(t *testing.T) {
			c.method = http.MethodPost
			if c.path == "" {
				c.path = "/queues/letters/messages"
			}
			status, body := c.send(t, server, key)
			require.Equal(t, http.StatusCreated, status, body)
			assert.Contains(t, body, `xmlns="http://mns.aliyuncs.com/doc/v1"`)
		})
	}
	require.Len(t, service.Messages("letters"), 8)

	for _, query := range []string{"numOfMessages=2", "NUMOFMESSAGES=2&waitSeconds=1"} {
		status, body := call{method: http.MethodGet, path: "/queues/letters/messages?" + query}.send(t, server, key)
		require.Equal(t, http.StatusOK, status, body)
		var got struct {
			Message []struct{ ReceiptHandle string }
		}
		require.NoError(t, xml.Unmarshal([]byte(body), &got))
		require.Len(t, got.Message, 2)
		status, body = call{method: http.MethodPut, path: "/queues/letters/messages?receiptHandle=" + got.Message[0].ReceiptHandle + "&VisibilityTimeout=60"}.send(t, server, key)
		require.Equal(t, http.StatusOK, status, body)
		status, _ = call{method: http.MethodDelete, path: "/queues/letters/messages?ReceiptHandle=" + got.Message[1].ReceiptHandle}.send(t, server, key)
		require.Equal(t, http.StatusNoContent, status)
	}
	status, body := call{method: http.MethodGet, path: "/queues/letters/messages?peekonly=true&numOfMessages=16"}.send(t, server, key)
	require.Equal(t, http.StatusOK, status)
	assert.NotContains(t, body, "ReceiptHandle")
}

func TestService_TakesAKeyPairWithoutAToken(t *testing.T) {
	service, server, key := start(t, "letters")
	pair := standin.NewKeyPair()
	service.Keys.Add(pair)
	_, err := sdk.NewMNSQueue("letters", client(server, pair)).SendMessage(sdk.MessageSendRequest{MessageBody: "x", Priority: 8})
	require.NoError(t, err)
	key.Token = ""
	_, err = sdk.NewMNSQueue("letters", client(server, key)).SendMessage(sdk.MessageSendRequest{MessageBody: "x", Priority: 8})
	assert.True(t, sdk.ERR_MNS_ACCESS_DENIED.IsEqual(err), "%v", err)
}

func TestService_NamesUnknownKeysInItsOwnWords(t *testing.T) {
	_, server, _ := start(t, "letters")
	status, body := call{method: http.MethodGet, path: "/queues/letters"}.send(t, server, standin.NewKey())
	assert.Equal(t, http.StatusForbidden, status)
	assert.Contains(t, body, "<Code>InvalidAccessKeyId</Code><Message>The access Id you provided is not exist.</Message>")
}
