package main

import (
	"fmt"
	"math"
	"os"
	"strconv"

	"github.com/wcharczuk/go-chart/v2"
	"github.com/wcharczuk/go-chart/v2/drawing"
)

// draw writes how the time of an invocation grows with its events, both axes
// logarithmic, beside a straight line through the largest batch.
func draw(path string, doc document) error {
	var measured, linear chart.ContinuousSeries
	measured.Name, linear.Name = "one invocation", "linear"
	measured.Style = chart.Style{StrokeColor: drawing.ColorFromHex("1f6feb"), StrokeWidth: 3, DotColor: drawing.ColorFromHex("1f6feb"), DotWidth: 4}
	linear.Style = chart.Style{StrokeColor: drawing.ColorFromHex("8b949e"), StrokeWidth: 1, StrokeDashArray: []float64{4, 4}}
	var events []chart.Tick
	last := doc.Events[len(doc.Events)-1]
	for _, p := range doc.Events {
		x := math.Log10(float64(p.X))
		measured.XValues = append(measured.XValues, x)
		measured.YValues = append(measured.YValues, math.Log10(p.Seconds*1000))
		linear.XValues = append(linear.XValues, x)
		linear.YValues = append(linear.YValues, math.Log10(last.Seconds*1000*float64(p.X)/float64(last.X)))
		events = append(events, chart.Tick{Value: x, Label: strconv.Itoa(p.X)})
	}
	var times []chart.Tick
	for power := -1.0; power <= 4; power++ {
		times = append(times, chart.Tick{Value: power, Label: fmt.Sprintf("%g ms", math.Pow(10, power))})
	}
	picture := chart.Chart{
		Width:      720,
		Height:     400,
		Background: chart.Style{Padding: chart.Box{Top: 50, Left: 20, Right: 20, Bottom: 20}, FillColor: drawing.ColorWhite},
		XAxis:      chart.XAxis{Name: "events in the batch", Ticks: events},
		YAxis:      chart.YAxis{Name: "time of the invocation", Ticks: times, Range: &chart.ContinuousRange{Min: -1, Max: 4}},
		Series:     []chart.Series{linear, measured},
	}
	picture.Elements = []chart.Renderable{chart.LegendThin(&picture)}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := picture.Render(chart.SVG, file); err != nil {
		_ = file.Close()
		return err
	}
	return file.Close()
}
