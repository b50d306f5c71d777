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
	"increment-backup-download/handler"
	"increment-backup-download/handler/discovery"
)

// history returns tasks that were made evenly over two years, the newest first, with
// the sets of the last day.
func history(n int) (sets []discovery.BackupSet, tasks []discovery.DownloadTask) {
	step := 2 * 365 * 24 * time.Hour / time.Duration(n)
	for i := range n {
		set := finished(n-i, time.Hour+time.Duration(i)*step)
		set.StartTime = set.EndTime.Add(-step)
		if time.Since(set.EndTime) < 24*time.Hour {
			sets = append(sets, set)
		}
		task := taskOf(set, fmt.Sprintf("task-%d", i), "finish")
		task.CreateTime = set.EndTime.Add(time.Minute)
		tasks = append(tasks, task)
	}
	return sets, tasks
}

// A run costs what the lookback costs, not all history.
func TestDiscover_ReadsTasksAsFarBackAsTheSetsNeed(t *testing.T) {
	for _, order := range []string{"newest first", "oldest first", "no order", "no times"} {
		for _, fromOne := range []bool{false, true} {
			for _, without := range []int{0, 3} {
				t.Run(fmt.Sprintf("%s, from 1 %t, %d sets without a task", order, fromOne, without), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						d := deploy(nil)
						d.dbs.countsFromOne, d.dbs.oldestFirst = fromOne, order == "oldest first"
						plan := d.plan(planA)
						plan.sets, plan.tasks = history(20_000)
						plan.tasks = plan.tasks[without:]
						switch order {
						case "no order":
							rand.New(rand.NewPCG(1, 2)).Shuffle(len(plan.tasks), func(i, k int) {
								plan.tasks[i], plan.tasks[k] = plan.tasks[k], plan.tasks[i]
							})
						case "no times":
							for i := range plan.tasks {
								plan.tasks[i].CreateTime = time.Time{}
							}
						}
						answer, err := d.run(t, events.Discover{})
						require.NoError(t, err)
						assert.Equal(t, len(plan.sets)-without, answer.Plans[0].WithTask)
						assert.Equal(t, without, answer.Plans[0].Announced)
						if strings.HasSuffix(order, "first") {
							assert.LessOrEqual(t, len(d.dbs.callsOf(listTasks, planA)), 6)
						}
					})
				})
			}
		}
	}
}

// An ordered list may be longer than discovery can keep: it reads a part of it.
func TestDiscover_ReadsNoMoreThanItCanKeep(t *testing.T) {
	for name, c := range map[string]struct {
		sets, tasks int
		shuffled    bool
		err         string
	}{
		"sets":                  {sets: 100_001, err: "DescribeIncrementBackupList: DBS ListTooLong"},
		"tasks in no order":     {tasks: 100_001, shuffled: true, err: "DescribeBackupSetDownloadTaskList: DBS ListTooLong"},
		"tasks, but in order":   {tasks: 150_000},
		"tasks, as many as fit": {tasks: 100_000, shuffled: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(nil)
				plan := d.plan(planA)
				if c.tasks > 0 {
					plan.sets, plan.tasks = history(c.tasks)
				}
				if c.shuffled {
					plan.tasks[0], plan.tasks[99] = plan.tasks[99], plan.tasks[0]
				}
				for i := range c.sets {
					plan.sets = append(plan.sets, finished(i, time.Hour))
				}
				answer, err := d.run(t, events.Discover{})
				assert.Empty(t, d.source.sent)
				if c.err == "" {
					require.NoError(t, err)
					assert.Equal(t, len(plan.sets), answer.Plans[0].WithTask)
					return
				}
				require.ErrorContains(t, err, c.err)
				assert.Contains(t, err.Error(), "100001 rows")
				assert.NotEmpty(t, d.lines("ERROR"))
			})
		})
	}
}

// A walk through more tasks than are read one after the other finds them all the same.
func TestDiscover_FindsTheTasksOfManySets(t *testing.T) {
	for _, oldestFirst := range []bool{false, true} {
		t.Run(fmt.Sprintf("oldest first %t", oldestFirst), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(nil)
				d.dbs.oldestFirst = oldestFirst
				plan := d.plan(planA)
				for i := range 3_000 {
					set := finished(i, time.Hour+time.Duration(i)*time.Minute)
					plan.sets = append(plan.sets, set)
					if i%1000 != 999 {
						task := taskOf(set, fmt.Sprintf("task-%d", i), "running")
						task.CreateTime = set.EndTime.Add(time.Second)
						plan.tasks = append(plan.tasks, task)
					}
				}
				_, err := d.run(t, events.Discover{})
				require.NoError(t, err)
				assert.Equal(t, []string{"mysql-bin.002999", "mysql-bin.001999", "mysql-bin.000999"}, d.source.announced(t))
			})
		})
	}
}

// The numbers of binlogs start again after RESET MASTER, or if a server is restored:
// what was made for an earlier file of the same name is no download of the new one.
func TestDiscover_NumbersThatStartAgain(t *testing.T) {
	set := func(startedAgo time.Duration) discovery.BackupSet {
		return backupSet(func(s *discovery.BackupSet) {
			s.StartTime = time.Now().Add(-startedAgo)
			s.EndTime = s.StartTime.Add(time.Hour)
		})
	}
	task := func(id string, madeAgo time.Duration) discovery.DownloadTask {
		task := taskOf(set(0), id, "finish")
		task.CreateTime = time.Now().Add(-madeAgo)
		return task
	}
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		sets     func() []discovery.BackupSet
		tasks    func() []discovery.DownloadTask
		want     map[string]int
		warnings int
	}{
		"a task of an earlier file": {
			func() []discovery.BackupSet { return []discovery.BackupSet{set(2 * day)} },
			func() []discovery.DownloadTask { return []discovery.DownloadTask{task("old", 300*day)} },
			map[string]int{"announced": 1}, 0},
		"a task of each": {
			func() []discovery.BackupSet { return []discovery.BackupSet{set(2 * day)} },
			func() []discovery.DownloadTask {
				return []discovery.DownloadTask{task("new", day), task("old", 300*day)}
			},
			map[string]int{"withTask": 1}, 0},
		"both files are listed, and the earlier one has a task": {
			func() []discovery.BackupSet { return []discovery.BackupSet{set(2 * day), set(20 * day)} },
			func() []discovery.DownloadTask { return []discovery.DownloadTask{task("old", 19*day)} },
			map[string]int{"announced": 1}, 1},
		"both files are listed, and the newer one has a task": {
			func() []discovery.BackupSet { return []discovery.BackupSet{set(20 * day), set(2 * day)} },
			func() []discovery.DownloadTask { return []discovery.DownloadTask{task("new", day)} },
			map[string]int{"withTask": 1}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(nil)
				plan := d.plan(planA)
				plan.sets, plan.tasks = c.sets(), c.tasks()
				answer, err := d.run(t, events.Discover{})
				require.NoError(t, err)
				assert.Equal(t, c.want, counts(t, answer.Plans[0]))
				require.Len(t, d.lines("WARN"), c.warnings)
				if c.want["announced"] > 0 {
					assert.Contains(t, d.source.sent[0], fmt.Sprintf(`"id":"%s/mysql-bin.000001@%d"`, jobID,
						time.Now().Add(-2*day).UnixMilli()))
				}
			})
		})
	}
}

// A list that has one row twice announces one more than it has.
func TestDiscover_ARowThatIsListedTwiceForGoodDoesNotBlockItsPlan(t *testing.T) {
	for _, n := range []int{50, 100, 250} {
		for _, fromOne := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d tasks, from 1 %t", n, fromOne), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := deploy(nil)
					d.dbs.countsFromOne = fromOne
					plan := d.plan(planA)
					for i := range n {
						plan.sets = append(plan.sets, finished(i, time.Hour))
						if i > 0 {
							plan.tasks = append(plan.tasks, taskOf(plan.sets[i], fmt.Sprintf("task-%d", i), "finish"))
						}
					}
					plan.tasks = append(plan.tasks, plan.tasks[3])
					_, err := d.run(t, events.Discover{})
					require.NoError(t, err)
					assert.Equal(t, []string{"mysql-bin.000000"}, d.source.announced(t))
				})
			})
		}
	}
}

// The oldest task goes and a new one comes: the numbers agree, and one task is unseen.
func TestDiscover_ATaskThatComesWhileAnotherGoesIsNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(500 * time.Millisecond) // the Date of an answer is in whole seconds
		d := deploy(func(config *handler.Config) { config.Concurrency = 1 })
		plan := d.plan(planA)
		for i := range 250 {
			plan.sets = append(plan.sets, finished(i, time.Hour))
			task := taskOf(plan.sets[i], fmt.Sprintf("task-%d", i), "finish")
			task.CreateTime = task.CreateTime.Add(time.Duration(i%2) * time.Second) // in no order
			plan.tasks = append(plan.tasks, task)
		}
		changed := false
		d.dbs.cut = func(call listCall, _ *fakePage) {
			if call.operation != listTasks || call.pageNum != 1 || changed {
				return
			}
			changed = true
			task := taskOf(finished(999, time.Hour), "new", "checking")
			task.CreateTime = time.Now()
			plan.tasks = append(plan.tasks[1:], task)
		}
		_, err := d.run(t, events.Discover{})
		require.NoError(t, err, "at the second attempt")
		assert.Equal(t, []string{"mysql-bin.000000"}, d.source.announced(t), "whose task is gone, and not the unseen one's")
	})
}

func TestDiscover_TellsFinishedDownloadsFromThoseUnderWay(t *testing.T) {
	minutes := func(n int64) *int64 { return &n }
	for name, c := range map[string]struct {
		tasks      map[string]int // statuses, made so many minutes ago; -1: unknown
		downloaded int
		oldest     *int64
	}{
		"none":                              {nil, 0, nil},
		"finished":                          {map[string]int{" Finish": 70}, 1, nil},
		"under way":                         {map[string]int{"running": 70}, 0, minutes(70)},
		"just made":                         {map[string]int{"checking": 0}, 0, minutes(0)},
		"failed":                            {map[string]int{"stop": 70, "init": 60}, 0, nil},
		"finished, and another one is not":  {map[string]int{"finish": 20, "pause": 80}, 1, minutes(80)},
		"the oldest":                        {map[string]int{"schedule": 10, "running": 80, "check_pass": 20, "stop": 90}, 0, minutes(80)},
		"under way, at an unknown time":     {map[string]int{"running": -1}, 0, nil},
		"unknown, which counts as a task":   {map[string]int{"resting": 70}, 0, minutes(70)},
		"made before the set, so no matter": {map[string]int{"running": 600}, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(nil)
				plan := d.plan(planA)
				plan.sets = []discovery.BackupSet{backupSet(nil)}
				for status, ago := range c.tasks {
					task := taskOf(plan.sets[0], "task-"+status, status)
					if task.CreateTime = time.Now().Add(-time.Duration(ago) * time.Minute); ago < 0 {
						task.CreateTime = time.Time{}
					}
					plan.tasks = append(plan.tasks, task)
				}
				answer, err := d.run(t, events.Discover{})
				require.NoError(t, err)
				assert.Equal(t, c.downloaded, answer.Plans[0].Downloaded)
				assert.Equal(t, c.oldest, answer.Plans[0].OldestDownloadMinutes)
				line := d.lines("INFO")[0]
				assert.Contains(t, line, fmt.Sprintf(`"downloaded":%d`, c.downloaded))
				if c.oldest == nil {
					assert.NotContains(t, line, "oldestDownloadMinutes")
				} else {
					assert.Contains(t, line, fmt.Sprintf(`"oldestDownloadMinutes":%d`, *c.oldest))
				}
			})
		})
	}
}

// DBS counts its IDs up: the tenth is newer than the ninth.
func TestDiscover_RetriesWithoutTimesAfterTheNewestTask(t *testing.T) {
	for _, reversed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d := deploy(nil)
			plan := d.plan(planA)
			plan.sets = []discovery.BackupSet{backupSet(nil)}
			for _, id := range []string{"task-9", "task-10"} {
				task := taskOf(plan.sets[0], id, "stop")
				task.CreateTime = time.Time{}
				plan.tasks = append(plan.tasks, task)
			}
			if reversed {
				slices.Reverse(plan.tasks)
			}
			_, err := d.run(t, events.Discover{RetryFailed: true})
			require.NoError(t, err)
			require.Len(t, d.source.sent, 1)
			assert.Contains(t, d.source.sent[0], "#task-10")
		})
	}
}

// Lists of a hundred thousand rows fit an instance of 128 MB one at a time.
func TestDiscover_ReadsLargeListsOneAtATime(t *testing.T) {
	for name, c := range map[string]struct {
		rows, most int
	}{
		"large": {25_001, 1},
		"small": {25_000, 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				plans := []string{"large-0", "large-1", "large-2"}
				d := deploy(func(config *handler.Config) {
					config.BackupPlanIDs, config.Concurrency = slices.Concat(plans, []string{planB}), 16
				})
				d.plan(planB).sets = []discovery.BackupSet{finished(1, time.Hour)}
				for i := range 500 {
					set := finished(i, 100*time.Hour)
					for _, id := range plans {
						d.plan(id).sets = append(d.plan(id).sets, set)
					}
				}
				d.dbs.cut = func(call listCall, page *fakePage) {
					if call.operation == listSets && call.plan != planB {
						page.totals.Elements = c.rows
					}
				}
				reading := map[string]bool{}
				most := 0
				d.dbs.before = func(_ context.Context, call listCall) error {
					d.dbs.mu.Lock()
					if call.operation == listSets && call.pageNum > 1 {
						reading[call.plan] = true
						most = max(most, len(reading))
					} else if call.operation == listTasks {
						delete(reading, call.plan)
					}
					d.dbs.mu.Unlock()
					time.Sleep(10 * time.Millisecond)
					return nil
				}
				_, err := d.run(t, events.Discover{})
				require.NoError(t, err)
				assert.Equal(t, c.most, most)
				assert.Len(t, d.source.sent, 1, "of the plan that is small")
			})
		})
	}
}
