package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	openapiutil "github.com/alibabacloud-go/darabonba-openapi/v2/utils"
	"github.com/alibabacloud-go/tea/dara"
	"github.com/alibabacloud-go/tea/tea"
	sdk "github.com/aliyun/aliyun-mns-go-sdk"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
)

// keep starts a run that goes on, and returns its output and a function that
// interrupts it and asserts that it ends well.
func keep(t *testing.T, opts options) (printed *harness.Output, interrupt func()) {
	t.Helper()
	opts.keep = true
	ctx, cancel := context.WithCancel(t.Context())
	printed = &harness.Output{}
	notes := &harness.Output{}
	l := newLocal(opts, strings.NewReader(""), printed, notes)
	l.timerInterval = 200 * time.Millisecond
	done := make(chan error, 1)
	go func() {
		_, err := l.run(ctx)
		done <- err
	}()
	return printed, func() {
		t.Helper()
		cancel()
		require.NoError(t, <-done, "%s%s", printed, notes)
	}
}

func waitFor(t *testing.T, printed *harness.Output, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	require.NoError(t, printed.WaitFor(ctx, text), "%s", printed)
}

// lines returns what was printed after the first line, a JSON object a line.
func lines(t *testing.T, printed *harness.Output) (first address, ends []map[string]any) {
	t.Helper()
	for i, line := range strings.Split(strings.TrimSpace(printed.String()), "\n") {
		if i == 0 {
			require.NoError(t, json.Unmarshal([]byte(line), &first))
			continue
		}
		var end map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &end), line)
		ends = append(ends, end)
	}
	return first, ends
}

// Other people's clients use the stand-ins with a key pair, without a token, and what
// they send is delivered.
func TestLocal_KeepsServingOtherClients(t *testing.T) {
	t.Parallel()
	printed, interrupt := keep(t, options{json: true})
	waitFor(t, printed, "\n")
	access, _ := lines(t, printed)

	client := sdk.NewAliMNSClientWithConfig(sdk.AliMNSClientConfig{EndPoint: access.MNSForGoSDK,
		AccessKeyId: access.KeyPair.AccessKeyID, AccessKeySecret: access.KeyPair.AccessKeySecret})
	require.NoError(t, sdk.NewMNSQueueManager(client).CreateSimpleQueue("mine"), "more than the function's role may")
	_, err := sdk.NewMNSQueue(access.SourceQueue, client).SendMessage(sdk.MessageSendRequest{
		MessageBody: harness.ListItem("a-job-of-mine", "mysql-bin.000070"), Priority: 8})
	require.NoError(t, err)
	// The timer announces the finished sets of the plan meanwhile.
	for _, name := range []string{"mysql-bin.000070", "mysql-bin.000048", "mysql-bin.000049"} {
		waitFor(t, printed, `"backupSetName":"`+name+`","outcome":"task created"`)
	}
	waitFor(t, printed, `{"announced":2,"backupPlanId":"dbsqdss5tmh0001","timer":"announced"}`)
	_, ends := lines(t, printed)
	assert.Len(t, ends, 4)

	results, failed := make(chan sdk.MessageReceiveResponse, 1), make(chan error, 1)
	sdk.NewMNSQueue(access.ResultQueue, client).ReceiveMessage(results, failed)
	select {
	case message := <-results:
		assert.Contains(t, message.MessageBody, "dbs:IncrementBackupSetDownload:TaskCreated")
	case err := <-failed:
		require.NoError(t, err)
	}

	dbsClient, err := openapi.NewClient(&openapiutil.Config{
		AccessKeyId: &access.KeyPair.AccessKeyID, AccessKeySecret: &access.KeyPair.AccessKeySecret,
		Endpoint: tea.String(strings.TrimPrefix(access.DBS, "http://")), Protocol: tea.String("http"),
	})
	require.NoError(t, err)
	answer, err := dbsClient.CallApi(&openapiutil.Params{
		Action: tea.String("DescribeIncrementBackupList"), Version: tea.String("2019-03-06"), Protocol: tea.String("HTTP"),
		Method: tea.String("POST"), AuthType: tea.String("AK"), Style: tea.String("RPC"), Pathname: tea.String("/"),
		ReqBodyType: tea.String("json"), BodyType: tea.String("json"),
	}, &openapiutil.OpenApiRequest{Query: map[string]*string{"BackupPlanId": &access.BackupPlanID}},
		&dara.RuntimeOptions{})
	require.NoError(t, err)
	text, err := json.Marshal(answer["body"])
	require.NoError(t, err)
	assert.Contains(t, string(text), fillingSet)
	interrupt()
}

func TestLocal_KeepsOnAfterTheSamples(t *testing.T) {
	t.Parallel()
	printed, interrupt := keep(t, options{})
	waitFor(t, printed, "timer: 1 backup set of plan dbsqdss5tmh0001 announced")
	waitFor(t, printed, "task created     "+fillingSet)
	assert.Contains(t, printed.String(), "Every set and event ended as it should")
	assert.Regexp(t, `MNS for its Go SDK  http://127\.0\.0\.1:\d+/mns\.local\n`, printed.String())
	assert.Regexp(t, `AccessKeyId +LTAI`, printed.String(), "without a token")
	interrupt()
}
