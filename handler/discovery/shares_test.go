package discovery_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/handler"
	"increment-backup-download/handler/cloud"
	"increment-backup-download/handler/discovery"
)

// inPlans deploys one call at a time for so many plans, each with a finished set.
func inPlans(n int) *deployment {
	var plans []string
	for i := range n {
		plans = append(plans, fmt.Sprintf("dbsplan%02d", i))
	}
	d := deploy(func(config *handler.Config) { config.BackupPlanIDs, config.Concurrency = plans, 1 })
	for i, id := range plans {
		d.plan(id).sets = []discovery.BackupSet{finished(i, time.Hour)}
	}
	return d
}

// A plan that hangs uses up its share of the time, and has another one after the others.
func TestDiscover_APlanThatUsedUpItsShareGetsOneMore(t *testing.T) {
	for name, c := range map[string]struct {
		hangs  time.Duration
		failed int
	}{
		"and recovers": {5 * time.Second, 0},
		"and hangs on": {time.Hour, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := inPlans(10)
				hanging := ""
				started := time.Now()
				d.dbs.before = func(ctx context.Context, call listCall) error {
					if hanging == "" {
						hanging = call.plan
					}
					if call.plan != hanging || time.Since(started) > c.hangs {
						return nil
					}
					<-ctx.Done()
					return ctx.Err()
				}
				answer, err := d.run(t, events.Discover{})
				failed := 0
				for _, report := range answer.Plans {
					if report.Error == "" {
						assert.Equal(t, 1, report.Announced)
					} else {
						failed++
						assert.Equal(t, hanging, report.BackupPlanID)
					}
				}
				assert.Equal(t, c.failed, failed)
				assert.Equal(t, c.failed > 0, err != nil)
				assert.Len(t, d.lines("WARN"), 2*c.failed, "of the plan and of the run")
				var order []string
				for _, call := range d.dbs.callsOf(listSets, "") {
					if len(order) == 0 || order[len(order)-1] != call.plan {
						order = append(order, call.plan)
					}
				}
				assert.Len(t, order, 11)
				assert.Equal(t, hanging, order[10], "after the others")
			})
		})
	}
}

// A pause for throttling is of all plans: it takes nothing of a share.
func TestDiscover_AShareStartsAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := inPlans(20)
		first := ""
		d.dbs.before = func(ctx context.Context, call listCall) error {
			if first == "" {
				first = call.plan
				return &cloud.Error{Service: "DBS", Kind: cloud.Permanent, Code: "InvalidParameter", HTTPStatusCode: 400,
					Throttled: true, RetryAfter: 10 * time.Second}
			}
			time.Sleep(14 * time.Second)
			return ctx.Err()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // half a minute for each plan
		defer cancel()
		_, err := d.Run(ctx, "", events.Discover{}, true)
		require.ErrorContains(t, err, "1 of 20 backup plans")
		assert.Len(t, d.dbs.calls, 1+19*2, "no plan is looked at twice")
	})
}

func TestDiscover_APlanThatFailsForGoodIsNotReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := inPlans(10)
		d.dbs.before = refuseAll(permanent("InvalidParameterValid"))
		_, err := d.run(t, events.Discover{})
		require.ErrorContains(t, err, "10 of 10 backup plans")
		require.ErrorContains(t, err, "and 7 more, each with a line in the log")
		assert.Len(t, d.dbs.calls, 10)
		assert.Len(t, d.lines("ERROR"), 10)
	})
}

func refuseAll(err error) func(context.Context, listCall) error {
	return func(context.Context, listCall) error { return err }
}

// Each plan reads with its part of the places, however many pages it has.
func TestDiscover_APlanTakesItsPartOfThePlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(func(c *handler.Config) { c.Concurrency, c.BackupPlanIDs = 16, []string{planA, planB} })
		d.plan(planB)
		for i := range 3000 {
			d.plan(planA).sets = append(d.plan(planA).sets, finished(i, 100*time.Hour))
		}
		flying, peak := 0, 0
		d.dbs.before = func(_ context.Context, call listCall) error {
			if call.plan != planA {
				return nil
			}
			d.dbs.mu.Lock()
			flying++
			peak = max(peak, flying)
			d.dbs.mu.Unlock()
			time.Sleep(100 * time.Millisecond)
			d.dbs.mu.Lock()
			flying--
			d.dbs.mu.Unlock()
			return nil
		}
		_, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		assert.Equal(t, 8, peak, "half of CONCURRENCY for one of two plans")
	})
}

// A share is the time left, times the plans at once, by the plans that wait.
func TestDiscover_AShareIsForFourPlansAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var plans []string
		for i := range 8 {
			plans = append(plans, fmt.Sprintf("plan%d", i))
		}
		d := deploy(func(c *handler.Config) { c.BackupPlanIDs = plans })
		for _, id := range plans {
			d.plan(id)
		}
		d.dbs.before = func(ctx context.Context, _ listCall) error {
			select {
			case <-time.After(10 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		_, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		assert.Len(t, d.dbs.calls, 8*2, "no plan is looked at twice")
	})
}

func TestDiscover_EachPlanThatUsedUpItsShareGetsOneMoreOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := inPlans(10)
		var hanging []string
		turns := map[string]int{}
		last := ""
		d.dbs.before = func(ctx context.Context, call listCall) error {
			if call.plan != last {
				last = call.plan
				turns[last]++
			}
			if len(hanging) < 2 && turns[call.plan] == 1 && call.operation == listSets {
				hanging = append(hanging, call.plan)
			}
			if len(hanging) > 0 && call.plan == hanging[0] || len(hanging) > 1 && call.plan == hanging[1] {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		_, err := d.run(t, events.Discover{})
		require.ErrorContains(t, err, "2 of 10 backup plans")
		for _, id := range hanging {
			assert.Equal(t, 2, turns[id])
		}
	})
}
