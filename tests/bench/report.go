package main

import (
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
)

// Where a figure is taken.
const (
	onWholeCores = "whole cores"
	onDeployed   = "0.05 CPU" // s.yaml, cpu
)

// figure is one measured figure: the medians of it and of its yardstick.
type figure struct {
	Name      string    `json:"name"`
	On        string    `json:"on,omitempty"`
	Unit      string    `json:"unit"`
	Median    float64   `json:"median"`
	Yardstick string    `json:"yardstick,omitempty"`
	Of        float64   `json:"yardstickMedian,omitempty"`
	Ratio     float64   `json:"ratio,omitempty"`
	Goal      float64   `json:"goal,omitempty"` // of the ratio, or of the median if there is no yardstick
	Missed    bool      `json:"missed,omitempty"`
	Why       string    `json:"notMeasured,omitempty"`
	Samples   []float64 `json:"samples,omitempty"`
}

// judged returns the figure with its ratio and whether it misses its goal.
func (f figure) judged() figure {
	value := f.Median
	if f.Of != 0 {
		f.Ratio = f.Median / f.Of
		value = f.Ratio
	}
	f.Missed = f.Goal != 0 && f.Why == "" && value > f.Goal
	return f
}

// point is the cost of one size of batch or one CONCURRENCY.
type point struct {
	X       int     `json:"x"`
	Seconds float64 `json:"seconds"`
}

// line is how the time of an invocation grows.
type line struct {
	Name   string  `json:"name"`
	Points []point `json:"points"`
}

// document is what a run has measured.
type document struct {
	Figures     []figure         `json:"figures"`
	Growth      []line           `json:"growth,omitempty"`
	Concurrency []point          `json:"concurrency,omitempty"`
	Discovery   []discoveryPoint `json:"discovery,omitempty"`
	Notes       []string         `json:"notes,omitempty"`
}

func (d *document) add(figures ...figure) {
	for _, f := range figures {
		d.Figures = append(d.Figures, f.judged())
	}
}

func (d *document) print(stdout io.Writer) {
	newTable := func(columns ...any) table.Writer {
		t := table.NewWriter()
		t.SetOutputMirror(stdout)
		t.SetStyle(table.StyleRounded)
		t.AppendHeader(columns)
		return t
	}
	if len(d.Figures) > 0 {
		t := newTable("figure", "on", "median", "yardstick", "its median", "ratio", "goal")
		for _, f := range d.Figures {
			t.AppendRow(f.row())
		}
		t.Render()
	}
	for _, l := range d.Growth {
		t := newTable("events in a batch, "+l.Name, "invocation", "an event")
		for _, p := range l.Points {
			t.AppendRow(table.Row{p.X, fmt.Sprintf("%.1f ms", p.Seconds*1000), fmt.Sprintf("%.2f ms", p.Seconds*1000/float64(p.X))})
		}
		t.Render()
	}
	if len(d.Concurrency) > 0 {
		t := newTable("concurrency", "an event, DBS 20 ms", "ideal")
		for _, p := range d.Concurrency {
			t.AppendRow(table.Row{p.X, fmt.Sprintf("%.2f ms", p.Seconds*1000), fmt.Sprintf("%.2f ms", 20/float64(p.X))})
		}
		t.Render()
	}
	if len(d.Discovery) > 0 {
		t := newTable("backup sets of a plan", "list calls", "discovery run, DBS 20 ms", "peak memory")
		for _, p := range d.Discovery {
			t.AppendRow(table.Row{p.Sets, p.ListCalls, fmt.Sprintf("%.0f ms", p.Seconds*1000), fmt.Sprintf("%.1f MB", p.PeakMB)})
		}
		t.Render()
	}
	for _, note := range d.Notes {
		_, _ = fmt.Fprintln(stdout, note)
	}
}

func (f figure) row() table.Row {
	if f.Why != "" {
		return table.Row{f.Name, f.On, "not measured: " + f.Why, f.Yardstick, "", "", ""}
	}
	row := table.Row{f.Name, f.On, fmt.Sprintf("%.2f %s", f.Median, f.Unit), f.Yardstick, "", "", ""}
	if f.Of != 0 {
		row[4], row[5] = fmt.Sprintf("%.2f %s", f.Of, f.Unit), fmt.Sprintf("%.2f", f.Ratio)
	}
	if f.Goal != 0 {
		row[6] = fmt.Sprintf("%g", f.Goal)
		if f.Missed {
			row[6] = fmt.Sprintf("%g MISSED", f.Goal)
		}
	}
	return row
}
