package dbs_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/standin/dbs"
)

func TestCreate_HonoursClientToken(t *testing.T) {
	service, server, key := start(t)
	given := parameters{"BackupSetId": "a b~/", "BackupSetName": "mysql-bin.000054", "ClientToken": "token"}
	first, err := call(server, key, dbs.Action, given)
	require.NoError(t, err)
	assert.Equal(t, true, first["Success"])
	again, err := call(server, key, dbs.Action, given)
	require.NoError(t, err)
	assert.Equal(t, first["BackupSetDownloadTaskId"], again["BackupSetDownloadTaskId"])
	assert.Len(t, service.Tasks(), 1)

	given["BackupSetName"] = "another"
	_, err = call(server, key, dbs.Action, given)
	assert.Equal(t, "IdempotentParameterMismatch", code(t, err))
}

func TestCreate_RefusesWrongParameters(t *testing.T) {
	_, server, key := start(t)
	for name, c := range map[string]struct {
		given parameters
		code  string
	}{
		"no set":         {parameters{"BackupSetName": "b"}, "MissingBackupSetId"},
		"no name":        {parameters{"BackupSetId": "a"}, "MissingBackupSetName"},
		"a wrong format": {parameters{"BackupSetId": "a", "BackupSetName": "b", "BackupSetDataFormat": "XML"}, "InvalidParameter"},
		"a long token":   {parameters{"BackupSetId": "a", "BackupSetName": "b", "ClientToken": strings.Repeat("x", 65)}, "InvalidParameter"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := call(server, key, dbs.Action, c.given)
			assert.Equal(t, c.code, code(t, err))
		})
	}
}

func TestCreate_KnowsTheSetsOfThePlans(t *testing.T) {
	past := time.Now().Add(-time.Second)
	for name, c := range map[string]struct {
		set     dbs.Set   // of the job "job", listed by a plan
		asked   [2]string // BackupSetId, BackupSetName
		success bool
		code    string // beside Success: true it means nothing
		listed  int
	}{
		"a complete set":         {dbs.Set{Name: "file"}, [2]string{"job", "file"}, true, "Param.NotFound", 1},
		"a set of another job":   {dbs.Set{Name: "file"}, [2]string{"t4yh0g0g0001", "x"}, true, "Param.NotFound", 0},
		"a set of no plan":       {dbs.Set{Name: "file"}, [2]string{"t4yh0g0g0001", dbs.NotFoundName}, false, "Param.NotFound", 0},
		"no set of this job":     {dbs.Set{Name: "file"}, [2]string{"job", "x"}, false, "Param.NotFound", 0},
		"an expired set":         {dbs.Set{Name: "file", Expires: past}, [2]string{"job", "file"}, false, "Param.NotFound", 0},
		"a set that still fills": {dbs.Set{Name: "file", Status: dbs.Filling}, [2]string{"job", "file"}, false, "InvalidParameter", 0},
	} {
		t.Run(name, func(t *testing.T) {
			service, server, key := start(t)
			c.set.JobID = "job"
			service.AddSet("dbsplan", c.set)
			answer, err := call(server, key, dbs.Action, parameters{"BackupSetId": c.asked[0], "BackupSetName": c.asked[1]})
			require.NoError(t, err, "DBS refuses with HTTP 200")
			assert.Equal(t, []any{c.success, c.code}, []any{answer["Success"], answer["ErrCode"]})
			listed := service.ListedTasks("dbsplan")
			require.Len(t, listed, c.listed)
			for _, task := range listed {
				assert.Equal(t, []string{"job", "file", dbs.IncrementalJob, "running"}, []string{task.JobID, task.SetName, task.JobType, task.Status})
			}
		})
	}
}
