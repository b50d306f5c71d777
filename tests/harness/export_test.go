package harness

// GroupPrefix and Sweep are for the tests.
const GroupPrefix = groupPrefix

// Sweep removes the groups of dead processes.
var Sweep = sweep

// Expectation is what must become of one event.
type Expectation struct {
	ID, Body string
	Failed   bool
}

// Check holds the stand-ins' state against what is expected, and returns what is wrong.
func Check(cloud *Cloud, expected []Expectation) []string {
	r := &scenarioRun{Scenario: Scenario{Discovery: true}, cloud: cloud}
	for _, e := range expected {
		r.expected = append(r.expected, expectation{id: e.ID, body: e.Body, failed: e.Failed})
	}
	r.check()
	return r.report.Violations
}
