package discovery_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/handler"
	"increment-backup-download/handler/discovery"
)

func allPlans(config *handler.Config) { config.BackupPlanIDs = []string{events.AllPlans} }

// listPlan adds a plan to those of the region, with one finished set.
func (d *deployment) listPlan(id, status string, incremental bool) {
	d.dbs.listed = append(d.dbs.listed, discovery.BackupPlan{ID: id, Status: status, Incremental: incremental})
	d.plan(id).sets = []discovery.BackupSet{finished(len(d.dbs.listed), time.Hour)}
}

func TestDiscover_AllMeansThePlansThatHaveBegunAndBackUpIncrementally(t *testing.T) {
	for status, begun := range map[string]bool{"running": true, "": true, "stop": true, "pause": true, "locked": true, "new": true,
		"wait": false, "init": false, "check_pass": false, "INIT": false} {
		for _, incremental := range []bool{true, false} {
			t.Run(fmt.Sprintf("%q, incremental %t", status, incremental), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := deploy(allPlans)
					d.listPlan(planA, "running", true)
					d.listPlan(planB, status, incremental)
					answer, err := d.run(t, events.Discover{})
					require.NoError(t, err)
					var found []string
					for _, report := range answer.Plans {
						assert.Equal(t, 1, report.Announced)
						found = append(found, report.BackupPlanID)
					}
					want := []string{planA}
					if begun && incremental {
						want = append(want, planB)
					}
					assert.Equal(t, want, found)
					assert.Len(t, d.dbs.callsOf(listPlans, region), 1)
				})
			})
		}
	}
}

func TestDiscover_All250Plans(t *testing.T) {
	for name, fromOne := range map[string]bool{"pages from 0": false, "pages from 1": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(func(config *handler.Config) { allPlans(config); config.Concurrency = 16 })
				d.dbs.countsFromOne = fromOne
				d.dbs.before = func(context.Context, listCall) error { time.Sleep(100 * time.Millisecond); return nil }
				for i := range 250 {
					d.listPlan(fmt.Sprintf("dbsplan%04d", i), "running", true)
				}
				answer, err := d.run(t, events.Discover{})
				require.NoError(t, err)
				assert.Len(t, answer.Plans, 250)
				assert.Len(t, d.source.sent, 250)
			})
		})
	}
}

func TestDiscover_AnnouncesNothingFromHalfAListOfPlans(t *testing.T) {
	for name, c := range map[string]faulty{
		"forbidden": {before: func(_ context.Context, call listCall) error {
			if call.operation == listPlans {
				return operatorFault("NoPermission")
			}
			return nil
		}, contains: []string{"NoPermission", "Fix: grant what is missing"}},
		"one page missing": {before: func(_ context.Context, call listCall) error {
			if call.operation == listPlans && call.pageNum == 2 {
				return transient("ServiceUnavailable")
			}
			return nil
		}, contains: []string{"ServiceUnavailable"}},
		"a page cut short": {cut: func(call listCall, page *fakePage) {
			if call.operation == listPlans && call.pageNum == 1 {
				page.plans = page.plans[1:]
			}
		}, contains: []string{"249 of 250 backup plans are listed"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(allPlans)
				for i := range 250 {
					d.listPlan(fmt.Sprintf("dbsplan%04d", i), "running", true)
				}
				d.dbs.before, d.dbs.cut = c.before, c.cut
				answer, err := d.run(t, events.Discover{})
				var failed *discovery.DiscoveryError
				require.ErrorAs(t, err, &failed)
				for _, part := range append(c.contains, "discovery failed; "+listPlans) {
					assert.Contains(t, err.Error(), part)
				}
				assert.Empty(t, answer.Plans)
				assert.Empty(t, d.source.sent)
				assert.Empty(t, d.dbs.callsOf(listSets, ""))
				level := "WARN"
				if name == "forbidden" {
					level = "ERROR" // the next run fails as well
				}
				assert.Len(t, d.lines(level), 1)
			})
		})
	}
}

func TestDiscover_AllOfNoPlanIsAWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(allPlans)
		d.listPlan(planA, "wait", true)
		answer, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		text, err := json.Marshal(answer)
		require.NoError(t, err)
		assert.JSONEq(t, `{"dryRun":false,"plans":[]}`, string(text))
		require.Len(t, d.lines("WARN"), 1)
		assert.Contains(t, d.lines("WARN")[0], "no backup plan of the region")
	})
}

func TestDiscover_APlanThatIsListedTwiceIsDiscoveredOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(allPlans)
		d.listPlan(planA, "running", true)
		d.listPlan(planA, "running", true)
		answer, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		assert.Len(t, answer.Plans, 1)
	})
}

func TestDiscover_NamedPlansNeedNoListOfPlans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(allPlans)
		d.plan(planA).sets = []discovery.BackupSet{finished(1, time.Hour)}
		_, err := d.run(t, events.Discover{BackupPlanIDs: []string{planA}})
		require.NoError(t, err)
		assert.Len(t, d.source.sent, 1)
		assert.Empty(t, d.dbs.callsOf(listPlans, ""))
	})
}

func TestDiscover_APlanWithoutAnIDIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(allPlans)
		d.listPlan(planA, "running", true)
		d.dbs.listed = append(d.dbs.listed, discovery.BackupPlan{Status: "running", Incremental: true})
		answer, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		assert.Len(t, answer.Plans, 1)
	})
}
