package discovery_test

import (
	"context"
	"fmt"
	"maps"
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
	for _, order := range []string{"newest first", "oldest first", "growing, newest first", "growing, oldest first", "no order", "no times"} {
		for _, fromOne := range []bool{false, true} {
			for _, without := range []int{0, 3} {
				t.Run(fmt.Sprintf("%s, from 1 %t, %d sets without a task", order, fromOne, without), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						d := deploy(nil)
						d.dbs.countsFromOne, d.dbs.oldestFirst = fromOne, strings.Contains(order, "oldest")
						plan := d.plan(planA)
						plan.sets, plan.tasks = history(20_000)
						plan.tasks = plan.tasks[without:]
						switch order {
						case "growing, newest first", "growing, oldest first":
							d.dbs.cut = func(call listCall, _ *fakePage) {
								if call.operation == listTasks {
									task := taskOf(finished(1_000_000+len(plan.tasks), time.Hour), fmt.Sprintf("new-%d", len(plan.tasks)), "running")
									task.CreateTime = time.Now()
									plan.tasks = slices.Insert(plan.tasks, 0, task)
								}
							}
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
				d := deploy(func(config *handler.Config) { config.Concurrency = 16 })
				d.dbs.oldestFirst = oldestFirst
				d.dbs.before = func(context.Context, listCall) error { time.Sleep(100 * time.Millisecond); return nil }
				started := time.Now()
				plan := d.plan(planA)
				for i := range 10_000 {
					set := finished(i, time.Hour+time.Duration(i)*10*time.Second)
					plan.sets = append(plan.sets, set)
					if i%4000 != 999 {
						task := taskOf(set, fmt.Sprintf("task-%d", i), "running")
						task.CreateTime = set.EndTime.Add(time.Second)
						plan.tasks = append(plan.tasks, task)
					}
				}
				_, err := d.run(t, events.Discover{})
				require.NoError(t, err)
				assert.Equal(t, []string{"mysql-bin.008999", "mysql-bin.004999", "mysql-bin.000999"}, d.source.announced(t))
				assert.Less(t, time.Since(started), 5*time.Second, "200 pages take 20 seconds one after the other")
			})
		})
	}
}

// The last task moves to a page that was not there when the first page was read.
func TestDiscover_FollowsTheTasksToAPageMore(t *testing.T) {
	for _, oldestFirst := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d := deploy(nil)
			d.dbs.oldestFirst = oldestFirst
			plan := d.plan(planA)
			plan.sets, plan.tasks = sequence(300, 300)
			d.dbs.cut = func(call listCall, page *fakePage) {
				if call.operation == listTasks && call.pageNum == 0 {
					plan.tasks = append(slices.Clone(plan.tasks[:1]), plan.tasks...)
					plan.tasks[0].ID, plan.tasks[0].CreateTime = fmt.Sprintf("new-%d", len(plan.tasks)), time.Now()
				}
			}
			_, err := d.run(t, events.Discover{})
			require.NoError(t, err)
			assert.Empty(t, d.source.sent)
			assert.LessOrEqual(t, len(d.dbs.callsOf(listTasks, planA)), 6, "at the first attempt")
		})
	}
}

// A task without a time that comes while pages are read at once may stand in for one
// that moves out of sight.
func TestDiscover_CountsNoNewTaskWithoutATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.dbs.countsFromOne = true
		plan := d.plan(planA)
		plan.sets, plan.tasks = sequence(400, 400)
		setTimes(plan.tasks, time.Time{})
		read := map[int]bool{}
		d.dbs.before = func(_ context.Context, call listCall) error {
			if call.operation == listTasks && call.pageNum == 3 {
				time.Sleep(time.Second) // after page 4
			}
			return nil
		}
		d.dbs.cut = func(call listCall, _ *fakePage) {
			if call.operation == listTasks && (call.pageNum == 0 || call.pageNum == 4) && !read[call.pageNum] {
				read[call.pageNum] = true
				plan.tasks = append([]discovery.DownloadTask{{ID: fmt.Sprintf("new-%d", call.pageNum), BackupSetID: "other"}}, plan.tasks...)
			}
		}
		_, err := d.run(t, events.Discover{})
		require.NoError(t, err, "at the second attempt")
		assert.Empty(t, d.source.sent)
	})
}

// The task of a set that ended before the lookback is looked for as well.
func TestDiscover_FindsTheTaskOfASetBeforeTheLookback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		plan := d.plan(planA)
		plan.sets, plan.tasks = sequence(300, 10)
		old := finished(999, 100*time.Hour)
		task := taskOf(old, "task-999", "finish")
		task.CreateTime = old.EndTime
		plan.sets, plan.tasks = append(plan.sets, old), append(plan.tasks, task)
		for i := range 200 {
			older := taskOf(finished(2000+i, 0), fmt.Sprintf("older-%d", i), "finish")
			older.CreateTime = old.EndTime.Add(-time.Duration(i+120) * time.Minute)
			plan.tasks = append(plan.tasks, older)
		}
		answer, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		assert.Equal(t, map[string]int{"withTask": 11}, counts(t, answer.Plans[0]))
	})
}

// sequence returns tasks, one a minute and the newest first, and the sets of the newest.
func sequence(n, wanted int) (sets []discovery.BackupSet, tasks []discovery.DownloadTask) {
	for i := range n {
		set := finished(i, time.Hour+time.Duration(i)*time.Minute)
		set.StartTime = set.EndTime.Add(-time.Second)
		task := taskOf(set, fmt.Sprintf("task-%d", i), "finish")
		task.CreateTime = set.EndTime.Add(time.Second)
		if tasks = append(tasks, task); i < wanted {
			sets = append(sets, set)
		}
	}
	return sets, tasks
}

// Whatever breaks the order that the first, the second and the last page have hides no
// task.
func TestDiscover_HidesNoTaskIfTheOrderBreaks(t *testing.T) {
	swap := func(i, k int) func(*fakeDBSPlan) {
		return func(plan *fakeDBSPlan) { plan.tasks[i], plan.tasks[k] = plan.tasks[k], plan.tasks[i] }
	}
	for name, c := range map[string]struct {
		change func(*fakeDBSPlan) // with 700 tasks, the newest first, and 400 sets
		cut    int                // a page that lacks its last rows, from 1 on; 0: none
		fails  bool
	}{
		"not at all":                          {},
		"an old task among the newest":        {change: swap(50, 550)},
		"an old task on the second page":      {change: swap(150, 550)},
		"an old task on a page in the middle": {change: swap(250, 550)},
		"a new task on a page in the middle":  {change: swap(250, 350)},
		"two new tasks change places":         {change: swap(298, 299)},
		"a task without a time": {change: func(plan *fakeDBSPlan) {
			plan.tasks[250].CreateTime = time.Time{}
		}},
		"a task without a time ends a page": {change: func(plan *fakeDBSPlan) {
			plan.tasks[299].CreateTime = time.Time{}
		}},
		"a task without a time is the first": {change: func(plan *fakeDBSPlan) {
			plan.tasks[0].CreateTime = time.Time{}
		}},
		"tasks without a time come last": {change: func(plan *fakeDBSPlan) {
			setTimes(plan.tasks[:150], time.Time{})
			plan.tasks = slices.Concat(plan.tasks[150:], plan.tasks[:150])
		}},
		"tasks as old as the oldest set": {change: func(plan *fakeDBSPlan) {
			for i := 398; i <= 400; i++ { // over the end of a page
				plan.tasks[i].CreateTime = plan.sets[399].StartTime
			}
			plan.sets[398].StartTime, plan.sets[398].BackupSetID = plan.sets[399].StartTime, plan.tasks[400].BackupSetCode
		}},
		"the first page is cut":         {cut: 1, fails: true},
		"the second page is cut":        {cut: 2, fails: true},
		"a page in the middle is cut":   {cut: 3, fails: true},
		"a page of no need is cut":      {cut: 6},
		"all are of one time":           {change: func(plan *fakeDBSPlan) { setTimes(plan.tasks, plan.tasks[0].CreateTime) }},
		"none has a time":               {change: func(plan *fakeDBSPlan) { setTimes(plan.tasks, time.Time{}) }},
		"only a half of them has times": {change: func(plan *fakeDBSPlan) { setTimes(plan.tasks[350:], time.Time{}) }},
	} {
		for _, oldestFirst := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, oldest first %t", name, oldestFirst), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := deploy(nil)
					d.dbs.oldestFirst = oldestFirst
					plan := d.plan(planA)
					plan.sets, plan.tasks = sequence(700, 400)
					if c.change != nil {
						c.change(plan)
					}
					d.dbs.cut = func(call listCall, page *fakePage) {
						cut := c.cut - 1
						if oldestFirst {
							cut = 7 - c.cut
						}
						if c.cut > 0 && call.operation == listTasks && call.pageNum == cut {
							page.tasks = page.tasks[:90]
						}
					}
					_, err := d.run(t, events.Discover{})
					assert.Empty(t, d.source.sent)
					assert.Equal(t, c.fails, err != nil)
				})
			})
		}
	}
}

func setTimes(tasks []discovery.DownloadTask, created time.Time) {
	for i := range tasks {
		tasks[i].CreateTime = created
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
		"also at an unknown time":           {map[string]int{"running": 80, "schedule": -1}, 0, minutes(80)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(nil)
				plan := d.plan(planA)
				plan.sets = []discovery.BackupSet{backupSet(nil)}
				for _, status := range slices.Sorted(maps.Keys(c.tasks)) {
					ago := c.tasks[status]
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

// What a run reads grows with the lookback, and not with the history of a busy plan.
func TestDiscover_CostsNoMoreThanTheGuideSays(t *testing.T) {
	for _, perDay := range []int{24, 72, 120} {
		for _, oldestFirst := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d sets a day, oldest first %t", perDay, oldestFirst), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := deploy(nil)
					d.dbs.oldestFirst = oldestFirst
					plan := d.plan(planA)
					step := 24 * time.Hour / time.Duration(perDay)
					for i := range perDay * 730 {
						set := finished(i, time.Hour+time.Duration(i)*step)
						set.StartTime = set.EndTime.Add(-step)
						if time.Since(set.StartTime) < 33*24*time.Hour {
							plan.sets = append(plan.sets, set)
						}
						task := taskOf(set, fmt.Sprintf("task-%d", i), "finish")
						task.CreateTime = set.EndTime.Add(time.Minute)
						plan.tasks = append(plan.tasks, task)
					}
					answer, err := d.run(t, events.Discover{})
					require.NoError(t, err)
					assert.Equal(t, len(plan.sets), answer.Plans[0].WithTask)
					pages := (len(plan.sets) + 99) / 100 // of sets, and of the tasks that they have
					assert.LessOrEqual(t, len(d.dbs.callsOf(listSets, planA))+len(d.dbs.callsOf(listTasks, planA)), 2*pages+6)
				})
			})
		}
	}
}

// Once more than half of the pages are needed, they are read at once.
func TestDiscover_ReadsAtOnceWhatItNeedsMostOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		plan := d.plan(planA)
		for i := range 5_000 { // three weeks, of which the sets need two
			set := finished(i, time.Hour+time.Duration(i)*6*time.Minute)
			set.StartTime = set.EndTime.Add(-6 * time.Minute)
			if time.Since(set.EndTime) < 14*24*time.Hour {
				plan.sets = append(plan.sets, set)
			}
			task := taskOf(set, fmt.Sprintf("task-%d", i), "finish")
			task.CreateTime = set.EndTime.Add(time.Minute)
			plan.tasks = append(plan.tasks, task)
		}
		answer, err := d.run(t, events.Discover{LookbackHours: 14 * 24})
		require.NoError(t, err)
		assert.Equal(t, len(plan.sets), answer.Plans[0].WithTask)
		assert.Equal(t, 50+1, len(d.dbs.callsOf(listTasks, planA)), "all pages, and the last one for the order before") //nolint:testifylint // the calls are too many to print
	})
}

// A page that claims more pages than any list has does not hold the run up.
func TestDiscover_EndsIfAListClaimsEndlessPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		plan := d.plan(planA)
		plan.sets, plan.tasks = sequence(250, 250)
		d.dbs.cut = func(call listCall, page *fakePage) {
			if call.operation == listTasks && call.pageNum > 0 {
				page.totals.Pages = 1 << 40
			}
		}
		d.dbs.before = func(ctx context.Context, _ listCall) error {
			time.Sleep(time.Second)
			return ctx.Err()
		}
		_, err := d.run(t, events.Discover{})
		require.Error(t, err)
		assert.Empty(t, d.source.sent)
	})
}

// Texts of DBS are bounded in the answer.
func TestDiscover_BoundsWhatItQuotes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		set := finished(1, time.Hour)
		d.plan(planA).sets = []discovery.BackupSet{set}
		d.plan(planA).tasks = []discovery.DownloadTask{taskOf(set, strings.Repeat("i", 10_000), strings.Repeat("s", 10_000))}
		answer, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		assert.LessOrEqual(t, len(answer.Plans[0].Sets[0].BackupSetDownloadTaskID), 128)
		assert.LessOrEqual(t, len(answer.Plans[0].Sets[0].BackupSetDownloadStatus), 128)
	})
}

// A walk that would outlast the run gives way to reading all pages at once.
func TestDiscover_ReadsAtOnceWhatItHasNoTimeToWalk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(func(c *handler.Config) { c.Concurrency = 16 })
		plan := d.plan(planA)
		for i := range 30_000 { // of which the sets need 14,000
			set := finished(i, time.Hour+time.Duration(i)*time.Minute)
			set.StartTime = set.EndTime.Add(-time.Minute)
			if i < 14_000 {
				plan.sets = append(plan.sets, set)
			}
			task := taskOf(set, fmt.Sprintf("task-%d", i), "finish")
			task.CreateTime = set.EndTime.Add(time.Minute)
			plan.tasks = append(plan.tasks, task)
		}
		d.dbs.before = func(ctx context.Context, _ listCall) error {
			time.Sleep(500 * time.Millisecond)
			return ctx.Err()
		}
		answer, err := d.run(t, events.Discover{LookbackHours: 240}) // has a minute
		require.NoError(t, err)
		assert.Equal(t, len(plan.sets), answer.Plans[0].WithTask)
	})
}

// A plan whose sets and tasks are both many holds the one place for both.
func TestDiscover_APlanMayHaveTwoLargeLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		plan := d.plan(planA)
		plan.sets = []discovery.BackupSet{backupSet(nil)}
		for i := range 25_001 {
			task := taskOf(finished(i+10, time.Hour), fmt.Sprintf("task-%d", i), "finish")
			task.CreateTime = time.Time{}
			plan.tasks = append(plan.tasks, task)
		}
		d.dbs.cut = func(call listCall, page *fakePage) {
			if call.operation == listSets {
				page.totals.Elements = 25_001
			}
		}
		_, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		assert.Len(t, d.source.sent, 1)
	})
}

func TestDiscover_TheOldestDownloadOfAllSets(t *testing.T) {
	for _, reversed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d := deploy(nil)
			plan := d.plan(planA)
			for i, ago := range []time.Duration{20 * time.Minute, 50 * time.Minute} {
				if reversed {
					ago = 70*time.Minute - ago
				}
				set := finished(i, 2*time.Hour)
				task := taskOf(set, fmt.Sprintf("task-%d", i), "running")
				task.CreateTime = time.Now().Add(-ago)
				plan.sets, plan.tasks = append(plan.sets, set), append(plan.tasks, task)
			}
			answer, err := d.run(t, events.Discover{})
			require.NoError(t, err)
			assert.EqualValues(t, 50, *answer.Plans[0].OldestDownloadMinutes)
		})
	}
}

// The clock of DBS may be ahead.
func TestDiscover_ATaskOfTheFutureIsOfNoAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		plan := d.plan(planA)
		plan.sets = []discovery.BackupSet{backupSet(nil)}
		task := taskOf(plan.sets[0], "task-1", "running")
		task.CreateTime = time.Now().Add(3 * time.Minute)
		plan.tasks = []discovery.DownloadTask{task}
		answer, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		assert.Zero(t, *answer.Plans[0].OldestDownloadMinutes)
	})
}

// Tasks without an ID are told apart by when they were made.
func TestDiscover_TasksWithoutAnIDAreSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		plan := d.plan(planA)
		plan.sets = []discovery.BackupSet{backupSet(nil)}
		for i := range 3 {
			task := taskOf(plan.sets[0], "", "stop")
			task.CreateTime = task.CreateTime.Add(-time.Duration(i) * time.Minute)
			plan.tasks = append(plan.tasks, task)
		}
		_, err := d.run(t, events.Discover{RetryFailed: true})
		require.NoError(t, err)
		assert.Empty(t, d.source.sent, "three have failed")
	})
}

func TestDiscover_AMissedSetIsOneSinceTheOldestTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		plan := d.plan(planA)
		plan.sets = []discovery.BackupSet{finished(1, 100*time.Hour)}
		for i, ago := range []time.Duration{90 * time.Hour, 150 * time.Hour} {
			task := taskOf(finished(900, 0), fmt.Sprintf("task-%d", i), "finish")
			task.CreateTime = time.Now().Add(-ago)
			plan.tasks = append(plan.tasks, task)
		}
		_, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		assert.Contains(t, strings.Join(d.lines("WARN"), ""), "ended before the lookback")
	})
}

// A task without a type may be incremental.
func TestDiscover_TasksWithoutATypeAndACodeStopAPlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		plan := d.plan(planA)
		plan.sets = []discovery.BackupSet{backupSet(nil)}
		task := taskOf(plan.sets[0], "task-1", "finish")
		task.JobType, task.BackupSetCode = "", ""
		plan.tasks = []discovery.DownloadTask{task}
		_, err := d.run(t, events.Discover{})
		require.ErrorContains(t, err, "UnexpectedTasks")
		assert.Empty(t, d.source.sent)
	})
}

// An old task that belongs to a set says nothing about how tasks name sets now.
func TestDiscover_AnOldTaskDoesNotHideADoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		plan := d.plan(planA)
		old := finished(2, 100*time.Hour)
		plan.sets = []discovery.BackupSet{backupSet(nil), old}
		recent, joined := taskOf(finished(900, 0), "recent", "finish"), taskOf(old, "old", "finish")
		joined.CreateTime = old.EndTime.Add(time.Hour)
		plan.tasks = []discovery.DownloadTask{recent, joined}
		_, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		require.Len(t, d.lines("ERROR"), 1)
		assert.Contains(t, d.lines("ERROR")[0], "belong to no listed backup set")
	})
}

// Two attempts that each miss another task are not the same list twice.
func TestDiscover_AttemptsThatFindDifferentTasksAreNoList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		plan := d.plan(planA)
		for i := range 150 {
			plan.sets = append(plan.sets, finished(i, time.Hour))
			task := taskOf(plan.sets[i], fmt.Sprintf("task-%d", i), "finish")
			task.CreateTime = time.Time{}
			plan.tasks = append(plan.tasks, task)
		}
		attempts := 0
		d.dbs.cut = func(call listCall, page *fakePage) {
			if call.operation != listTasks {
				return
			}
			if call.pageNum == 0 {
				attempts++
			} else {
				page.tasks[attempts] = plan.tasks[99] // in place of another one each time
			}
		}
		_, err := d.run(t, events.Discover{})
		require.ErrorContains(t, err, "IncompleteList")
		assert.Empty(t, d.source.sent)
	})
}

// A task is deleted between two pages of a list in order: one has moved out of sight.
func TestDiscover_AWalkIsVoidIfATaskGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		plan := d.plan(planA)
		plan.sets, plan.tasks = sequence(700, 400)
		gone := false
		d.dbs.cut = func(call listCall, page *fakePage) {
			if call.operation == listTasks && call.pageNum == 2 && !gone {
				gone = true
				plan.tasks = plan.tasks[1:] // after page 2: the first task of page 3 is on page 2 now
			}
		}
		_, err := d.run(t, events.Discover{})
		require.NoError(t, err, "at the second attempt")
		assert.Equal(t, []string{"mysql-bin.000000"}, d.source.announced(t), "whose task is gone, and no other")
	})
}

// Of a list in order that is too long to be
// read whole, as much is read as can be kept.
func TestDiscover_WalksThroughALongListAsFarAsItCanKeep(t *testing.T) {
	for name, c := range map[string]struct {
		tasks, needed int
		err           string
	}{
		"more than a half":      {120_000, 70_000, ""},
		"more than can be kept": {150_000, 110_000, "ListTooLong"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(nil)
				plan := d.plan(planA)
				_, plan.tasks = sequence(c.tasks, 0)
				plan.sets = []discovery.BackupSet{backupSet(func(s *discovery.BackupSet) {
					s.BackupSetID, s.StartTime = "another", plan.tasks[c.needed].CreateTime
				})}
				_, err := d.run(t, events.Discover{LookbackHours: 43_800})
				if c.err != "" {
					require.ErrorContains(t, err, c.err)
					assert.Empty(t, d.source.sent)
					return
				}
				require.NoError(t, err)
				assert.Len(t, d.source.sent, 1)
			})
		})
	}
}
