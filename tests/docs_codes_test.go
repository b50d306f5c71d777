package tests_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin"
)

// codesOf returns the error codes of services in the table under a heading of the
// guide, each with the HTTP status that the guide gives it, else 400, which means
// nothing by itself. What ends with an ellipsis is a prefix.
func codesOf(t *testing.T, heading string) map[string]int {
	t.Helper()
	_, section, found := strings.Cut(readPage(t, "docs/operations.md"), "\n### "+heading)
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n### ")
	codes := make(map[string]int)
	for line := range strings.Lines(section) {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		cell, status := strings.Split(line, "|")[1], 400
		if match := regexp.MustCompile(`\(HTTP (\d+)\)`).FindStringSubmatch(cell); match != nil {
			status, _ = strconv.Atoi(match[1])
		}
		for _, code := range quoted(cell) {
			if regexp.MustCompile(`^[A-Z]`).MatchString(code) {
				codes[strings.TrimSuffix(code, "…")] = status
			}
		}
	}
	return codes
}

// A code means what the heading of its table in the guide says, if DBS or MNS answers
// with it.
func TestDocs_CodesMeanWhatTheGuideSays(t *testing.T) {
	refused := func(t *testing.T, status int, code string, faults func(*harness.Cloud) *standin.Faulty) (summary, error) {
		t.Helper()
		cloud, _ := deploy(t, nil)
		cloud.Timeout = time.Second
		faults(cloud).SetPlan(standin.Always(standin.Fault{Kind: standin.Refuse, Status: status, Code: code}))
		return invoke(t, cloud, eventsOf(time.Now(), bodyOf(54, "COMPLETED")))
	}
	byDBS := func(c *harness.Cloud) *standin.Faulty { return c.DBSFaults }
	byMNS := func(c *harness.Cloud) *standin.Faulty { return c.MNSFaults }

	faults := codesOf(t, "`OperatorFaultError`")
	require.NotEmpty(t, faults)
	for code, status := range faults {
		if slices.Contains([]string{"NoCredentials", "NotAnAnswer", "DeadlinePassed"}, code) {
			continue // of the function itself: held by its own tests, and below
		}
		t.Run(code, func(t *testing.T) {
			_, dbsErr := refused(t, status, code, byDBS)
			_, mnsErr := refused(t, status, code, byMNS)
			texts := errorText(dbsErr) + errorText(mnsErr)
			assert.Contains(t, texts, "OperatorFaultError: operator fault: ")
			assert.Contains(t, texts, code)
		})
	}
	t.Run("the public endpoint is off", func(t *testing.T) {
		cloud, _ := deploy(t, nil)
		cloud.MNS.OpenEndpoint(false)
		_, err := invoke(t, cloud, eventsOf(time.Now(), bodyOf(54, "COMPLETED")))
		assert.Contains(t, failure(t, err, "OperatorFaultError"), "MNS NotAnAnswer (HTTP 403)")
	})
	for code, status := range codesOf(t, "The event itself") {
		if strings.HasPrefix(code, "Event") || code == "TaskFailed" {
			continue // of the function
		}
		t.Run(code, func(t *testing.T) {
			s, err := refused(t, status, code, byDBS)
			require.NoError(t, err)
			assert.Equal(t, 1, s.Failed)
			assert.Equal(t, code, s.Results[0]["ErrCode"])
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// A batch that the trigger gave up is sent again element by element, and makes no
// second task.
func TestDocs_ABatchOfDeadLettersIsSentAgain(t *testing.T) {
	cloud, _ := deploy(t, nil)
	batch := eventsOf(time.Now(), bodyOf(54, "COMPLETED"), bodyOf(55, "COMPLETED"))
	_, err := invoke(t, cloud, batch)
	require.NoError(t, err)
	var elements []json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(batch), &elements))
	for _, element := range elements {
		_, err := cloud.MNS.Put(harness.SourceQueue, string(element))
		require.NoError(t, err)
	}
	_, _, err = cloud.Trigger(100).Drain(t.Context())
	require.NoError(t, err)
	assert.Len(t, cloud.DBS.Tasks(), 2)
	assert.Empty(t, cloud.MNS.Messages(harness.DeadLetterQueue))
}
