package tests_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// queryFinds asserts that the lines which the search part of a query selects have the
// messages and the fields that its analysis names.
func queryFinds(t *testing.T, query string, lines []logLine) {
	t.Helper()
	search, analysis, found := strings.Cut(query, "\n| select ")
	require.True(t, found)
	var selected []logLine
	for _, line := range lines {
		if slices.ContainsFunc(strings.Split(search, " or "), func(term string) bool {
			words := wordsOf(line.text)
			for _, word := range strings.Fields(strings.Trim(term, `"`)) {
				if !slices.Contains(words, strings.ToLower(word)) {
					return false
				}
			}
			return true
		}) {
			selected = append(selected, line)
		}
	}
	require.NotEmpty(t, selected, search)

	var messages []string
	for _, match := range regexp.MustCompile(`'([a-z]+ [^'$%]+)'`).FindAllStringSubmatch(analysis, -1) {
		messages = append(messages, match[1])
		assert.True(t, slices.ContainsFunc(selected, func(l logLine) bool { return l.msg() == match[1] }), match[1])
	}
	for _, match := range regexp.MustCompile(`'\$\.([A-Za-z]+)'`).FindAllStringSubmatch(analysis, -1) {
		assert.True(t, slices.ContainsFunc(selected, func(l logLine) bool {
			return l.fields[match[1]] != nil && (messages == nil || slices.Contains(messages, l.msg()))
		}), match[1])
	}
	for _, match := range regexp.MustCompile(`like '%([^%]+)%'`).FindAllStringSubmatch(analysis, -1) {
		assert.True(t, slices.ContainsFunc(selected, func(l logLine) bool {
			return l.fields == nil && strings.Contains(l.text, match[1])
		}), match[1])
	}
	for _, match := range regexp.MustCompile(`'\$\.level'\) = '([A-Z]+)'`).FindAllStringSubmatch(analysis, -1) {
		assert.True(t, slices.ContainsFunc(selected, func(l logLine) bool { return l.fields["level"] == match[1] }), match[1])
	}
	assert.NotRegexp(t, `json_extract_scalar\((?:[^m]|message, '[^$])`, analysis)
	assert.Equal(t, strings.Count(analysis, "("), strings.Count(analysis, ")"))
}

// wordsOf splits a text into words, in lower case, as the index of Log Service does
// by default. See https://www.alibabacloud.com/help/en/sls/create-indexes
func wordsOf(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(c rune) bool { return strings.ContainsRune(", '\";=()[]{}?@&<>/:\n\t\r", c) })
}

// alarms is what the tests look at in docs/alarms.yaml, with the vars of s.yaml in it.
type alarms struct {
	Resources map[string]struct {
		Type       string `yaml:"Type"`
		Properties struct {
			// Of an alert.
			Detail struct {
				DisplayName   string `yaml:"DisplayName"`
				Description   string `yaml:"Description"`
				Configuration struct {
					Dashboard string `yaml:"Dashboard"`
					QueryList []struct {
						Project string `yaml:"Project"`
						Store   string `yaml:"Store"`
						Start   string `yaml:"Start"`
						Query   string `yaml:"Query"`
					} `yaml:"QueryList"`
					SeverityConfigurations []struct {
						Severity      int `yaml:"Severity"`
						EvalCondition struct {
							Condition string `yaml:"Condition"`
						} `yaml:"EvalCondition"`
					} `yaml:"SeverityConfigurations"`
					Annotations []struct {
						Key   string `yaml:"Key"`
						Value string `yaml:"Value"`
					} `yaml:"Annotations"`
				} `yaml:"Configuration"`
			} `yaml:"Detail"`
			// Of a rule about a queue.
			RuleName     string           `yaml:"RuleName"`
			EmailSubject string           `yaml:"EmailSubject"`
			MetricName   string           `yaml:"MetricName"`
			Queues       []map[string]any `yaml:"Resources"`
			Period       int              `yaml:"Period"`
			Escalations  map[string]struct {
				Threshold string `yaml:"Threshold"`
				Times     int    `yaml:"Times"`
			} `yaml:"Escalations"`
			// Of the dashboard.
			DashboardName string  `yaml:"DashboardName"`
			Charts        []chart `yaml:"Charts"`
		} `yaml:"Properties"`
	} `yaml:"Resources"`
}

type chart struct {
	Title   string
	Search  struct{ Logstore, Query string }
	Display struct {
		DisplayName string   `yaml:"displayName"`
		XAxis       []string `yaml:"xAxis"`
		YAxis       []string `yaml:"yAxis"`
	}
}

func readAlarms(t *testing.T) alarms {
	t.Helper()
	text := readPage(t, "docs/alarms.yaml")
	for name, value := range readDeployment(t).Vars {
		text = strings.ReplaceAll(text, "${vars."+name+"}", value)
	}
	var a alarms
	require.NoError(t, yaml.Unmarshal([]byte(text), &a))
	return a
}

// queries returns the queries of all alerts and charts, by their names.
func (a alarms) queries() map[string]string {
	found := make(map[string]string)
	for _, resource := range a.Resources {
		for _, query := range resource.Properties.Detail.Configuration.QueryList {
			found[resource.Properties.Detail.DisplayName] = query.Query
		}
		for _, one := range resource.Properties.Charts {
			found["chart "+one.Title] = one.Search.Query
		}
	}
	return found
}

// Every alert looks into the log that s.yaml makes, and compares a column of its query.
func TestAlarms_CompareWhatTheirQueriesFind(t *testing.T) {
	d := readDeployment(t)
	log := d.Resources.Function.Props.LogConfig
	alerts, charts, queues := 0, 0, []any{}
	for name, resource := range readAlarms(t).Resources {
		p := resource.Properties
		switch resource.Type {
		case "ALIYUN::SLS::Alert":
			alerts++
			configuration := p.Detail.Configuration
			require.Len(t, configuration.QueryList, 1, name)
			query := configuration.QueryList[0]
			assert.Equal(t, log.Project, query.Project, name)
			assert.Equal(t, log.Logstore, query.Store, name)
			assert.Equal(t, d.Vars["functionName"], configuration.Dashboard, name)
			column, _, _ := strings.Cut(configuration.SeverityConfigurations[0].EvalCondition.Condition, " ")
			assert.Regexp(t, ` as `+column+`\s`, query.Query, name)
			require.Len(t, configuration.Annotations, 2, name)
			assert.Equal(t, p.Detail.DisplayName, configuration.Annotations[0].Value, name)
			assert.Equal(t, p.Detail.Description, configuration.Annotations[1].Value, name)
		case "ALIYUN::CMS::ResourceMetricRule":
			queues = append(queues, p.Queues[0]["queue"])
		case "ALIYUN::SLS::Dashboard":
			assert.Equal(t, d.Vars["functionName"], p.DashboardName)
			for _, one := range p.Charts {
				charts++
				assert.Equal(t, log.Logstore, one.Search.Logstore, one.Title)
				for _, column := range slices.Concat(one.Display.XAxis, one.Display.YAxis) {
					assert.Regexp(t, ` as `+column+`\b`, one.Search.Query, one.Title)
				}
			}
		}
	}
	assert.Positive(t, alerts)
	assert.Positive(t, charts)
	assert.ElementsMatch(t, []any{d.Vars["deadLetterQueue"], d.Vars["resultQueue"]}, queues)
}

// The page has each alert with its condition, severity and words, and no other.
func TestAlarms_ThePageQuotesThem(t *testing.T) {
	severities := map[int]string{4: "low", 6: "medium", 8: "high", 10: "critical"}
	ranges := map[string]string{"-15m": "15 minutes", "-1h": "an hour", "-24h": "a day"}
	page := strings.Join(strings.Fields(readPage(t, "docs/alarms.md")), " ")
	quotes := 0
	for _, resource := range readAlarms(t).Resources {
		p := resource.Properties
		switch resource.Type {
		case "ALIYUN::SLS::Alert":
			quotes++
			configuration := p.Detail.Configuration
			severity := configuration.SeverityConfigurations[0]
			assert.Contains(t, page, fmt.Sprintf("- **%s** (`%s` in %s, %s): %s", p.Detail.DisplayName, severity.EvalCondition.Condition,
				ranges[configuration.QueryList[0].Start], severities[severity.Severity], p.Detail.Description))
		case "ALIYUN::CMS::ResourceMetricRule":
			quotes++
			_, name, _ := strings.Cut(p.RuleName, ", ")
			for severity, escalation := range p.Escalations {
				assert.Contains(t, page, fmt.Sprintf("- **%s** (`%s > %s` for %d minutes, %s): %s.", name, p.MetricName, escalation.Threshold,
					p.Period*escalation.Times/60, strings.ToLower(severity), p.EmailSubject))
			}
		case "ALIYUN::SLS::Dashboard":
			for _, one := range p.Charts {
				assert.Contains(t, page, "| "+one.Display.DisplayName+" |")
			}
		}
	}
	assert.Equal(t, quotes, strings.Count(page, "- **"))
}
