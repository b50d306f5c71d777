package follow_test

import (
	"testing"

	"go.uber.org/goleak"
)

// No test leaves a goroutine behind, and so no invocation does.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
