package attempt

import "time"

// Backoff between the attempts of a call: full jitter, that is, evenly from
// nothing to an interval that doubles up to lastInterval. See
// https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
const (
	firstInterval = 200 * time.Millisecond
	lastInterval  = 10 * time.Second
)

// Backoff returns the longest wait after the given number of failed attempts.
func Backoff(made int) time.Duration {
	if shift := made - 1; shift < 10 {
		return min(firstInterval<<shift, lastInterval)
	}
	return lastInterval
}
