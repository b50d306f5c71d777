package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"increment-backup-download/handler/attempt"
	"increment-backup-download/handler/cloud"
)

// lookbackMargin is how much longer a backup set may take to fill than discovery
// looks back, since it is not documented which time of a set StartTimestamp
// selects by.
const lookbackMargin = 720 * time.Hour

// Bounds of the lists that are kept in an instance of 128 MB.
const (
	maxRows   = 100_000
	largeList = maxRows / plansAtOnce // a list with this many rows is kept only while no other such list is
)

// read reads the plan's lists. The sets come before the tasks: a task that is made
// meanwhile is seen.
func (p *planRun) read(ctx context.Context, workers int) Failure {
	operation, err := operationSets, p.readSets(ctx, workers)
	if err == nil {
		operation, err = operationTasks, p.readTasks(ctx, workers)
	}
	return Failure{p.id, operation, err}
}

// readSets reads the plan's backup sets. Sets that are missing, since pages shifted
// while they were read, are found by the next run.
func (p *planRun) readSets(ctx context.Context, workers int) error {
	p.sets = newSetList(p.run.now, p.run.since, p.run.command.BackupSetIDs)
	query := BackupSetQuery{BackupPlanID: p.id, Start: p.run.since.Add(-lookbackMargin), End: p.run.now.Add(time.Hour)}
	l := listing[BackupSet]{
		fetch: fetchBy(p.run.dbs, operationSets, p.id, func(ctx context.Context, pageNum int) (Page[BackupSet], error) {
			query := query
			query.PageNum = pageNum
			return p.run.lists.BackupSets(ctx, query)
		}),
		workers: workers, reserve: p.reserve, made: untimed[BackupSet], keep: p.sets.add,
		key: func(set BackupSet) string { return set.BackupSetJobID + "/" + set.BackupSetID },
	}
	_, err := l.run(ctx)
	return err
}

// readTasks reads the plan's download tasks, as far back as the sets need: a task that
// is missing would be made a second time.
func (p *planRun) readTasks(ctx context.Context, workers int) error {
	err := readWhole(ctx, "download tasks", func() *listing[DownloadTask] {
		p.tasks = newTaskList(p.sets)
		return &listing[DownloadTask]{
			fetch: fetchBy(p.run.dbs, operationTasks, p.id, func(ctx context.Context, pageNum int) (Page[DownloadTask], error) {
				return p.run.lists.DownloadTasks(ctx, p.id, pageNum)
			}),
			workers: workers, reserve: p.reserve, key: idOf, keep: p.tasks.add,
			made:  func(task DownloadTask) int64 { return milliseconds(task.CreateTime) },
			since: p.sets.tasksSince(),
		}
	})
	if err != nil {
		return err
	}
	return p.tasks.check()
}

// readPlans returns the IDs of the region's plans that have begun and back up
// incrementally.
func (r *run) readPlans(ctx context.Context) (ids []string, err error) {
	notBegun := []string{"wait", "init", "check_pass"}
	err = readWhole(ctx, "backup plans", func() *listing[BackupPlan] {
		ids = nil
		seen := make(map[string]bool)
		return &listing[BackupPlan]{
			fetch: fetchBy(r.dbs, operationPlans, "", func(ctx context.Context, pageNum int) (Page[BackupPlan], error) {
				return r.lists.BackupPlans(ctx, r.config.Source.Region, pageNum)
			}),
			workers: r.concurrency, reserve: func(context.Context, int) error { return nil },
			key: func(plan BackupPlan) string { return plan.ID }, made: untimed[BackupPlan],
			keep: func(plan BackupPlan) bool {
				if seen[plan.ID] {
					return false
				}
				seen[plan.ID] = true
				begun := !slices.ContainsFunc(notBegun, func(status string) bool { return isStatus(plan.Status, status) })
				if plan.ID != "" && plan.Incremental && begun {
					ids = append(ids, plan.ID)
				}
				return true
			},
		}
	})
	return ids, err
}

func untimed[T any](T) int64 { return 0 }

// fetchBy returns a function that reads a page over all attempts.
func fetchBy[T any](
	caller *attempt.Caller, operation, plan string, read func(ctx context.Context, pageNum int) (Page[T], error),
) func(context.Context, int) (Page[T], error) {
	return func(ctx context.Context, pageNum int) (got Page[T], err error) {
		err = caller.Within(ctx).Do(func(ctx context.Context) (err error) {
			got, err = read(ctx, pageNum)
			return err
		}, slog.String("operation", operation), slog.String("backupPlanId", plan), slog.Int("pageNum", pageNum))
		return got, err
	}
}

// reserve waits until the plan may keep a list of so many rows.
func (p *planRun) reserve(ctx context.Context, rows int) error {
	if rows <= largeList || rows <= maxRows && p.holdsPlace {
		return nil
	}
	if rows > maxRows {
		return &cloud.Error{Kind: cloud.Permanent, Service: "DBS", Code: "ListTooLong",
			Message: fmt.Sprintf("the list has %d rows, and discovery holds at most %d", rows, maxRows),
			Fix:     "shorten LOOKBACK_HOURS or the LookbackHours of the command"}
	}
	select {
	case p.run.large <- struct{}{}:
		p.holdsPlace = true
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
