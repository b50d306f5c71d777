package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"increment-backup-download/tests/harness"
)

// withoutQuota returns why the deployed size cannot be measured here, or nothing.
func withoutQuota() string {
	g, err := harness.NewGroup("try")
	if err == nil {
		err = g.Remove()
	}
	if err != nil {
		return strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return ""
}

var traced = regexp.MustCompile(`gomaxprocs=(\d+)`)

// processors returns the GOMAXPROCS of an executable at the deployed size, which
// the Go runtime's own trace of its scheduler reports.
func (b *bench) processors(executable string) (string, error) {
	d, err := b.deploy(executable, place{quota: true, settings: map[string]string{"GODEBUG": "schedtrace=20"}})
	if err != nil {
		return "", err
	}
	defer d.close()
	if _, err := d.handle(b.ctx, 1, 0); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
	defer cancel()
	for before := len(traced.FindAllString(d.Output.String(), -1)); ; {
		if lines := traced.FindAllStringSubmatch(d.Output.String(), -1); len(lines) > before {
			return lines[len(lines)-1][1], nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return "", fmt.Errorf("no trace of the scheduler: %w", ctx.Err())
		}
	}
}
