package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// glyph is wider than most letters of 13 pixels.
const glyph = 7.5

// checkPicture parses an SVG, asserts that all of it is on the canvas, and
// returns its visible texts.
func checkPicture(t *testing.T, picture []byte) []string {
	t.Helper()
	within := func(value string, limit float64) float64 {
		at, err := strconv.ParseFloat(value, 64)
		if assert.NoError(t, err) {
			assert.Truef(t, at >= 0 && at <= limit, "%s is not from 0 to %v", value, limit)
		}
		return at
	}
	var texts []string
	var anchor, parent string
	var at float64
	coordinates := 0
	for decoder := xml.NewDecoder(bytes.NewReader(picture)); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		switch token := token.(type) {
		case xml.StartElement:
			parent, anchor = token.Name.Local, ""
			for _, attribute := range token.Attr {
				switch attribute.Name.Local {
				case "x", "x1", "x2", "cx", "width":
					at = within(attribute.Value, canvasWidth)
					coordinates++
				case "y", "y1", "y2", "cy", "height":
					within(attribute.Value, canvasHeight)
					coordinates++
				case "points":
					for _, pair := range strings.Fields(attribute.Value) {
						x, y, _ := strings.Cut(pair, ",")
						within(x, canvasWidth)
						within(y, canvasHeight)
						coordinates++
					}
				case "text-anchor":
					anchor = attribute.Value
				}
			}
		case xml.CharData:
			if parent != "text" || strings.TrimSpace(string(token)) == "" {
				continue
			}
			texts = append(texts, string(token))
			width := glyph * float64(len([]rune(string(token))))
			left := map[string]float64{"": at, "middle": at - width/2, "end": at - width}[anchor]
			assert.GreaterOrEqual(t, left, 0.0, "%s", token)
			assert.LessOrEqual(t, left+width, canvasWidth, "%s", token)
		}
	}
	assert.Greater(t, coordinates, 20)
	return texts
}

func TestDraw_KeepsEverythingOnTheCanvasWithItsLabels(t *testing.T) {
	for name, c := range map[string]struct {
		lines  []line
		labels []string
	}{
		"a full run": {[]line{
			{onWholeCores, []point{{1, 0.026}, {10, 0.03}, {100, 0.15}, {1000, 1.35}, {10_000, 12.9}}},
			{onDeployed, []point{{1, 0.027}, {10, 0.03}, {100, 0.2}, {1000, 2.1}, {10_000, 21.4}}},
		}, []string{onWholeCores, onDeployed, "1", "1,000", "10,000", "10 ms", "1 s", "100 s", "events in the batch", "time of the invocation"}},
		"without the deployed size": {[]line{{onWholeCores, []point{{1, 0.026}, {10, 0.03}}}}, []string{onWholeCores, "1", "10", "10 ms"}},
		"one point":                 {[]line{{onWholeCores, []point{{1, 0.02}}}}, []string{onWholeCores, "1", "10", "100 ms"}},
		"extremes":                  {[]line{{onWholeCores, []point{{1, 1e-6}, {100_000, 9999}}}}, []string{"0.001 ms", "10,000 s", "100,000"}},
	} {
		t.Run(name, func(t *testing.T) {
			picture, err := draw(c.lines)
			require.NoError(t, err)
			assert.Subset(t, checkPicture(t, picture), c.labels)
			assert.Equal(t, len(c.lines)+1, strings.Count(string(picture), "<polyline"), "each line, and the wait for DBS")
		})
	}
}

func TestDraw_RefusesWhatALogarithmicAxisCannotShow(t *testing.T) {
	for name, lines := range map[string][]line{
		"nothing":   nil,
		"no points": {{Name: onWholeCores}},
		"no time":   {{onWholeCores, []point{{1, 0}}}},
		"no events": {{onWholeCores, []point{{0, 1}}}},
		"no number": {{onWholeCores, []point{{1, math.NaN()}}}},
		"endless":   {{onWholeCores, []point{{1, math.Inf(1)}}}},
	} {
		_, err := draw(lines)
		assert.Error(t, err, name)
	}
}

func TestDraw_ThePictureOfTheReadmeIsWhole(t *testing.T) {
	picture, err := os.ReadFile("growth.svg")
	require.NoError(t, err)
	assert.Subset(t, checkPicture(t, picture), []string{onWholeCores, onDeployed, "1", "1,000", "events in the batch"})
}
