package handler_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"increment-backup-download/handler"
)

func TestRecord_ForgetsTheOldestAndTheirKeys(t *testing.T) {
	entries, keys := handler.FilledRecord(100_000, 50_000)
	assert.Greater(t, entries, 300)
	assert.Less(t, entries, 700)
	assert.LessOrEqual(t, keys, 2*entries+2, "the keys of what is forgotten")
}
