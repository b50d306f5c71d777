package discovery_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/handler/attempt"
	"increment-backup-download/handler/discovery"
)

// endlessLists has lists of any length, of which it keeps nothing.
type endlessLists struct {
	sets, tasks int
	now         time.Time
	calls       func(call listCall)
}

func (l *endlessLists) BackupSets(_ context.Context, query discovery.BackupSetQuery) (discovery.Page[discovery.BackupSet], error) {
	page := discovery.Page[discovery.BackupSet]{Pages: (l.sets + 99) / 100, Elements: l.sets}
	l.calls(listCall{operation: listSets, pageNum: query.PageNum})
	for i := query.PageNum * 100; i < min(l.sets, (query.PageNum+1)*100); i++ {
		end := l.now.Add(time.Duration(i-l.sets) * time.Second)
		set := discovery.BackupSet{BackupSetJobID: strings.Clone(jobID), BackupSetID: fmt.Sprintf("mysql-bin.%06d", i),
			BackupStatus: "COMPLETED", StartTime: end.Add(-10 * time.Second), EndTime: end}
		set.ExpiredTime, set.Size, set.StorageMethod = end.Add(1000*time.Hour), 18535+7*int64(i), strings.Clone("Standard")
		page.Rows = append(page.Rows, set)
	}
	return page, nil
}

func (l *endlessLists) DownloadTasks(_ context.Context, _ string, pageNum int) (discovery.Page[discovery.DownloadTask], error) {
	page := discovery.Page[discovery.DownloadTask]{Pages: (l.tasks + 99) / 100, Elements: l.tasks}
	l.calls(listCall{operation: listTasks, pageNum: pageNum})
	for i := pageNum * 100; i < min(l.tasks, (pageNum+1)*100); i++ {
		page.Rows = append(page.Rows, discovery.DownloadTask{
			ID: fmt.Sprintf("urxgrxt7%05d", i), BackupSetID: strings.Clone(jobID), BackupSetCode: fmt.Sprintf("mysql-bin.%06d", i),
			JobType: strings.Clone("cbs_backup_sub_cont"), Status: strings.Clone("finish"), CreateTime: l.now})
	}
	return page, nil
}

func (l *endlessLists) BackupPlans(context.Context, string, int) (discovery.Page[discovery.BackupPlan], error) {
	return discovery.Page[discovery.BackupPlan]{}, permanent("NotListed")
}

func liveHeap() int64 {
	runtime.GC()
	runtime.GC() // the first moves pools to their victim caches
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// An instance of 128 MB, of which the garbage may take half, must hold two such
// plans. All sets of the lookback are finished, and those without a task are the
// newest: none may crowd them out.
func TestDiscover_ManySetsAndTasksTakeLittleMemory(t *testing.T) {
	const sets, tasks = 100_000, 99_990
	before := liveHeap()
	peak, calls := int64(0), 0
	lists := &endlessLists{sets: sets, tasks: tasks, now: time.Now()}
	lists.calls = func(call listCall) {
		calls++
		if call.operation == listTasks && call.pageNum == tasks/100 {
			peak = liveHeap() - before
		}
	}
	source := &fakeSource{}
	d := discovery.New(discovery.Config{}, lists, source, attempt.NewLimits(1, 0), discard)
	answer, err := d.Run(t.Context(), "", events.Discover{BackupPlanIDs: []string{planA}}, false)
	require.NoError(t, err)
	assert.Equal(t, map[string]int{"withTask": tasks, "announced": 10}, counts(t, answer.Plans[0]))
	assert.Equal(t, "mysql-bin.099990", source.announced(t)[0])
	t.Logf("live heap %.1f MiB, %d calls", float64(peak)/(1<<20), calls)
	assert.Positive(t, peak)
	assert.Less(t, peak, int64(40<<20))
	assert.LessOrEqual(t, calls, 1000+1000+4)
}

func BenchmarkDiscover(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("sets=%d", n), func(b *testing.B) {
			lists := &endlessLists{sets: n, tasks: n - 10, now: time.Now(), calls: func(listCall) {}}
			d := discovery.New(discovery.Config{}, lists, &fakeSource{}, attempt.NewLimits(16, 0), discard)
			b.ReportAllocs()
			for b.Loop() {
				answer, err := d.Run(b.Context(), "", events.Discover{BackupPlanIDs: []string{planA}}, false)
				if err != nil || answer.Plans[0].Announced != 10 {
					b.Fatal(answer, err)
				}
			}
		})
	}
}
