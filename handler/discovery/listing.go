package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"increment-backup-download/handler/attempt"
	"increment-backup-download/handler/cloud"

	"golang.org/x/sync/semaphore"
)

// The operations of DBS that discovery reads.
const (
	operationSets  = "DescribeIncrementBackupList"
	operationTasks = "DescribeBackupSetDownloadTaskList"
)

// room bounds what the plans of a run hold in memory at once, in rows or bytes. A
// plan that is larger than all of it has it alone.
type room struct {
	limit int64
	free  *semaphore.Weighted
}

// maxRows is how many rows of each list the plans of a run hold at once: as many as
// one plan may have in an instance of 128 MB.
const maxRows = 100_000

func newRoom(limit int64) *room { return &room{limit: limit, free: semaphore.NewWeighted(limit)} }

// holding is what a plan holds of a room.
type holding struct {
	room *room
	n    int64
}

// change takes room for a list in place of what is held, and waits for it. A list of
// one page, which has been read by then, never waits.
func (h *holding) change(ctx context.Context, rows int) error {
	h.leave()
	if rows <= ListPageSize {
		return nil
	}
	n := min(int64(rows), h.room.limit)
	if h.room.free.Acquire(ctx, n) != nil {
		return context.Cause(ctx)
	}
	h.n = n
	return nil
}

func (h *holding) leave() {
	h.room.free.Release(h.n)
	h.n = 0
}

// planReader reads the lists of one backup plan.
type planReader struct {
	lists   Lister
	caller  *attempt.Caller
	workers int // pages to read at once
	plan    string

	// Each plan takes room in this order, so that no two wait for each other.
	sets, tasks holding
}

// readPages reads a list: page 0, which says how long it is, then the others at
// once; page reads the one of the given number. DBS is documented to count pages
// from 0 and has samples that count from 1; so the page after the last one is read
// as well, but only if fewer different rows came than the first page announced.
// readPages returns that announced number. See
// https://help.aliyun.com/zh/dms/developer-reference/api-dbs-2019-03-06-describeincrementbackuplist.
func (r *planReader) readPages(
	ctx context.Context, operation string, hold *holding,
	page func(context.Context, int) (Totals, error), different func() int,
) (int, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The other pages of a list that lacks one are of no use.
	caller := r.caller.Within(ctx)
	read := func(pageNum int) (totals Totals, err error) {
		err = caller.Do(func(ctx context.Context) error {
			totals, err = page(ctx, pageNum)
			return err
		}, slog.String("operation", operation), slog.String("backupPlanId", r.plan), slog.Int("pageNum", pageNum))
		return totals, err
	}

	first, err := read(0)
	if err != nil {
		return 0, err
	}
	if first.Elements < 0 || first.Pages < 0 || first.Pages > max(first.Elements, 1) {
		return 0, &cloud.Error{Service: "DBS", Code: "UnexpectedAnswer",
			Message: fmt.Sprintf("a list of %d elements in %d pages", first.Elements, first.Pages)}
	}
	if err := hold.change(ctx, first.Elements); err != nil {
		return 0, err
	}
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(r.workers, first.Pages-1) {
		workers.Go(func() {
			for {
				pageNum := int(next.Add(1))
				if pageNum >= first.Pages || ctx.Err() != nil {
					return
				}
				if _, err := read(pageNum); err != nil {
					cancel(err) // the first counts
					return
				}
			}
		})
	}
	workers.Wait()
	if ctx.Err() == nil && first.Pages > 0 && different() < first.Elements {
		if _, err := read(first.Pages); err != nil {
			return 0, err
		}
	}
	return first.Elements, context.Cause(ctx)
}

// readSets reads the plan's backup sets into list. Rows that are missing, since
// pages shifted while they were read, are found by the next run.
func (r *planReader) readSets(ctx context.Context, query BackupSetQuery, list *setList) error {
	query.BackupPlanID = r.plan
	_, err := r.readPages(ctx, operationSets, &r.sets, func(ctx context.Context, pageNum int) (Totals, error) {
		query := query
		query.PageNum = pageNum
		page, err := r.lists.BackupSets(ctx, query)
		if err == nil {
			list.add(page.Sets)
		}
		return page.Totals, err
	}, list.different)
	return err
}

// readTasks returns the plan's download tasks, all of them: a task that is missing
// would be made a second time.
func (r *planReader) readTasks(ctx context.Context, sets *setList) (*taskList, error) {
	var expected, got int
	for range 2 { // pages may have shifted while they were read
		list := newTaskList(sets)
		var err error
		expected, err = r.readPages(ctx, operationTasks, &r.tasks, func(ctx context.Context, pageNum int) (Totals, error) {
			page, err := r.lists.DownloadTasks(ctx, r.plan, pageNum)
			if err == nil {
				list.add(page.Tasks)
			}
			return page.Totals, err
		}, list.different)
		if err != nil {
			return nil, err
		}
		if got = list.different(); got >= expected {
			return list, list.check()
		}
	}
	return nil, &cloud.Error{Service: "DBS", Code: "IncompleteList",
		Message: fmt.Sprintf("%d of %d download tasks are listed, at the second attempt too", got, expected)}
}
