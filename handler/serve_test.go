package handler_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/handler"
	"increment-backup-download/handler/check"
	"increment-backup-download/handler/discovery"
)

// fakeLists lists nothing, and keeps what it was asked.
type fakeLists struct{ queries []discovery.BackupSetQuery }

func (f *fakeLists) BackupPlans(context.Context, string, int) (discovery.Page[discovery.BackupPlan], error) {
	return discovery.Page[discovery.BackupPlan]{}, nil
}

func (f *fakeLists) BackupSets(_ context.Context, q discovery.BackupSetQuery) (discovery.Page[discovery.BackupSet], error) {
	f.queries = append(f.queries, q)
	return discovery.Page[discovery.BackupSet]{}, nil
}

func (f *fakeLists) DownloadTasks(context.Context, string, int) (discovery.Page[discovery.DownloadTask], error) {
	return discovery.Page[discovery.DownloadTask]{}, nil
}

// fakeCheck passes everything.
type fakeCheck struct{}

func (fakeCheck) Try(context.Context, string, string) error { return nil }

func TestServe_HandsEachPayloadToItsUseCase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, lists := deploy(nil), &fakeLists{}
		configured := func(c *handler.Config) { c.BackupPlanIDs, c.LookbackHours = []string{"plan1"}, 5 }
		d.withPorts(configured, func(p *handler.Ports) { p.Lists, p.Check, p.Source = lists, fakeCheck{}, &fakeQueue{} })

		answer, err := d.Serve(t.Context(), "", batch(item(1)))
		require.NoError(t, err)
		assert.Equal(t, 1, answer.(handler.Summary).Created)

		for _, payload := range []string{`{"Discover":{}}`, `{"triggerTime":"2026-11-23T09:00:00Z","triggerName":"timer"}`} {
			answer, err = d.Serve(t.Context(), "", []byte(payload))
			require.NoError(t, err)
			assert.Equal(t, "plan1", answer.(discovery.Answer).Plans[0].BackupPlanID)
			last := lists.queries[len(lists.queries)-1]
			assert.Equal(t, time.Now().Add(-(5+720)*time.Hour), last.Start, "LOOKBACK_HOURS and the margin")
		}

		answer, err = d.Serve(t.Context(), "", []byte(`{"Check":{}}`))
		require.NoError(t, err)
		assert.Contains(t, fmt.Sprint(answer.(check.Report)), "DescribeIncrementBackupList of plan1")
	})
}

func TestServe_RefusesWhatAPersonTypedWrong(t *testing.T) {
	d := deploy(nil)
	d.withPorts(nil, func(p *handler.Ports) { p.Lists = &fakeLists{} })
	for payload, says := range map[string]string{
		`{"Discover":{"Lookback":1}}`:           "Lookback",
		`{"Discover":{}}`:                       "BACKUP_PLAN_IDS",
		`{"Discover":{"BackupPlanIds":["p1"]}}`: "SOURCE_QUEUE",
	} {
		d.log.Reset()
		_, err := d.Serve(t.Context(), "", []byte(payload))
		var refused *handler.EventError
		require.ErrorAs(t, err, &refused, payload)
		assert.Contains(t, err.Error(), says)
		assert.Contains(t, err.Error(), "Nothing was done.")
		lines := d.lines(t, "payload refused")
		require.Len(t, lines, 1, payload)
		assert.Equal(t, "WARN", lines[0]["level"])
		assert.Contains(t, lines[0]["error"], says)
	}
}
