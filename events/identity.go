package events

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strings"
	"unicode/utf8"
)

// readID reads an ID, which CloudEvents wants to be a string; a number is taken
// by its digits, so that it stays the same ID on redelivery.
func readID(into *string, name string, value raw) error {
	switch {
	case value.isNull():
	case strings.IndexByte("{[tf", value[0]) >= 0:
		return malformed("%s must be a string", name)
	case string(value) != `""`:
		*into = value.string()
	}
	return nil
}

// maxToken is the length that Alibaba Cloud's general idempotence rule allows a
// ClientToken; DBS itself documents none. See
// https://www.alibabacloud.com/help/en/ecs/developer-reference/how-to-ensure-idempotence
const maxToken = 64

// clientToken returns the token for an event whose request is otherwise complete. It
// never changes for the same event, so that DBS answers a repeat with the same
// task. It is the first of these that exists, or its SHA-256 if that is not 1 to
// 64 printable ASCII characters:
//
//   - the event's own ClientToken;
//   - the event ID;
//   - the SHA-256 of the parameters and the StartTime, if the event names a
//     BackupSetDataFormat;
//   - the id of the announcement that discovery would make: typed by hand, the set
//     still gets one task.
func clientToken(event Event, startTime string) string {
	request := event.Request
	token := cmp.Or(request.ClientToken, event.ID)
	switch {
	case token != "":
	case request.BackupSetDataFormat != "":
		parameters := url.Values{"BackupSetId": {request.BackupSetID}, "BackupSetName": {request.BackupSetName},
			"BackupSetDataFormat": {request.BackupSetDataFormat}}
		if startTime != "" {
			parameters.Set("StartTime", startTime)
		}
		return digest(parameters.Encode())
	default:
		token = setID(request.BackupSetID, request.BackupSetName, startTime)
	}
	if len(token) > maxToken || !isPrintable(token) {
		return digest(token)
	}
	return token
}

// setID identifies a backup set. The StartTime belongs to it, unless it is unknown, ""
// or 0: after RESET MASTER or a restore the numbers of binlogs start again, and the
// same name is another file.
func setID(jobID, setID, startTime string) string {
	if startTime == "" || startTime == "0" {
		return jobID + "/" + setID
	}
	return jobID + "/" + setID + "@" + startTime
}

func digest[T string | raw](s T) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// allowed reports whether s has only characters that CloudEvents allows in the
// String type of its attributes: no control characters, no noncharacters, valid
// UTF-8. See https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#type-system
func allowed(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool {
		return c < ' ' || c >= 0x7f && c <= 0x9f || c >= 0xfdd0 && c <= 0xfdef || c&0xfffe == 0xfffe
	})
}
