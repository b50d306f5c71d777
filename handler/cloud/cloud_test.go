package cloud_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"increment-backup-download/handler/cloud"
)

func TestError_SaysWhatIsKnownWithinBounds(t *testing.T) {
	assert.Equal(t, "DBS Odd", (&cloud.Error{Service: "DBS", Code: "Odd"}).Error())
	assert.Equal(t, "DBS Odd (HTTP 400): words [RequestId R-1]. Fix: this",
		(&cloud.Error{Service: "DBS", Code: "Odd", HTTPStatusCode: 400, Message: "words", RequestID: "R-1", Fix: "this"}).Error())
	long := strings.Repeat("x", 5000)
	assert.Less(t, len((&cloud.Error{Service: "DBS", Code: "Odd", Message: long, Fix: long}).Error()), 700)
}
