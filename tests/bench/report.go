package main

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Where a figure is taken.
const (
	onWholeCores = "whole cores"
	onDeployed   = "0.05 vCPU, 128 MB" // as s.yaml deploys it
)

// figure is one number: the median of its samples, beside that of its yardstick.
type figure struct {
	Name      string    `json:"name"`
	Unit      string    `json:"unit"`
	On        string    `json:"on"`
	Median    float64   `json:"median"`
	Yardstick string    `json:"yardstick,omitempty"`
	Of        float64   `json:"yardstickMedian,omitempty"`
	Ratio     float64   `json:"ratio,omitempty"`
	Goal      float64   `json:"goal,omitempty"` // of the ratio, or of the median if there is no yardstick
	Missed    bool      `json:"missed,omitempty"`
	Samples   []float64 `json:"samples,omitempty"`
}

// judged returns the figure with its ratio and whether it misses its goal.
func (f figure) judged() figure {
	value := f.Median
	if f.Of != 0 {
		f.Ratio = f.Median / f.Of
		value = f.Ratio
	}
	f.Missed = f.Goal != 0 && value > f.Goal
	return f
}

// batch is the time of one invocation, in ms; what was not taken is 0.
type batch struct {
	Events      int     `json:"events"`
	Concurrency int     `json:"concurrency"`
	WholeCores  float64 `json:"wholeCores,omitempty"`
	Deployed    float64 `json:"deployed,omitempty"`
	Ideal       float64 `json:"ideal"` // if only DBS took any time
}

// document is what a run has measured.
type document struct {
	Machine     string         `json:"machine"`
	Figures     []figure       `json:"figures,omitempty"`
	Growth      []batch        `json:"growth,omitempty"`
	Concurrency []batch        `json:"concurrency,omitempty"`
	Limits      []limit        `json:"limits,omitempty"`
	Discovery   []discoveryRun `json:"discovery,omitempty"`
	Notes       []string       `json:"notes,omitempty"`
}

// machine describes where the benchmark runs.
func machine() string {
	return fmt.Sprintf("%d cores, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}

func (d *document) add(figures ...figure) {
	for _, f := range figures {
		d.Figures = append(d.Figures, f.judged())
	}
}

// section is a table with its title.
type section struct {
	title string
	table table.Writer
}

// newSection returns a table without rows, with its numbers to the right.
func newSection(title string, columns ...any) section {
	t := table.NewWriter()
	t.AppendHeader(columns)
	var configs []table.ColumnConfig
	for i, column := range columns {
		if i > 0 && column != "yardstick" && column != "ended" {
			configs = append(configs, table.ColumnConfig{Number: i + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
		}
	}
	t.SetColumnConfigs(configs)
	style := table.StyleRounded
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	return section{title, t}
}

// sections are the tables that have rows.
func (d *document) sections() []section {
	var all []section
	for _, on := range []string{onWholeCores, onDeployed} {
		s := newSection("On "+on, "figure", "measured", "yardstick", "measured", "ratio", "goal")
		for _, f := range d.Figures {
			if f.On == on {
				s.table.AppendRow(f.row())
			}
		}
		all = append(all, s)
	}
	growth := newSection("One batch, by its size", "events", "whole cores, ms", "0.05 vCPU, ms", "DBS alone, ms")
	for _, p := range d.Growth {
		growth.table.AppendRow(table.Row{number(float64(p.Events)), number(p.WholeCores), number(p.Deployed), number(p.Ideal)})
	}
	concurrency := newSection("One batch, by CONCURRENCY", "CONCURRENCY", "events", "whole cores, ms", "DBS alone, ms")
	for _, p := range d.Concurrency {
		concurrency.table.AppendRow(table.Row{p.Concurrency, p.Events, number(p.WholeCores), number(p.Ideal)})
	}
	limits := newSection("The hardest invocations, on "+onDeployed, "case", "timeout, s", "ended", "after, s", "peak, MB")
	for _, l := range d.Limits {
		limits.table.AppendRow(table.Row{l.Case, number(l.Timeout), l.Ended, number(l.Seconds), number(l.PeakMB)})
	}
	all = append(all, growth, concurrency, limits)
	for _, on := range []string{onWholeCores, onDeployed} {
		s := newSection("One discovery run, on "+on, "case", "ended", "list calls", "took, s", "DBS alone, s", "peak, MB")
		for _, r := range d.Discovery {
			if r.On == on {
				s.table.AppendRow(table.Row{r.Case, r.Ended, number(float64(r.ListCalls)), number(r.Seconds), number(r.Ideal), number(r.PeakMB)})
			}
		}
		all = append(all, s)
	}
	taken := all[:0]
	for _, s := range all {
		if s.table.Length() > 0 {
			taken = append(taken, s)
		}
	}
	return taken
}

// print writes the tables for a terminal.
func (d *document) print(stdout io.Writer) {
	for _, s := range d.sections() {
		_, _ = fmt.Fprintf(stdout, "%s:\n%s\n", s.title, s.table.Render())
	}
	for _, note := range d.Notes {
		_, _ = fmt.Fprintln(stdout, note)
	}
}

// printMarkdown writes the tables for docs/benchmark.md.
func (d *document) printMarkdown(stdout io.Writer) {
	_, _ = fmt.Fprintf(stdout, "Measured on %s.\n", d.Machine)
	for _, s := range d.sections() {
		_, _ = fmt.Fprintf(stdout, "\n### %s\n\n%s\n", s.title, s.table.RenderMarkdown())
	}
	for _, note := range d.Notes {
		_, _ = fmt.Fprintf(stdout, "\n%s\n", note)
	}
}

func (f figure) row() table.Row {
	row := table.Row{f.Name + ", " + f.Unit, number(f.Median), f.Yardstick, number(f.Of), number(f.Ratio), number(f.Goal)}
	if f.Missed {
		row[5] = number(f.Goal) + " missed"
	}
	return row
}

// number writes a number with the digits that matter, and 0, which was not taken, as
// nothing.
func number(n float64) string {
	switch {
	case n == 0:
		return ""
	case n >= 999.5:
		whole := int(math.Round(n))
		return fmt.Sprintf("%s,%03d", number(float64(whole/1000)), whole%1000)
	case n == math.Trunc(n) || n >= 99.95:
		return strconv.FormatFloat(n, 'f', 0, 64)
	case n >= 9.995:
		return strconv.FormatFloat(n, 'f', 1, 64)
	default:
		return strconv.FormatFloat(n, 'f', 2, 64)
	}
}
