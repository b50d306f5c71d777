package events_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
)

func TestDecoder_IgnoresABackupSetThatIsNotComplete(t *testing.T) {
	all := decode(t, readFile(t, "unfinished.json"))
	require.Len(t, all, 1)
	require.Nil(t, all[0].err)
	assert.True(t, all[0].event.Ignored())
	assert.Equal(t, "FILLING", all[0].event.BackupStatus)
	assert.Equal(t, request(54, ""), all[0].event.Request, "the log names the set")

	for body, want := range map[string]events.Request{
		`{"BackupSetJobId":"a","BackupSetId":"b","BackupStatus":"%s"}`:                   {BackupSetID: "a", BackupSetName: "b"},
		`{"BackupSetJobId":"a","BackupStatus":"%s"}`:                                     {BackupSetID: "a"},
		`{"BackupSetJobId":"a","BackupSetId":"b","ClientToken":"c","BackupStatus":"%s"}`: {BackupSetID: "a", BackupSetName: "b"},
	} {
		for _, status := range []string{"INIT", "FILLING", "UNCOMPLETED", "Filling", " init\n"} {
			all := decode(t, fmt.Appendf(nil, body, strings.ReplaceAll(status, "\n", `\n`)))
			require.Nil(t, all[0].err, "what is missing or wrong may be right at its completion")
			assert.True(t, all[0].event.Ignored())
			assert.Equal(t, status, all[0].event.BackupStatus)
			assert.Equal(t, want, all[0].event.Request)
		}
	}
}

func TestDecoder_TakesACompletedBackupSet(t *testing.T) {
	for _, status := range []string{`"COMPLETED"`, `"Completed"`, `" completed\t"`, `""`, `" "`, `null`} {
		all := decode(t, []byte(`{"BackupSetJobId":"a","BackupSetId":"b","BackupStatus":`+status+`}`))
		require.Nil(t, all[0].err, status)
		assert.False(t, all[0].event.Ignored(), status)
		assert.Equal(t, events.Request{BackupSetID: "a", BackupSetName: "b", ClientToken: "a/b"}, all[0].event.Request)
	}
	for _, status := range []string{"FILLING", "finish"} {
		all := decode(t, []byte(`{"BackupSetId":"a","BackupSetName":"b","BackupStatus":"`+status+`"}`))
		require.Nil(t, all[0].err)
		assert.False(t, all[0].event.Ignored(), "BackupStatus is a list item's field")
		assert.Empty(t, all[0].event.BackupStatus)
	}
}

func TestDecoder_RefusesAStatusThatDBSDoesNotDocument(t *testing.T) {
	for _, status := range []string{"x", "finish", "COMPLETE", "NOT COMPLETED", strings.Repeat("x", 1024)} {
		all := decode(t, []byte(`{"BackupSetJobId":"a","BackupSetId":"b","BackupStatus":"`+status+`"}`))
		require.NotNil(t, all[0].err, status)
		assert.Equal(t, events.CodeUnknownBackupStatus, all[0].err.Code)
		assert.Equal(t, fmt.Sprintf("BackupStatus is %.32q; it must be one of INIT, FILLING, COMPLETED, UNCOMPLETED", status),
			all[0].err.Message)
		assert.False(t, all[0].event.Ignored())
		assert.Equal(t, status, all[0].event.BackupStatus)
		assert.Equal(t, events.Request{BackupSetID: "a", BackupSetName: "b"}, all[0].event.Request, "the log names the set")
	}
}

func TestDecoder_AppliesTheDefaultDataFormat(t *testing.T) {
	for event, err := range (events.Decoder{DataFormat: "SQL"}).Decode(readFile(t, "backup-set", "list-item.json")) {
		require.NoError(t, err)
		assert.Equal(t, setToken, event.Request.ClientToken, "the token does not change with a setting")
		assert.Equal(t, "SQL", event.Request.BackupSetDataFormat)
	}
	for event, err := range (events.Decoder{DataFormat: "SQL"}).Decode(readFile(t, "event-streaming.json")) {
		require.NoError(t, err)
		want := map[string]string{firstID: "SQL", secondID: "Native"}[event.ID]
		assert.Equal(t, want, event.Request.BackupSetDataFormat)
	}
}

func TestDecoder_SaysWhatIsWrong(t *testing.T) {
	set := `"BackupSetId":"x","BackupSetName":"y"`
	for name, c := range map[string]struct{ payload, code, says string }{
		"empty": {"", events.CodeMalformed, "the payload is empty"},
		"blank": {" \n", events.CodeMalformed, "neither a JSON object or array nor base64"},
		"cut off": {`[{"BackupSetId":"x"`,
			events.CodeMalformed, "the payload (19 bytes) is invalid JSON, line 1, column 20: unexpected EOF"},
		"a comma too many": {"\ufeff{\n  \"BackupSetId\": \"é\", }",
			events.CodeMalformed, "line 2, column 23: invalid character '}'"},
		"a comma too few": {"{\"a\":1\n\"b\":2}",
			events.CodeMalformed, "line 2, column 1: invalid character '\"' after object value"},
		"a line in a string": {"{\"a\":\"1\n2\"}",
			events.CodeMalformed, `line 1, column 8: invalid character '\n' in string`},
		"two payloads": {"{}\n{}",
			events.CodeMalformed, "line 2, column 1: invalid character '{' after top-level value"},
		"broken in a body": {`[{"messageBody":"{\n\"a\":}"}]`,
			events.CodeMalformed, "the event is invalid JSON, line 2, column 5"},
		"broken in base64": {"eyJhIjp9", events.CodeMalformed, "is base64 of invalid JSON, line 1, column 6"},
		"broken in quotes": {`"{\"a\":}"`,
			events.CodeMalformed, "is a string that holds invalid JSON, line 1, column 6"},
		"too deep": {strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001),
			events.CodeMalformed, "exceeded max depth"},
		"binary":   {"\x00\xff", events.CodeMalformed, "neither a JSON object or array nor base64"},
		"a number": {"42", events.CodeMalformed, "neither a JSON object or array nor base64"},
		"other keys": {`{"key":"value"}`,
			events.CodeMissingBackupSet, "this is neither a backup set nor a command"},
		"no name": {`{"BackupSetId":"x"}`,
			events.CodeMissingBackupSet, "BackupSetJobId or BackupSetName is missing"},
		"no ID": {`{"BackupSetName":"x"}`, events.CodeMissingBackupSet, "BackupSetId is missing. A backup set needs BackupSetJobId and BackupSetId"},
		"job and name": {`{"BackupSetName":"x","BackupSetJobId":"y"}`,
			events.CodeMissingBackupSet, "BackupSetId is missing. A backup set needs BackupSetJobId and BackupSetId"},
		"lower case": {`{"backupsetid":"x","backupsetname":"y"}`,
			events.CodeMissingBackupSet, "names are case-sensitive: BackupSetId, not backupsetid"},
		"camel case": {`{"BackupSetId":"x","backupSetName":"y"}`,
			events.CodeMissingBackupSet, "names are case-sensitive: BackupSetName, not backupSetName"},
		"both cases": {`{"BackupSetId":"x","backupsetid":"y"}`,
			events.CodeMissingBackupSet, "BackupSetJobId or BackupSetName is missing"},
		"a list answer": {`{"Items":{"IncrementBackupFile":[]},"Success":true}`,
			events.CodeMissingBackupSet, "send each item of Items.IncrementBackupFile by itself"},
		"the items of one": {`{"IncrementBackupFile":[]}`,
			events.CodeMissingBackupSet, "send each item of Items.IncrementBackupFile by itself"},
		"a Discover command": {`[{"messageBody":"{\"Discover\":{}}"}]`,
			events.CodeMissingBackupSet, "this is a command, not a backup event"},
		"a Check command": {`[{"messageBody":"{\"Check\":{}}"}]`,
			events.CodeMissingBackupSet, "this is a command, not a backup event"},
		"no specversion": {`{"id":7,"data":{` + set + `}}`, events.CodeMissingBackupSet, "no specversion"},
		"specversion null": {`{"specversion":null,"id":7,"data":{` + set + `}}`,
			events.CodeMissingBackupSet, "no specversion"},
		"contradiction": {`{"BackupSetJobId":"x","BackupSetId":"y","BackupSetName":"z"}`,
			events.CodeConflict, "BackupSetJobId, BackupSetId and BackupSetName"},
		"format": {`{` + set + `,"BackupSetDataFormat":"sql"}`,
			events.CodeUnsupportedDataFormat, `"sql"; it must be one of Native, SQL, CSV, JSON`},
		"number for a string": {`{"BackupSetId":1,"BackupSetName":"y"}`,
			events.CodeMalformed, "BackupSetId must be a string"},
		"DryRun text": {`{` + set + `,"DryRun":"true"}`,
			events.CodeMalformed, "DryRun must be true or false"},
		"dryRun": {`{` + set + `,"dryRun":true}`,
			events.CodeMalformed, "names are case-sensitive: DryRun, not dryRun"},
		"DryRun in an array": {`[{` + set + `,"DryRun":true}]`, events.CodeMalformed, "DryRun takes one backup set"},
		"DryRun delivered": {`{"messageBody":"{\"BackupSetId\":\"x\",\"BackupSetName\":\"y\",\"DryRun\":true}"}`,
			events.CodeMalformed, "DryRun is for events typed by hand"},
		"no data": {`{"specversion":"1.0","id":"1"}`, events.CodeMalformed, "no data"},
		"ID of a wrong type": {`{"specversion":"1.0","id":{},"data":{}}`,
			events.CodeMalformed, "id must be a string"},
		"message ID of that": {`{"messageId":[],"messageBody":"{}"}`,
			events.CodeMalformed, "message ID must be a string"},
		"body of a wrong type": {`{"messageBody":5}`, events.CodeMalformed, "messageBody must be a string"},
		"body null":            {`{"messageBody":null}`, events.CodeMalformed, "messageBody must be a string"},
		"array in a body":      {`{"messageBody":"[{}]"}`, events.CodeMalformed, "one backup set in each message"},
		"too long": {`{"BackupSetId":"` + strings.Repeat("é", 1025) + `","BackupSetName":"y"}`,
			events.CodeMalformed, "1025 characters long"},
		"wrapped without end": {strings.Repeat(`{"specversion":"1.0","id":"1","data":`, 50) + "{}" + strings.Repeat("}", 50),
			events.CodeMalformed, "wrapped more than"},
		"a result": {`{"specversion":"1.0","id":"1","type":"dbs:IncrementBackupSetDownload:TaskCreated","data":{` + set + `}}`,
			events.CodeOwnResult, "the result queue and the source queue are the same"},
		"a result of any kind": {`{"specversion":"1.0","id":"1","type":"dbs:IncrementBackupSetDownload:Other"}`,
			events.CodeOwnResult, "not a backup event"},
		"a result in a message": {`[{"messageBody":"{\"specversion\":\"1.0\",\"type\":\"dbs:IncrementBackupSetDownload:TaskFailed\"}"}]`,
			events.CodeOwnResult, "not a backup event"},
	} {
		t.Run(name, func(t *testing.T) {
			all := decode(t, []byte(c.payload))
			require.Len(t, all, 1)
			require.NotNil(t, all[0].err)
			assert.Equal(t, c.code, all[0].err.Code)
			assert.Contains(t, all[0].err.Error(), c.says)
			assert.Less(t, len(all[0].err.Message), 512)
		})
	}
}

// A person learns what can be sent from what was wrong; a producer has no commands.
func TestDecoder_SaysWhatCanBeTyped(t *testing.T) {
	const (
		sets = "A backup set needs BackupSetJobId and BackupSetId, as DescribeIncrementBackupList lists it, " +
			"or BackupSetId and BackupSetName, as CreateIncrementBackupSetDownload takes it"
		commands = `The commands are {"Check":{}}, which tries the deployment, and {"Discover":{}}, which announces finished sets`
	)
	for typed, says := range map[string]string{
		`{}`:                                     "this is neither a backup set nor a command",
		`{"Chek":{}}`:                            "this is neither a backup set nor a command",
		`{"check":{}}`:                           "names are case-sensitive: Check, not check",
		`{"discover":{"DryRun":true}}`:           "names are case-sensitive: Discover, not discover",
		`{"BackupSetId":"a","BackupSetNam":"b"}`: "BackupSetJobId or BackupSetName is missing",
		`{"BackupSetID":"a","BackupSetName":"b"}`: "names are case-sensitive: BackupSetId, not BackupSetID",
		`{"BackupSet":"a","BackupSetName":"b"}`:   "BackupSetId is missing",
	} {
		t.Run(typed, func(t *testing.T) {
			_, isCommand, err := events.ReadCommand([]byte(typed))
			require.NoError(t, err)
			assert.False(t, isCommand)
			byHand := decode(t, []byte(typed))[0]
			require.NotNil(t, byHand.err)
			assert.True(t, byHand.event.ByHand)
			assert.Equal(t, says+". "+sets+". "+commands, byHand.err.Message)

			delivered := decode(t, inQueue(t, typed))[0]
			require.NotNil(t, delivered.err)
			assert.True(t, strings.HasSuffix(delivered.err.Message, sets), delivered.err.Message)
		})
	}
}

func TestDecoder_TreatsEachMessageOnItsOwn(t *testing.T) {
	all := decode(t, readFile(t, "malformed.json"))
	codes := []string{
		events.CodeMalformed, events.CodeMissingBackupSet, events.CodeConflict,
		events.CodeUnsupportedDataFormat, events.CodeMalformed, events.CodeMalformed,
	}
	require.Len(t, all, len(codes))
	for i, got := range all {
		require.NotNil(t, got.err)
		assert.Equal(t, codes[i], got.err.Code)
		assert.NotEmpty(t, got.event.Body)
		assert.False(t, got.event.ByHand)
	}
	assert.Empty(t, decode(t, []byte("[]")))
}

func TestDecoder_NamesTheElementOfATypedArray(t *testing.T) {
	all := decode(t, []byte(`[{"key":1}, {"BackupSetId":"a","BackupSetName":"b"}, 42, "x", {"messageId":"1","messageBody":"{}"}]`))
	require.Len(t, all, 5)
	assert.Contains(t, all[0].err.Message, "element 1 of the array: this is neither")
	assert.Nil(t, all[1].err)
	assert.Contains(t, all[2].err.Message, "element 3 of the array: the event is neither")
	assert.Contains(t, all[3].err.Message, "element 4 of the array: the event is neither")
	assert.NotContains(t, all[4].err.Message, "element", "a message has an ID, and its place changes with each delivery")
	alone := decode(t, []byte(`{"key":1}`))
	assert.NotContains(t, alone[0].err.Message, "element")
}

func TestDecoder_NamesTheSetThatItRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		want events.Request
	}{
		"format": {`{"BackupSetJobId":"a","BackupSetId":"b","BackupSetDataFormat":"XML"}`,
			events.Request{BackupSetID: "a", BackupSetName: "b"}},
		"DryRun in an array": {`[{"BackupSetId":"a","BackupSetName":"b","ClientToken":"c","DryRun":true}]`,
			events.Request{BackupSetID: "a", BackupSetName: "b"}},
		"incomplete":    {`{"BackupSetId":"b"}`, events.Request{}},
		"contradiction": {`{"BackupSetJobId":"a","BackupSetId":"b","BackupSetName":"c"}`, events.Request{}},
	} {
		t.Run(name, func(t *testing.T) {
			all := decode(t, []byte(c.body))
			require.NotNil(t, all[0].err)
			assert.Equal(t, c.want, all[0].event.Request)
		})
	}
}

// An error text goes to logs and results: it may say where, and not what.
func TestDecoder_PrintsNoBody(t *testing.T) {
	secret := "s3cr3t-in-the-body"
	quoted, err := json.Marshal(secret)
	require.NoError(t, err)
	for _, payload := range []string{
		`{"a":` + string(quoted) + `,}`, secret, `[` + string(quoted) + `]`, `{"BackupSetId":` + string(quoted) + `}`,
		`{"` + secret + `":1}`, `{"BackupSetId":"` + secret, `{"specversion":"1.0","id":[` + string(quoted) + `]}`,
	} {
		all := decode(t, []byte(payload))
		require.NotNil(t, all[0].err)
		assert.NotContains(t, all[0].err.Error(), secret)
	}
}

// All three names: right if they are one, and a contradiction if any differs.
func TestDecoder_AllThreeNames(t *testing.T) {
	for body, conflict := range map[string]bool{
		`{"BackupSetJobId":"a","BackupSetId":"a","BackupSetName":"a"}`: false,
		`{"BackupSetJobId":"a","BackupSetId":"a","BackupSetName":"b"}`: true,
		`{"BackupSetJobId":"a","BackupSetId":"b","BackupSetName":"b"}`: true,
	} {
		all := decode(t, []byte(body))
		assert.Equal(t, conflict, all[0].err != nil && all[0].err.Code == events.CodeConflict, body)
	}
}

// Producers may add members of any name; only a person's dryRun is a mistake.
func TestDecoder_ADeliveredSetMayHaveMembersOfOtherNames(t *testing.T) {
	all := decode(t, inQueue(t, `{"BackupSetId":"a","BackupSetName":"b","dryRun":true,"startTime":1}`))
	assert.Nil(t, all[0].err)
}
