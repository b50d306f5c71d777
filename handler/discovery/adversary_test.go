package discovery_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/handler/attempt"
	"increment-backup-download/handler/discovery"
)

// adversary is a plan's lists. Between any two calls it changes the list of tasks.
type adversary struct {
	t       *testing.T
	random  *rand.Rand
	order   string   // newest or oldest first, or none
	changes []string // what it does
	base    int      // the PageNum of the first page
	often   float64  // how probable a change is
	seconds bool     // tasks say in whole seconds when they were made

	sets   []discovery.BackupSet
	tasks  []discovery.DownloadTask // the newest first, if there is an order
	serial int
	calls  int
}

func newAdversary(t *testing.T, random *rand.Rand, order string, changes []string, base int) *adversary {
	a := &adversary{t: t, random: random, order: order, changes: changes, base: base, often: []float64{0.1, 0.5, 1}[random.IntN(3)]}
	tasks := 1 + random.IntN(700)
	wanted := random.IntN(tasks + 20) // sets: those of the newest tasks, and some without a task
	for i := range max(tasks, wanted) {
		set := finished(i, time.Hour+time.Duration(i)*time.Minute)
		set.StartTime = set.EndTime.Add(-time.Minute)
		if i < wanted {
			a.sets = append(a.sets, set)
		}
		if i < tasks && random.IntN(20) > 0 {
			task := taskOf(set, fmt.Sprintf("task-%d", i), "finish")
			task.CreateTime = set.EndTime.Add(time.Second)
			a.tasks = append(a.tasks, task)
		}
	}
	if order == "none" {
		random.Shuffle(len(a.tasks), func(i, k int) { a.tasks[i], a.tasks[k] = a.tasks[k], a.tasks[i] })
	}
	return a
}

func (a *adversary) change() {
	for range 1 + a.random.IntN(4) {
		if a.random.Float64() > a.often {
			continue
		}
		change := a.changes[a.random.IntN(len(a.changes))]
		if change == "make" {
			a.serial++
			at, made := 0, time.Now()
			if a.order == "none" {
				at = a.random.IntN(len(a.tasks) + 1)
			}
			if a.seconds {
				made = now()
			}
			a.tasks = slices.Insert(a.tasks, at, discovery.DownloadTask{ID: fmt.Sprintf("made-%d", a.serial), BackupSetID: "other",
				BackupSetCode: fmt.Sprintf("file-%d", a.serial), Status: "running", CreateTime: made})
			continue
		}
		n := len(a.tasks)
		if n == 0 {
			return
		}
		i, k := a.random.IntN(n), a.random.IntN(n)
		switch change {
		case "expire":
			a.tasks = a.tasks[:n-1]
		case "delete the newest":
			a.tasks = a.tasks[1:]
		case "delete any":
			a.tasks = slices.Delete(a.tasks, i, i+1)
		case "swap":
			a.tasks[i], a.tasks[k] = a.tasks[k], a.tasks[i]
		case "lose a time":
			a.tasks[i].CreateTime = time.Time{}
		}
	}
}

func (a *adversary) BackupSets(_ context.Context, query discovery.BackupSetQuery) (page discovery.Page[discovery.BackupSet], err error) {
	page.Rows, page.Pages, page.Elements = pageOf(a.sets, query.PageNum, a.base == 1)
	return page, nil
}

// DownloadTasks takes some milliseconds. The fake has one caller at a time.
func (a *adversary) DownloadTasks(_ context.Context, _ string, pageNum int) (page discovery.Page[discovery.DownloadTask], err error) {
	if a.calls++; a.calls > 1 {
		a.change()
	}
	time.Sleep(time.Duration(1+a.random.IntN(30)) * time.Millisecond)
	if slices.Equal(a.changes, []string{"make"}) && pageNum > 0 {
		require.Less(a.t, (pageNum-a.base)*discovery.ListPageSize, len(a.tasks), "no page after the end")
	}
	page.Date = now()
	page.Rows, page.Pages, page.Elements = pageOf(a.tasks, pageNum, a.base == 1)
	if a.order == "oldest" {
		page.Rows = lastPageOf(a.tasks, pageNum, a.base == 1)
	}
	return page, nil
}

func (a *adversary) BackupPlans(context.Context, string, int) (discovery.Page[discovery.BackupPlan], error) {
	return discovery.Page[discovery.BackupPlan]{}, permanent("NotListed")
}

// Whatever comes and goes while the tasks are read, no set is announced that has had a
// task throughout. Rows that are reordered in place are the one exception: then the
// announcement has the ID that the task was made with.
func TestDiscover_HidesNoTaskFromAnAdversary(t *testing.T) {
	for _, changes := range [][]string{
		{"make"}, {"expire"}, {"make", "expire"}, {"delete the newest"}, {"make", "delete the newest"}, {"delete any"},
		{"make", "delete any"}, {"make", "expire", "delete any", "delete the newest"}, {"lose a time"},
		{"make", "expire", "delete any", "lose a time"}, {"swap"}, {"make", "expire", "delete any", "swap"},
	} {
		for _, order := range []string{"newest", "oldest", "none"} {
			t.Run(order+" first, "+strings.Join(changes, ", "), func(t *testing.T) {
				random := rand.New(rand.NewPCG(1, 2))
				read := 0
				for round := range 60 {
					synctest.Test(t, func(t *testing.T) {
						time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond)
						a := newAdversary(t, random, order, changes, round%2)
						a.seconds = round%4 > 1
						if playAdversary(t, a) {
							read++
						}
					})
				}
				assert.Positive(t, read, "a run succeeds now and then")
			})
		}
	}
}

// playAdversary makes a run, and reports whether it succeeds.
func playAdversary(t *testing.T, a *adversary) bool {
	before := slices.Clone(a.tasks)
	source := &fakeSource{}
	d := discovery.New(discovery.Config{BackupPlanIDs: []string{planA}, LookbackHours: 1000}, a, source, attempt.NewLimits(1, 0), discard)
	_, err := d.Run(t.Context(), "", events.Discover{}, true)
	if slices.Equal(a.changes, []string{"make"}) {
		require.NoError(t, err)
	}
	if err != nil {
		require.Empty(t, source.sent)
		return false
	}
	stayed := map[string]bool{}
	for _, task := range before {
		stayed[task.BackupSetCode] = slices.ContainsFunc(a.tasks, func(other discovery.DownloadTask) bool { return other.ID == task.ID })
	}
	for i, id := range source.announced(t) {
		if !slices.Contains(a.changes, "swap") {
			require.False(t, stayed[id], "%s has had a task throughout", id)
		}
		at := slices.IndexFunc(a.sets, func(set discovery.BackupSet) bool { return set.BackupSetID == id })
		require.Contains(t, source.sent[i], fmt.Sprintf(`"id":"%s/%s@%d"`, jobID, id, a.sets[at].StartTime.UnixMilli()))
	}
	return true
}
