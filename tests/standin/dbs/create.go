package dbs

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// NotFoundName is how the name of a backup set starts that DBS does not know,
// whatever the plans list.
const NotFoundName = "not-found"

// Task is a download task that was created by a call.
type Task struct {
	ID                  string
	ClientToken         string
	BackupSetID         string
	BackupSetName       string
	BackupSetDataFormat string

	AccessKeyID string // of the first call that asked for it
}

// Tasks returns the tasks that were created by calls, in order.
func (s *Service) Tasks() []Task {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.tasks)
}

func (s *Service) create(given url.Values, accessKeyID string) (any, *refusal) {
	created, refused := s.createTask(Task{
		AccessKeyID:         accessKeyID,
		ClientToken:         given.Get("ClientToken"),
		BackupSetID:         given.Get("BackupSetId"),
		BackupSetName:       given.Get("BackupSetName"),
		BackupSetDataFormat: given.Get("BackupSetDataFormat"),
	})
	if refused != nil {
		return nil, refused
	}
	return struct {
		envelope
		ID string `json:"BackupSetDownloadTaskId"`
	}{newEnvelope(), created.ID}, nil
}

func (s *Service) createTask(task Task) (Task, *refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case task.BackupSetID == "":
		return Task{}, missing("BackupSetId")
	case task.BackupSetName == "":
		return Task{}, missing("BackupSetName")
	case task.BackupSetDataFormat != "" && !slices.Contains([]string{"Native", "SQL", "CSV", "JSON"}, task.BackupSetDataFormat):
		return Task{}, invalid("BackupSetDataFormat")
	case len(task.ClientToken) > 64 || strings.ContainsFunc(task.ClientToken, func(c rune) bool { return c < ' ' || c > '~' }):
		return Task{}, invalid("ClientToken")
	}
	if i, ok := s.tokens[task.ClientToken]; ok && task.ClientToken != "" {
		earlier := s.tasks[i]
		task.ID, task.AccessKeyID = earlier.ID, earlier.AccessKeyID
		if task != earlier {
			return Task{}, &refusal{http.StatusBadRequest, "IdempotentParameterMismatch",
				"The request uses the same client token as a previous, but non-identical request."}
		}
		return earlier, nil
	}
	listed, refused := s.downloadable(setKey{task.BackupSetID, task.BackupSetName})
	if refused != nil {
		return Task{}, refused
	}
	task.ID = fmt.Sprintf("1jydacm%06d", len(s.tasks)+1)
	s.tokens[task.ClientToken] = len(s.tasks)
	s.tasks = append(s.tasks, task)
	s.addTask(listed, ListedTask{ID: task.ID, JobID: task.BackupSetID, SetName: task.BackupSetName,
		DataFormat: task.BackupSetDataFormat, Created: time.Now(), proceeds: s.TaskTime > 0})
	return task, nil
}

// downloadable returns the plan that lists a set. If none knows the set's job, the set
// is taken for one of a plan that the stand-in was not given.
// What DBS says of a set that is not complete is not documented.
func (s *Service) downloadable(key setKey) (*plan, *refusal) {
	listed := s.sets[key]
	gone := listed != nil && !listed.set.Expires.IsZero() && listed.set.Expires.Before(time.Now())
	switch {
	case strings.HasPrefix(key.name, NotFoundName), gone, listed == nil && s.jobs[key.jobID]:
		return nil, &refusal{http.StatusOK, "Param.NotFound", "The specified parameter BackupSetName value is not valid."}
	case listed == nil:
		return s.otherPlan, nil
	case listed.set.Status != Completed:
		return nil, &refusal{http.StatusOK, "InvalidParameter", "The backup set is not complete."}
	}
	return listed.plan, nil
}
