package main

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"increment-backup-download/tests/standin"
)

// limit is an invocation that asks for more than an instance has.
type limit struct {
	Case    string  `json:"case"`
	Timeout float64 `json:"timeout"` // s
	Ended   string  `json:"ended"`
	Seconds float64 `json:"seconds"`
	PeakMB  float64 `json:"peakMB,omitempty"`
}

// worsen takes the outcome of one more round, if it is worse than those before.
func (l *limit) worsen(o outcome, peakMB float64) {
	rank := func(ended string) int { return slices.Index([]string{answered, late, killed}, ended) }
	if rank(o.ended) > rank(l.Ended) || o.ended == l.Ended && o.seconds > l.Seconds {
		l.Ended, l.Seconds = o.ended, o.seconds
	}
	l.PeakMB = max(l.PeakMB, peakMB)
}

// limitCase is one row: the payload, the timeout and what goes wrong meanwhile.
type limitCase struct {
	name    string
	payload func() []byte
	timeout time.Duration
	dbs     *standin.Fault
	mns     *standin.Fault
}

// memoryLimits are the invocations that want the most memory.
func (b *bench) memoryLimits() error {
	const events, longest = 10_000, 1024
	cases := []limitCase{
		{name: "32 MB of random bytes", payload: func() []byte {
			random, text := rand.NewChaCha8([32]byte{}), make([]byte, largest)
			_, _ = random.Read(text)
			return text
		}},
		{name: "32 MB in one string with a bad byte", payload: func() []byte {
			return []byte(`"` + strings.Repeat("x", largest) + "\xff" + `"`)
		}},
		{name: "32 MB in one string in an array", payload: func() []byte {
			return []byte(`["` + strings.Repeat("x", largest) + `"]`)
		}},
		{name: "1,000,000 numbers in 2 MB", payload: func() []byte {
			return append(append([]byte("[1"), bytes.Repeat([]byte(",1"), 999_999)...), ']')
		}},
		{name: "400,000 different numbers in 3 MB", payload: func() []byte {
			text := []byte("[0")
			for i := range 399_999 {
				text = strconv.AppendInt(append(text, ','), int64(i+1), 10)
			}
			return append(text, ']')
		}},
		{name: "one message of 31 MB, of 3,000,000 members", payload: func() []byte {
			text := []byte(`{"0":1`)
			for i := 1; len(text) < 31_000_000; i++ {
				text = append(strconv.AppendInt(append(text, `,"`...), int64(i), 10), `":1`...)
			}
			return append(text, '}')
		}},
		{name: "one message of 30 MB in base64, with line breaks", payload: func() []byte {
			line := strings.Repeat("A", 76) + `\n`
			return []byte(`[{"messageId":"1","messageBody":"` + strings.Repeat(line, 30_000_000/len(line)) + `"}]`)
		}},
		{name: "10,000 events, 31 MB, longest names, MNS hangs", mns: &standin.Fault{Kind: standin.Hang}, payload: func() []byte {
			return payload(1, events, event{names: longest, padding: 31_000_000/events - len(payload(1, 1, event{names: longest, padding: 1}))})
		}},
		{name: "10,000 events, 31 MB, DBS answers 503", dbs: &standin.Fault{Kind: standin.Refuse, Status: http.StatusServiceUnavailable,
			Code: "ServiceUnavailable", Message: "The request has failed due to a temporary failure of the server."}, payload: func() []byte {
			return payload(1, events, event{padding: 31_000_000/events - len(payload(1, 1, event{padding: 1}))})
		}},
	}
	for i := range cases {
		cases[i].timeout = time.Minute
	}
	if b.quick {
		cases = cases[:3]
	}
	return b.limits(cases, 1)
}

// deadlines are the shortest timeouts for the most events.
func (b *bench) deadlines() error {
	var cases []limitCase
	for _, timeout := range []time.Duration{3 * time.Second, 4 * time.Second, 5 * time.Second} {
		cases = append(cases, limitCase{name: "10,000 events", timeout: timeout, payload: func() []byte { return payload(1, 10_000, event{}) }})
	}
	if b.quick {
		cases = cases[:1]
	}
	return b.limits(cases, b.rounds(5))
}

// limits takes each case in a fresh instance of the deployed size, and keeps the
// worst of its rounds.
func (b *bench) limits(cases []limitCase, rounds int) error {
	if b.noGroup {
		return nil
	}
	for _, c := range cases {
		row := limit{Case: c.name, Timeout: c.timeout.Seconds()}
		for range rounds {
			o, peak, err := b.end(c)
			if err != nil {
				return err
			}
			row.worsen(o, peak)
		}
		b.doc.Limits = append(b.doc.Limits, row)
	}
	return nil
}

// end takes a case once, and returns how it ended with the memory it took, in MB.
func (b *bench) end(c limitCase) (outcome, float64, error) {
	d, err := b.deploy(b.function, place{delays: true, deployed: true})
	if err != nil {
		return outcome{}, 0, err
	}
	defer d.close()
	d.Timeout = c.timeout
	if c.dbs != nil {
		d.DBSFaults.SetPlan(standin.Always(*c.dbs))
	}
	if c.mns != nil {
		d.MNSFaults.SetPlan(standin.Always(*c.mns))
	}
	o, err := d.invoke(b, c.payload())
	if err != nil {
		return o, 0, err
	}
	if o.ended == failed {
		o.ended = answered
	}
	peak, err := d.group.Peak()
	return o, float64(peak) / (1 << 20), err
}
