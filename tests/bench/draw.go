package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
)

// The canvas, and the edges of the plot on it.
const (
	canvasWidth, canvasHeight = 760.0, 430.0
	plotLeft, plotRight       = 84.0, 728.0
	plotTop, plotBottom       = 92.0, 372.0
)

// scale places values on a logarithmic axis, from one power of ten to another.
type scale struct {
	low, high float64 // exponents
	from, to  float64 // coordinates
}

func newScale(smallest, largest, from, to float64) scale {
	low, high := math.Floor(math.Log10(smallest)), math.Ceil(math.Log10(largest))
	return scale{low, max(high, low+1), from, to}
}

func (s scale) at(value float64) float64 {
	return s.from + (math.Log10(value)-s.low)/(s.high-s.low)*(s.to-s.from)
}

// draw returns a picture, in SVG, of how the time of an invocation grows with its
// events, beside the time that DBS alone would take. It brings its own light
// background, so that it can be read on any page.
func draw(lines []line) ([]byte, error) {
	smallest, largest := point{math.MaxInt, math.Inf(1)}, point{}
	var longest line
	for _, l := range lines {
		for _, p := range l.Points {
			if p.X < 1 || !(p.Seconds > 0) || math.IsInf(p.Seconds, 0) {
				return nil, fmt.Errorf("%d events in %v s cannot be drawn on logarithmic axes", p.X, p.Seconds)
			}
			dbs := ideal(p.X).Seconds()
			smallest = point{min(smallest.X, p.X), min(smallest.Seconds, p.Seconds, dbs)}
			largest = point{max(largest.X, p.X), max(largest.Seconds, p.Seconds, dbs)}
		}
		if len(l.Points) > len(longest.Points) {
			longest = l
		}
	}
	if len(longest.Points) == 0 {
		return nil, errors.New("the growth was not measured: there is nothing to draw")
	}
	waiting := line{Name: "waiting for DBS alone: 20 ms for each 16 events"}
	for _, p := range longest.Points {
		waiting.Points = append(waiting.Points, point{p.X, ideal(p.X).Seconds()})
	}
	x := newScale(float64(smallest.X), float64(largest.X), plotLeft, plotRight)
	y := newScale(smallest.Seconds, largest.Seconds, plotBottom, plotTop)

	var s bytes.Buffer
	write := func(format string, arguments ...any) { fmt.Fprintf(&s, format+"\n", arguments...) }
	write(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" width="%g" height="%g" font-family="sans-serif" font-size="13" fill="#1f2328">`,
		canvasWidth, canvasHeight, canvasWidth, canvasHeight)
	write(`<title>Time of an invocation over the events in its batch</title>`)
	write(`<rect x="0.5" y="0.5" width="%g" height="%g" rx="8" fill="#ffffff" stroke="#d0d7de"/>`, canvasWidth-1, canvasHeight-1)
	write(`<text x="%g" y="%g">time of the invocation</text>`, 16.0, plotTop-16)
	write(`<text x="%g" y="%g" text-anchor="middle">events in the batch</text>`, (plotLeft+plotRight)/2, plotBottom+42)
	for power := y.low; power <= y.high; power++ {
		at := y.at(math.Pow(10, power))
		write(`<line x1="%g" y1="%.1f" x2="%g" y2="%.1f" stroke="#d8dee4"/>`, plotLeft, at, plotRight, at)
		write(`<text x="%g" y="%.1f" text-anchor="end">%s</text>`, plotLeft-8, at+4, duration(math.Pow(10, power)))
	}
	for power := x.low; power <= x.high; power++ {
		at := x.at(math.Pow(10, power))
		write(`<line x1="%.1f" y1="%g" x2="%.1f" y2="%g" stroke="#d8dee4"/>`, at, plotTop, at, plotBottom)
		write(`<text x="%.1f" y="%g" text-anchor="middle">%s</text>`, at, plotBottom+20, thousands(math.Pow(10, power)))
	}
	colors := []string{"#0969da", "#bc4c00", "#8250df"}
	for i, l := range append(lines[:len(lines):len(lines)], waiting) {
		color, style := colors[i%len(colors)], `stroke-width="2.5"`
		if i == len(lines) {
			color, style = "#57606a", `stroke-width="1.5" stroke-dasharray="5 4"`
		}
		// The legend has two columns.
		left, top := 16+300*float64(i%2), 24+22*float64(i/2)
		write(`<line x1="%g" y1="%g" x2="%g" y2="%g" stroke="%s" %s/>`, left, top, left+28, top, color, style)
		write(`<text x="%g" y="%g">%s</text>`, left+36, top+4, l.Name)
		s.WriteString(`<polyline fill="none" stroke="` + color + `" ` + style + ` points="`)
		for _, p := range l.Points {
			fmt.Fprintf(&s, "%.1f,%.1f ", x.at(float64(p.X)), y.at(p.Seconds))
		}
		write(`"/>`)
		if i == len(lines) {
			continue
		}
		for _, p := range l.Points {
			write(`<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"><title>%s</title></circle>`, x.at(float64(p.X)), y.at(p.Seconds), color,
				thousands(float64(p.X))+" events: "+duration(p.Seconds))
		}
	}
	write(`</svg>`)
	return s.Bytes(), nil
}

// duration writes seconds in the unit that a reader would choose.
func duration(seconds float64) string {
	if seconds < 0.9995 {
		return fmt.Sprintf("%.3g ms", seconds*1000)
	}
	return thousands(seconds) + " s"
}

// thousands writes a number with a comma before the last three digits, if there are more than three.
func thousands(n float64) string {
	if n >= 999.5 {
		return fmt.Sprintf("%.0f,%03.0f", math.Floor(math.Round(n)/1000), math.Mod(math.Round(n), 1000))
	}
	return fmt.Sprintf("%.3g", n)
}
