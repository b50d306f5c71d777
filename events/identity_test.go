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

// The digests of this file were computed with: printf %s "$TEXT" | sha256sum

func TestDecoder_MakesAStableTokenOfAnyID(t *testing.T) {
	all := decode(t, readFile(t, "unusual-ids.json"))
	require.Len(t, all, 3)
	for _, got := range all {
		require.Nil(t, got.err)
	}
	assert.Equal(t, "836203944f4c0280461ad73d31457c22ba19d1d99e232dc231000085899e00a2", all[0].event.Request.ClientToken)
	assert.Equal(t, "aa0990f09f942976148490a154a82c3d5a74d45e525d7eef8eb4c18a73d09e61", all[1].event.Request.ClientToken)
	assert.Equal(t, all, decode(t, readFile(t, "unusual-ids.json")), "the same event, the same token")
}

func TestDecoder_TakesTheFirstTokenThereIs(t *testing.T) {
	const set = `"BackupSetId":"x","BackupSetName":"y"`
	long := strings.Repeat("a", 65)
	const longSum = "635361c48bb9eab14198e76ea8ab7f1a41685d6ad62aa9146d301d4f17eb0ae0"
	for name, c := range map[string]struct{ payload, want string }{
		"its own":                        {`{"specversion":"1.0","id":"1","data":{` + set + `,"ClientToken":"own"}}`, "own"},
		"its own, too long":              {`{"specversion":"1.0","id":"1","data":{` + set + `,"ClientToken":"` + long + `"}}`, longSum},
		"its own, empty":                 {`{"specversion":"1.0","id":"1","data":{` + set + `,"ClientToken":""}}`, "1"},
		"64 characters":                  {`{"specversion":"1.0","id":"` + long[1:] + `","data":{` + set + `}}`, long[1:]},
		"65 characters":                  {`{"specversion":"1.0","id":"` + long + `","data":{` + set + `}}`, longSum},
		"a space and tilde":              {`{"specversion":"1.0","id":"a ~","data":{` + set + `}}`, "a ~"},
		"a number":                       {`{"specversion":"1.0","id":12345,"data":{` + set + `}}`, "12345"},
		"the inner ID":                   {`{"specversion":"1.0","id":"1","data":{"specversion":"1.0","id":"2","data":{` + set + `}}}`, "2"},
		"no inner ID":                    {`{"specversion":"1.0","id":"1","data":{"specversion":"1.0","data":{` + set + `}}}`, "1"},
		"the message ID":                 {`{"messageId":"m","messageBody":{` + set + `}}`, "m"},
		"no specversion beside":          {`{"messageId":"m","messageBody":{` + set + `,"id":7}}`, "m"},
		"no ID":                          {`{` + set + `}`, "x/y"},
		"no ID, a list item":             {`{"BackupSetJobId":"x","BackupSetId":"y"}`, "x/y"},
		"no ID, a StartTime":             {`{` + set + `,"StartTime":1669161600000}`, "x/y@1669161600000"},
		"no ID, a StartTime in a string": {`{` + set + `,"StartTime":"1669161600000"}`, "x/y@1669161600000"},
		"no ID, StartTime 0":             {`{` + set + `,"StartTime":0}`, "x/y"},
		"no ID, StartTime null":          {`{` + set + `,"StartTime":null}`, "x/y"},
		"an ID and a StartTime":          {`{"specversion":"1.0","id":"1","data":{` + set + `,"StartTime":1669161600000}}`, "1"},
		"no ID, too long": {`{"BackupSetId":"x","BackupSetName":"` + long + `"}`,
			"7174694b60ec585f73afa7d86b225c578d82935ad08098bf0e6b23fcaf5383d1"},
		"no ID, a format": {`{` + set + `,"BackupSetDataFormat":"SQL"}`,
			"91b7edf8379fe479cf6e0e074865c17680db58de69937b667da8a9e75dd64e4c"},
		"no ID, a format and a StartTime": {`{` + set + `,"BackupSetDataFormat":"SQL","StartTime":1669161600000}`,
			"f35720b564e89b3edfbdfdb0d1a4662d5f52928d84a99a426933c94ad75da807"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, setting := range []string{"", "CSV"} {
				for event, err := range (events.Decoder{DataFormat: setting}).Decode([]byte(c.payload)) {
					require.NoError(t, err)
					assert.Equal(t, c.want, event.Request.ClientToken, "setting %q", setting)
				}
			}
		})
	}
}

// A set typed by hand must not get a second task beside its announcement.
func TestDecoder_GivesATypedSetTheTokenOfItsAnnouncement(t *testing.T) {
	announced := decode(t, readFile(t, "announcement.json"))[0].event
	typed := decode(t, []byte(`{"BackupSetJobId":"t4yh0g0g0001","BackupSetId":"mysql-bin.000058","StartTime":1669161600000}`))[0].event
	assert.Equal(t, announced.Request, typed.Request)
}

func TestDecoder_MakesDifferentTokensOfDifferentSets(t *testing.T) {
	bodies := []string{
		`{"BackupSetId":"a","BackupSetName":"b"}`, `{"BackupSetId":"a","BackupSetName":"c"}`, `{"BackupSetId":"c","BackupSetName":"b"}`,
		`{"BackupSetId":"a","BackupSetName":"b","BackupSetDataFormat":"SQL"}`,
		`{"BackupSetId":"a","BackupSetName":"b","BackupSetDataFormat":"CSV"}`,
		`{"BackupSetId":"a","BackupSetName":"b","StartTime":1}`, `{"BackupSetId":"a","BackupSetName":"b","StartTime":2}`,
		`{"BackupSetId":"a","BackupSetName":"b","BackupSetDataFormat":"CSV","StartTime":1}`,
	}
	seen := map[string]string{}
	for _, body := range bodies {
		seen[decode(t, []byte(body))[0].event.Request.ClientToken] = body
	}
	assert.Len(t, seen, len(bodies))
}

func TestEvent_ResultIDIsNeverEmptyAndBounded(t *testing.T) {
	body := "message"
	sum := "ab530a13e45914982b79f9b7e3fba994cfd1f3fb22f71cea1afbf02b460c6d1d"
	assert.Equal(t, "id", events.Event{ID: "id", Body: body}.ResultID())
	assert.Equal(t, sum, events.Event{Body: body}.ResultID())
	assert.Len(t, events.Event{ID: "id", Body: body}.OwnResultID(), 64)
	assert.NotEqual(t, events.Event{ID: "id", Body: body}.OwnResultID(), events.Event{ID: "id2", Body: body}.OwnResultID())
	assert.Len(t, events.Event{ID: strings.Repeat("x", 1025)}.ResultID(), 64)
}

// See https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#type-system
func TestResult_KeepsForbiddenCharactersOutOfItsAttributes(t *testing.T) {
	result := func(text string) events.Result {
		quoted, err := json.Marshal(text)
		require.NoError(t, err)
		payload := fmt.Sprintf(`{"specversion":"1.0","id":%s,"data":{"BackupSetId":"a","BackupSetName":%s}}`, quoted, quoted)
		all := decode(t, []byte(payload))
		require.Nil(t, all[0].err)
		event := all[0].event
		return events.NewResult(events.TypeTaskCreated, event.ResultID(), event, source, at, events.NewResultData(event))
	}
	for _, forbidden := range []rune{0, '\t', '\n', 0x1f, 0x7f, 0x80, 0x9f, 0xfdd0, 0xfdef, 0xfffe, 0xffff, 0x1fffe, 0x10ffff} {
		text := "binlog" + string(forbidden)
		got := result(text)
		assert.Regexp(t, "^[0-9a-f]{64}$", got.ID, "%U", forbidden)
		assert.Empty(t, got.Subject, "%U", forbidden)
		assert.Equal(t, text, got.Data.EventID, "the data has the real value")
		assert.Equal(t, text, got.Data.BackupSetName, "the data has the real value")
		assert.NotEqual(t, got.ID, result(text+"2").ID)
	}
	for _, allowed := range []rune{' ', '~', 0xa0, '中', 0xfdcf, 0xfdf0, 0xfffd, 0x10000, '😀'} {
		text := "binlog" + string(allowed)
		assert.Equal(t, text, result(text).ID, "%U", allowed)
		assert.Equal(t, text, result(text).Subject, "%U", allowed)
	}
	assert.Len(t, events.Event{ID: "\xff"}.ResultID(), 64, "invalid UTF-8")
	unpaired := decode(t, []byte(`{"specversion":"1.0","id":"a\ud800","data":{"BackupSetId":"a","BackupSetName":"b"}}`))
	assert.Equal(t, "a\ufffd", unpaired[0].event.ResultID())
}

// An empty ID is none, and a StartTime of 0 is unknown.
func TestDecoder_TheTokenOfAnOddEvent(t *testing.T) {
	const set = `"BackupSetId":"x","BackupSetName":"y"`
	for name, c := range map[string]struct{ payload, want string }{
		"an empty inner ID": {`{"specversion":"1.0","id":"1","data":{"specversion":"1.0","id":"","data":{` + set + `}}}`, "1"},
		"no ID, a format and StartTime 0": {`{` + set + `,"BackupSetDataFormat":"SQL","StartTime":0}`,
			"91b7edf8379fe479cf6e0e074865c17680db58de69937b667da8a9e75dd64e4c"},
	} {
		all := decode(t, []byte(c.payload))
		require.Nil(t, all[0].err, name)
		assert.Equal(t, c.want, all[0].event.Request.ClientToken, name)
	}
}

func TestDecoder_AnIDMustNotBeABoolean(t *testing.T) {
	for _, id := range []string{"true", "false", "{}", "[]"} {
		all := decode(t, []byte(`{"specversion":"1.0","id":`+id+`,"data":{"BackupSetId":"x","BackupSetName":"y"}}`))
		require.NotNil(t, all[0].err, id)
		assert.Equal(t, events.CodeMalformed, all[0].err.Code)
	}
}

func TestEvent_OwnResultIDsDiffer(t *testing.T) {
	ids := map[string]bool{}
	for _, e := range []events.Event{{ID: "1", MessageID: "m", Body: "b"}, {ID: "1", MessageID: "n", Body: "b"}, {ID: "1", MessageID: "m", Body: "c"}} {
		ids[e.OwnResultID()] = true
	}
	assert.Len(t, ids, 3)
}
