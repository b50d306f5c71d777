package standin_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/standin"
)

// counter is a service that answers with a word and counts what it does.
type counter struct{ effects atomic.Int64 }

func (c *counter) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	c.effects.Add(1)
	_, _ = io.WriteString(w, "done")
}

func (c *counter) WriteError(w http.ResponseWriter, status int, code, _ string) {
	http.Error(w, code, status)
}

func (c *counter) WriteThrottle(w http.ResponseWriter, _ time.Duration) {
	http.Error(w, "slow down", http.StatusTooManyRequests)
}

func TestFaulty_MeetsEachKindOfFault(t *testing.T) {
	for name, c := range map[string]struct {
		fault   standin.Fault
		effects int
		status  int // 0: no whole answer
		body    string
	}{
		"latency":        {standin.Fault{Kind: standin.Latency}, 1, 200, "done"},
		"refuse":         {standin.Fault{Kind: standin.Refuse, Status: 503, Code: "Busy"}, 0, 503, "Busy\n"},
		"throttle":       {standin.Fault{Kind: standin.Throttle}, 0, 429, "slow down\n"},
		"reset":          {standin.Fault{Kind: standin.Reset}, 0, 0, ""},
		"reset after":    {standin.Fault{Kind: standin.ResetAfter}, 1, 0, ""},
		"close":          {standin.Fault{Kind: standin.Close}, 0, 0, ""},
		"close after":    {standin.Fault{Kind: standin.CloseAfter}, 1, 0, ""},
		"truncate after": {standin.Fault{Kind: standin.TruncateAfter}, 1, 0, ""},
		"html after":     {standin.Fault{Kind: standin.HTMLAfter}, 1, 200, "<html><body><h1>Bad Gateway</h1></body></html>"},
		"bad gateway":    {standin.Fault{Kind: standin.BadGateway}, 0, 502, "<html><body><h1>Bad Gateway</h1></body></html>"},
		"empty after":    {standin.Fault{Kind: standin.EmptyAfter}, 1, 200, ""},
		"short":          {standin.Fault{Kind: standin.Short}, 1, 200, "done"},
	} {
		t.Run(name, func(t *testing.T) {
			service := &counter{}
			faulty := standin.WithFaults(service)
			faulty.SetPlan(standin.Script(&c.fault))
			server, err := standin.Start(faulty)
			require.NoError(t, err)
			t.Cleanup(server.Close)
			send := func() (int, string, error) {
				// Not replayed by the client, unlike a GET.
				response, err := http.Post(server.URL, "text/plain", strings.NewReader("x"))
				if err != nil {
					return 0, "", err
				}
				defer func() { _ = response.Body.Close() }()
				body, err := io.ReadAll(response.Body)
				return response.StatusCode, string(body), err
			}
			status, body, err := send()
			if c.status == 0 {
				require.Error(t, err)
			} else {
				require.NoError(t, err)
				assert.Equal(t, c.status, status)
				assert.Equal(t, c.body, body)
			}
			assert.EqualValues(t, c.effects, service.effects.Load())
			assert.Equal(t, 1, faulty.Met())

			_, body, err = send()
			require.NoError(t, err)
			assert.Equal(t, "done", body, "the script is over")
		})
	}
}

func TestRandomly_DrawsTheSameForOneSeed(t *testing.T) {
	draws := func(seed uint64) string {
		plan := standin.Randomly(0.5, seed, []standin.Fault{{Kind: standin.Reset}, {Kind: standin.Close}})
		var drawn []string
		for range 50 {
			if fault := plan(nil); fault != nil {
				drawn = append(drawn, string(fault.Kind))
			} else {
				drawn = append(drawn, "none")
			}
		}
		return strings.Join(drawn, " ")
	}
	first, again, other := draws(1), draws(1), draws(2)
	assert.Equal(t, first, again)
	assert.NotEqual(t, first, other)
	assert.Contains(t, first, "none")
	assert.Contains(t, first, "reset")
}

// A plan can be for some requests only.
func ExampleChoose() {
	faulty := standin.WithFaults(&counter{})
	faulty.SetPlan(standin.Choose(func(r *http.Request) bool { return r.URL.Path == "/bad" },
		standin.Always(standin.Fault{Kind: standin.BadGateway})))
	for _, path := range []string{"/good", "/bad"} {
		answer := httptest.NewRecorder()
		faulty.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		fmt.Println(path, answer.Code)
	}
	// Output:
	// /good 200
	// /bad 502
}
