package harness_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin/dbs"
)

// A scenario sees each breach of the promise.
func TestScenario_SeesWhatIsWrong(t *testing.T) {
	created := func(id, task string) string {
		return fmt.Sprintf(`{"source":"s","id":%q,"type":"x:TaskCreated","data":{"BackupSetDownloadTaskId":%q}}`, id, task)
	}
	failed := func(id string) string {
		return fmt.Sprintf(`{"source":"s","id":%q,"type":"x:TaskFailed","data":{"ErrCode":"Event.Malformed"}}`, id)
	}
	good := []harness.Expectation{{ID: "1"}}
	bad := []harness.Expectation{{ID: "1", Body: "b", Failed: true}}
	for name, c := range map[string]struct {
		expected      []harness.Expectation
		results, dead []string
		listed        int // tasks that DBS lists for one set
		violation     string
	}{
		"nothing":                 {nil, nil, nil, 1, ""},
		"failed as it should":     {bad, []string{failed("1")}, []string{"b"}, 0, ""},
		"failed, sent twice":      {bad, []string{failed("1"), failed("1")}, []string{"b", "b"}, 0, ""},
		"lost":                    {good, nil, nil, 0, "event 1 is lost"},
		"a result without a task": {good, []string{created("1", "task")}, nil, 0, `event 1 has the task ""`},
		"not dead-lettered":       {bad, []string{failed("1")}, nil, 0, "is not in the dead-letter queue"},
		"should have failed":      {bad, []string{created("1", "task")}, []string{"b"}, 0, "should have failed"},
		"two different results":   {good, []string{created("1", "a"), created("1", "b")}, nil, 0, "two different results"},
		"success and failure":     {good, []string{created("1", "a"), failed("1")}, nil, 0, "both succeeded and failed"},
		"a stray result":          {nil, []string{created("2", "a")}, nil, 0, "a result for 2, which is no event"},
		"a stray dead letter":     {nil, nil, []string{"x"}, 0, "a dead letter that is none: x"},
		"two tasks of a set":      {nil, nil, nil, 2, "backup set job/file has 2 tasks"},
		"no result at all":        {nil, []string{"x"}, nil, 0, "is no result"},
	} {
		t.Run(name, func(t *testing.T) {
			cloud, err := harness.NewCloudWithPolicy(nil)
			require.NoError(t, err)
			t.Cleanup(cloud.Close)
			for queue, bodies := range map[string][]string{harness.ResultQueue: c.results, harness.DeadLetterQueue: c.dead} {
				for _, body := range bodies {
					_, err := cloud.MNS.Put(queue, body)
					require.NoError(t, err)
				}
			}
			for range c.listed {
				cloud.DBS.AddTask(harness.PlanID, dbs.ListedTask{JobID: "job", SetName: "file"})
			}
			violations := harness.Check(cloud, c.expected)
			if c.violation == "" {
				assert.Empty(t, violations)
				return
			}
			require.NotEmpty(t, violations)
			assert.Contains(t, violations[0], c.violation)
		})
	}
}
