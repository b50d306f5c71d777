package handler_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/handler"
)

// crowd has plans that are as large as one may be, and plans of one page.
type crowd struct {
	rows  func(plan string) int
	hangs func(plan string, call listCall) bool

	mu      sync.Mutex
	reading map[string]bool // plans with more than one page, between their second page and their last
	most    int             // that were read at a time
}

func (c *crowd) page(ctx context.Context, plan string, call listCall, read func(i int)) (handler.Totals, error) {
	n := c.rows(plan)
	if c.hangs != nil && c.hangs(plan, call) {
		<-ctx.Done()
		return handler.Totals{}, ctx.Err()
	}
	if call.pageNum > 0 {
		c.mu.Lock()
		c.reading[plan] = true
		c.most = max(c.most, len(c.reading))
		if call.operation == listTasks && call.pageNum == (n-1)/100 {
			delete(c.reading, plan)
		}
		c.mu.Unlock()
	}
	time.Sleep(time.Millisecond)
	for i := call.pageNum * 100; i < min(n, (call.pageNum+1)*100); i++ {
		read(i)
	}
	return totalsOf(n), nil
}

func (c *crowd) BackupSets(ctx context.Context, query handler.BackupSetQuery) (page handler.BackupSetPage, err error) {
	call := listCall{operation: listSets, pageNum: query.PageNum}
	page.Totals, err = c.page(ctx, query.BackupPlanID, call, func(i int) {
		page.Sets = append(page.Sets, handler.BackupSet{BackupSetJobID: query.BackupPlanID,
			BackupSetID: fmt.Sprintf("mysql-bin.%06d", i), BackupStatus: "COMPLETED"})
	})
	return page, err
}

func (c *crowd) DownloadTasks(ctx context.Context, plan string, pageNum int) (page handler.DownloadTaskPage, err error) {
	call := listCall{operation: listTasks, pageNum: pageNum}
	page.Totals, err = c.page(ctx, plan, call, func(i int) {
		page.Tasks = append(page.Tasks, handler.DownloadTask{ID: fmt.Sprint(plan, i), BackupSetID: plan,
			BackupSetCode: fmt.Sprintf("mysql-bin.%06d", i), Status: "finish"})
	})
	return page, err
}

func discoverCrowd(t *testing.T, c *crowd, plans ...string) (handler.Discovery, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c.reading = make(map[string]bool)
	h := handler.New(handler.Config{Concurrency: 16}, handler.Ports{Lists: c, Source: &fakeSource{}}, discard)
	return h.Discover(ctx, "", events.Command{Discover: &events.Discover{BackupPlanIDs: plans}})
}

// An instance of 128 MB holds the lists of one such plan, or of two, not of six.
func TestDiscover_HoldsTheListsOfOneLargePlanAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{rows: func(string) int { return 60_000 }}
		answer, err := discoverCrowd(t, c, "p1", "p2", "p3", "p4")
		require.NoError(t, err)
		for _, plan := range answer.Plans {
			assert.Equal(t, 60_000, plan.WithTask, plan.BackupPlanID)
		}
		assert.Equal(t, 1, c.most)
	})
}

func TestDiscover_PlansThatFitTogetherAreReadTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{rows: func(string) int { return 30_000 }}
		_, err := discoverCrowd(t, c, "p1", "p2", "p3")
		require.NoError(t, err)
		assert.Equal(t, 3, c.most)
	})
}

// A plan that hangs in the middle of its tasks gives up the memory that others wait for.
func TestDiscover_LargePlanThatHangsKeepsNoOtherFromItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{
			rows: func(plan string) int {
				if plan == "small" {
					return 100
				}
				return 60_000
			},
			hangs: func(plan string, call listCall) bool {
				return plan == "hangs" && call.operation == listTasks && call.pageNum == 500
			},
		}
		answer, err := discoverCrowd(t, c, "hangs", "p1", "small", "p2", "p3")
		var failed *handler.DiscoveryError
		require.ErrorAs(t, err, &failed)
		require.Len(t, failed.Failures, 1)
		assert.Equal(t, "hangs", failed.Failures[0].BackupPlanID)
		for _, plan := range answer.Plans[1:] {
			assert.Equal(t, c.rows(plan.BackupPlanID), plan.WithTask, plan.BackupPlanID)
		}
	})
}

// noisyLists has items of 4 KB that cannot be compressed.
type noisyLists struct {
	endlessLists
	random *rand.ChaCha8
}

func (l *noisyLists) BackupSets(ctx context.Context, query handler.BackupSetQuery) (handler.BackupSetPage, error) {
	page, err := l.endlessLists.BackupSets(ctx, query)
	for i, set := range page.Sets {
		var noise [2048]byte
		_, _ = l.random.Read(noise[:])
		page.Sets[i].Item = fmt.Appendf(nil, `{"BackupSetJobId":%q,"BackupSetId":%q,"BackupStatus":"COMPLETED","Noise":"%x"}`,
			set.BackupSetJobID, set.BackupSetID, noise)
	}
	return page, err
}

// Of items that take too much memory, discovery announces what an event needs.
func TestDiscover_LargeItemsTakeBoundedMemory(t *testing.T) {
	const sets, tasks = 20_000, 19_990
	before := liveHeap()
	peak := int64(0)
	lists := &noisyLists{endlessLists: endlessLists{sets: sets, tasks: tasks, now: time.Now()}, random: rand.NewChaCha8([32]byte{})}
	lists.calls = func(call listCall) {
		if call.operation == listTasks && call.pageNum == tasks/100 {
			peak = liveHeap() - before
		}
	}
	source := &fakeSource{}
	h := handler.New(handler.Config{Concurrency: 1}, handler.Ports{Lists: lists, Source: source}, discard)
	_, err := h.Discover(t.Context(), "", events.Command{Discover: &events.Discover{BackupPlanIDs: []string{planA}}})
	require.NoError(t, err)
	require.Len(t, source.announced(t), 10)
	assert.Less(t, peak, int64(32<<20))
	for _, body := range source.sent {
		assert.NotContains(t, body, "Noise")
		var event struct {
			Subject string
			Data    map[string]string
		}
		require.NoError(t, json.Unmarshal([]byte(body), &event))
		assert.Equal(t, map[string]string{
			"BackupSetJobId": jobID, "BackupSetId": event.Subject, "BackupStatus": "COMPLETED"}, event.Data)
	}
}
