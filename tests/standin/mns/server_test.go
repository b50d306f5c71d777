package mns_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	sdk "github.com/aliyun/aliyun-mns-go-sdk"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/mns"
)

func start(t *testing.T, queues ...string) (*mns.Service, *standin.Server, standin.Key) {
	t.Helper()
	key := standin.NewKey()
	service := mns.New(standin.NewKeys(key), nil, queues...)
	server, err := standin.Start(service)
	require.NoError(t, err)
	t.Cleanup(server.Close)
	return service, server, key
}

func client(server *standin.Server, key standin.Key) sdk.MNSClient {
	return sdk.NewAliMNSClientWithConfig(sdk.AliMNSClientConfig{
		EndPoint: mns.Endpoint(server.URL), AccessKeyId: key.ID, AccessKeySecret: key.Secret, Token: key.Token,
	})
}

func TestService_RefusesWithTheServicesCodes(t *testing.T) {
	service, server, key := start(t, "letters")
	const path = "/queues/letters/messages"
	message := `<Message><MessageBody>x</MessageBody></Message>`
	many := "<Messages>" + strings.Repeat(message, 17) + "</Messages>"
	large := "<Messages>" + strings.Repeat("<Message><MessageBody>"+strings.Repeat("x", 40_000)+"</MessageBody></Message>", 2) + "</Messages>"
	for name, c := range map[string]struct {
		call   call
		status int
		code   string
	}{
		"an old date":          {call{method: "POST", path: path, body: message, date: time.Now().Add(-16 * time.Minute)}, 408, "TimeExpired"},
		"a wrong digest":       {call{method: "POST", path: path, body: message, md5: func([]byte) string { return "AAAA" }}, 400, "InvalidDegist"},
		"no token":             {call{method: "POST", path: path, body: message, withoutToken: true}, 403, "AccessDenied"},
		"priority 0":           {call{method: "POST", path: path, body: `<Message><MessageBody>x</MessageBody><Priority>0</Priority></Message>`}, 400, "InvalidArgument"},
		"text before the root": {call{method: "POST", path: path, body: "x" + message}, 400, "MalformedXML"},
		"two roots":            {call{method: "POST", path: path, body: message + message}, 400, "MalformedXML"},
		"two batches":          {call{method: "POST", path: path, body: "<Messages>" + message + "</Messages><Messages/>"}, 400, "MalformedXML"},
		"text after the root":  {call{method: "POST", path: path, body: message + "x"}, 400, "MalformedXML"},
		"an open root":         {call{method: "POST", path: path, body: message + "<Message>"}, 400, "MalformedXML"},
		"an empty batch":       {call{method: "POST", path: path, body: "<Messages/>"}, 400, "InvalidArgument"},
		"another root":         {call{method: "POST", path: path, body: "<Letter><MessageBody>x</MessageBody></Letter>"}, 400, "MalformedXML"},
		"two queues at once":   {call{method: "PUT", path: "/queues/a", body: "<Queue/><Queue/>"}, 400, "MalformedXML"},
		"not XML":              {call{method: "POST", path: path, body: "x"}, 400, "MalformedXML"},
		"17 messages":          {call{method: "POST", path: path, body: many}, 400, "InvalidArgument"},
		"over 64 KB":           {call{method: "POST", path: path, body: large}, 400, "InvalidArgument"},
		"no queue":             {call{method: "POST", path: "/queues/nowhere/messages", body: message}, 404, "QueueNotExist"},
		"nothing there":        {call{method: "GET", path: path}, 404, "MessageNotExist"},
		"17 to receive":        {call{method: "GET", path: path + "?numOfMessages=17"}, 400, "InvalidArgument"},
		"no handle":            {call{method: "DELETE", path: path}, 400, "MissingReceiptHandle"},
		"a wrong handle":       {call{method: "DELETE", path: path + "?ReceiptHandle=x"}, 400, "ReceiptHandleError"},
		"no timeout":           {call{method: "PUT", path: path + "?ReceiptHandle=x"}, 400, "MissingVisibilityTimeout"},
		"an underscore":        {call{method: "PUT", path: "/queues/a_b"}, 400, "InvalidQueueName"},
		"a digit first":        {call{method: "GET", path: "/queues/1a"}, 404, "QueueNotExist"},
		"a hyphen first":       {call{method: "PUT", path: "/queues/-a"}, 400, "InvalidQueueName"},
		"a long name":          {call{method: "PUT", path: "/queues/" + strings.Repeat("a", 121)}, 400, "QueueNameLengthError"},
		"visibility too long":  {call{method: "PUT", path: "/queues/a", body: "<Queue><VisibilityTimeout>43201</VisibilityTimeout></Queue>"}, 400, "InvalidArgument"},
		"another path":         {call{method: "GET", path: "/topics"}, 400, "InvalidRequestURL"},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := c.call.send(t, server, key)
			assert.Equal(t, c.status, status, body)
			assert.Contains(t, body, "<Code>"+c.code+"</Code>")
			assert.Regexp(t, "<RequestId>[0-9A-F]{24}</RequestId>", body)
			assert.Contains(t, body, "<HostId>")
		})
	}
	assert.Empty(t, service.Messages("letters"))
}

func TestService_EnforcesThePolicyForEachOperation(t *testing.T) {
	const message = `<Message><MessageBody>x</MessageBody></Message>`
	const queue, messages = "acs:mns:*:*:/queues/letters", "acs:mns:*:*:/queues/letters/messages"
	single := call{method: http.MethodPost, path: "/queues/letters/messages", body: message}
	batch := call{method: http.MethodPost, path: "/queues/letters/messages", body: "<Messages>" + message + "</Messages>"}
	attributes := call{method: http.MethodGet, path: "/queues/letters"}
	for name, c := range map[string]struct {
		actions  string // that are allowed
		resource string
		call     call
		status   int
	}{
		"one message":                           {`"mns:SendMessage"`, messages, single, 201},
		"one message without the action":        {`"mns:BatchSendMessage"`, messages, single, 403},
		"one message on another resource":       {`"mns:SendMessage"`, queue, single, 403},
		"a batch":                               {`"mns:SendMessage","mns:BatchSendMessage"`, messages, batch, 201},
		"a batch without the action of a batch": {`"mns:SendMessage"`, messages, batch, 403},
		"a batch without the action of one":     {`"mns:BatchSendMessage"`, messages, batch, 403},
		"attributes":                            {`"mns:GetQueueAttributes"`, queue, attributes, 200},
		"attributes without the action":         {`"mns:SendMessage"`, queue, attributes, 403},
		"attributes on the queue's messages":    {`"mns:GetQueueAttributes"`, messages, attributes, 403},
	} {
		t.Run(name, func(t *testing.T) {
			service, server, key := start(t, "letters")
			policy, err := standin.ParsePolicy(fmt.Appendf(nil, `{"Statement":[{"Effect":"Allow","Action":[%s],"Resource":[%q]}]}`, c.actions, c.resource))
			require.NoError(t, err)
			service.Policy = policy
			status, body := c.call.send(t, server, key)
			require.Equal(t, c.status, status, body)
			if status == http.StatusForbidden {
				assert.Contains(t, body, "<Code>AccessDenied</Code>")
				assert.Empty(t, service.Messages("letters"))
				return
			}
			assert.Empty(t, policy.Unused())
		})
	}
}

func TestService_ThrottlesInTwoWays(t *testing.T) {
	for name, c := range map[string]struct {
		tooManyRequests bool
		status          int
		code            string
	}{
		"by the older pages":  {false, http.StatusBadRequest, "QpsLimitExceeded"},
		"by the current page": {true, http.StatusTooManyRequests, "TooManyRequests"},
	} {
		t.Run(name, func(t *testing.T) {
			key := standin.NewKey()
			service := mns.New(standin.NewKeys(key), nil, "letters", "others")
			service.TooManyRequests = c.tooManyRequests
			faulty := standin.WithFaults(service)
			faulty.SetPlan(standin.Choose(func(r *http.Request) bool { return mns.QueueOf(r) == "letters" },
				standin.Always(standin.Fault{Kind: standin.Throttle})))
			server, err := standin.Start(faulty)
			require.NoError(t, err)
			t.Cleanup(server.Close)
			status, body := call{method: http.MethodGet, path: mns.Prefix + "/queues/letters/messages"}.send(t, server, key)
			assert.Equal(t, c.status, status)
			assert.Contains(t, body, "<Code>"+c.code+"</Code>")
			status, _ = call{method: http.MethodGet, path: "/queues/others"}.send(t, server, key)
			assert.Equal(t, http.StatusOK, status, "the plan is for one queue")
		})
	}
}

func TestService_RefusesAllWhileItsPublicEndpointIsOff(t *testing.T) {
	service, server, key := start(t, "letters")
	attributes := call{method: http.MethodGet, path: "/queues/letters"}
	service.OpenEndpoint(false)
	status, body := attributes.send(t, server, key)
	assert.Equal(t, http.StatusForbidden, status)
	assert.NotContains(t, body, "<Code>")
	service.OpenEndpoint(true)
	status, _ = attributes.send(t, server, key)
	assert.Equal(t, http.StatusOK, status)
}

// A stand-in is seeded past the network, and read by a real client over it.
func Example() {
	key := standin.NewKey()
	service := mns.New(standin.NewKeys(key), nil, "letters")
	server, err := standin.Start(service)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	if _, err := service.Put("letters", "hello"); err != nil {
		fmt.Println(err)
		return
	}
	m, err := receive(sdk.NewMNSQueue("letters", client(server, key)))
	fmt.Println(m.MessageBody, m.DequeueCount, err)
	// Output: hello 1 <nil>
}

func TestService_DelaysMessages(t *testing.T) {
	send := func(seconds string) call {
		return call{method: http.MethodPost, path: "/queues/letters/messages",
			body: "<Message><MessageBody>x</MessageBody><DelaySeconds>" + seconds + "</DelaySeconds></Message>"}
	}
	service, server, key := start(t, "letters")
	for _, seconds := range []string{"-1", "604801"} {
		status, _ := send(seconds).send(t, server, key)
		assert.Equal(t, http.StatusBadRequest, status, seconds)
	}
	for _, seconds := range []string{"0", "0", "604800"} {
		status, body := send(seconds).send(t, server, key)
		require.Equal(t, http.StatusCreated, status, body)
	}
	require.Len(t, service.Receive("letters", 1), 1)
	active, inactive, delayed := service.Counts("letters")
	assert.Equal(t, []int{1, 1, 1}, []int{active, inactive, delayed})
	_, body := call{method: http.MethodGet, path: "/queues/letters"}.send(t, server, key)
	assert.Contains(t, body, "<ActiveMessages>1</ActiveMessages><InactiveMessages>1</InactiveMessages><DelayMessages>1</DelayMessages>")

	service.DelayFactor = 3_600_000
	_, _ = send("7200").send(t, server, key)
	all := service.Messages("letters")
	assert.Equal(t, all[3].EnqueueTime+2, all[3].NextVisibleTime, "two hours, each in a millisecond")
	assert.Equal(t, all[2].EnqueueTime+604_800_000, all[2].NextVisibleTime, "what was delayed before stays so")
}

func TestService_ReleasesWhatIsHeld(t *testing.T) {
	service, _, _ := start(t, "letters")
	_, err := service.Put("letters", "x")
	require.NoError(t, err)
	_, err = service.PutDelayed("letters", "delayed", time.Hour)
	require.NoError(t, err)
	require.Len(t, service.Receive("letters", 2), 1)
	require.Empty(t, service.Receive("letters", 2))
	service.Release("letters")
	require.Len(t, service.Receive("letters", 2), 1, "what is delayed stays so")
}
