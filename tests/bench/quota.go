package main

import (
	"strings"

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
