package harness

import (
	"os"
	"path/filepath"

	"increment-backup-download/tests/standin"
)

// Policy reads the RAM policy that the project ships for the function's role.
func Policy() (*standin.Policy, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	document, err := os.ReadFile(filepath.Join(root, "function", "ram-policy.json"))
	if err != nil {
		return nil, err
	}
	return standin.ParsePolicy(document)
}
