package handler_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"increment-backup-download/events"
	"increment-backup-download/handler"
	"increment-backup-download/handler/cloud"
)

// fate is what the services do to an event, call by call.
type fate struct {
	Kind     string // good, unfinished, malformed or refused
	DBS      []string
	Publish  []string
	Explicit string // an explicit ClientToken
	Steady   string // what DBS does in the first deliveries
	Until    int    // how many
}

// TestHandler_KeepsItsPromise delivers random batches, in random order and with
// repeats, under random outcomes of every call, with restarts in between, until
// every batch has succeeded; then it holds what came of it against a model: each
// event has its result, each failed one its dead letter, each token one task.
func TestHandler_KeepsItsPromise(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		kinds := rapid.SampledFrom([]string{"good", "good", "good", "unfinished", "malformed", "refused"})
		outcomes := rapid.SliceOfN(rapid.SampledFrom([]string{"ok", "fail", "lost", "unknown", "fault"}), 0, 3)
		fates := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) fate {
			return fate{Kind: kinds.Draw(t, "kind"), DBS: outcomes.Draw(t, "dbs"), Publish: outcomes.Draw(t, "publish"),
				Explicit: rapid.SampledFrom([]string{"", "", "", "shared"}).Draw(t, "token"),
				Steady:   rapid.SampledFrom([]string{"", "", "fail", "unrecognized", "throttled", "slow", "hang"}).Draw(t, "steady"),
				Until:    rapid.IntRange(1, 3).Draw(t, "until")}
		}), 1, 40).Draw(rt, "fates")
		order := rapid.Permutation(indexes(len(fates))).Draw(rt, "order")
		repeats := rapid.SliceOfN(rapid.IntRange(0, len(fates)-1), 0, 5).Draw(rt, "repeats")
		restarts := rapid.SliceOfN(rapid.Bool(), 1, 4).Draw(rt, "restarts")

		synctest.Test(t, func(t *testing.T) {
			d := deploy(nil)
			world := &world{fates: fates, dbs: map[string]int{}}
			d.dbs.before = world.before
			d.dbs.after = world.after
			d.results.before = world.publish
			d.deadLetters.before = world.publish

			payload := world.payload(append(order, repeats...))
			for delivery := 0; ; delivery++ {
				if delivery > 200 {
					rt.Fatalf("still open after %d deliveries", delivery)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				_, err := d.Handle(ctx, "", payload)
				late := ctx.Err() != nil
				cancel()
				if late {
					rt.Fatalf("answered after the deadline")
				}
				if err == nil {
					break
				}
				var redelivery *handler.RedeliveryError
				var fault *handler.OperatorFaultError
				if !errors.As(err, &redelivery) && !errors.As(err, &fault) {
					rt.Fatalf("an error of no declared type: %v", err)
				}
				if restarts[delivery%len(restarts)] {
					d.restart(nil)
				}
				world.next()
			}
			world.check(rt, t, d)
		})
	})
}

func indexes(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// world plays the fates out, and counts the calls by backup set.
type world struct {
	fates []fate

	mu       sync.Mutex
	delivery int
	dbs      map[string]int
	sends    int
}

// next begins the next delivery.
func (w *world) next() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.delivery++
}

func (w *world) payload(order []int) []byte {
	var elements []any
	for _, i := range order {
		f := w.fates[i]
		body := fmt.Sprintf(`{"BackupSetJobId":"job","BackupSetId":"set-%d","BackupStatus":"COMPLETED","ClientToken":%q}`, i, w.token(i))
		switch f.Kind {
		case "unfinished":
			body = fmt.Sprintf(`{"BackupSetJobId":"job","BackupSetId":"set-%d","BackupStatus":"FILLING"}`, i)
		case "malformed":
			body = fmt.Sprintf("rubbish %d", i)
		}
		id := fmt.Sprintf("event-%d", i)
		elements = append(elements, map[string]any{"specversion": "1.0", "id": id, "data": map[string]any{"messageId": id, "messageBody": body}})
	}
	payload, _ := json.Marshal(elements)
	return payload
}

func (w *world) token(i int) string {
	if w.fates[i].Explicit == "" {
		return ""
	}
	return fmt.Sprintf("explicit-%d", i)
}

func (w *world) fateOf(request events.Request) fate {
	var i int
	_, _ = fmt.Sscanf(request.BackupSetName, "set-%d", &i)
	return w.fates[i]
}

func (w *world) outcome(request events.Request) string {
	f := w.fateOf(request)
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.dbs[request.BackupSetName]
	switch {
	case w.delivery < f.Until && f.Steady != "":
		return f.Steady
	case n >= len(f.DBS):
		return "ok"
	case f.DBS[n] == "lost" && f.Kind == "refused":
		return "fail" // there is no effect that an answer could be lost of
	}
	return f.DBS[n]
}

func (w *world) before(ctx context.Context, request events.Request) error {
	outcome := w.outcome(request)
	if outcome == "lost" {
		return nil
	}
	w.mu.Lock()
	w.dbs[request.BackupSetName]++
	w.mu.Unlock()
	switch outcome {
	case "fail":
		return transient("InternalError")
	case "unknown":
		return errors.New("unclassified")
	case "unrecognized":
		return &cloud.Error{Service: "DBS", Code: "Strange", HTTPStatusCode: 400, Unrecognized: true}
	case "throttled":
		return &cloud.Error{Service: "DBS", Code: "Throttling.User", Throttled: true, RetryAfter: 30 * time.Millisecond}
	case "slow":
		time.Sleep(time.Second)
	case "hang":
		return hang(ctx)
	case "fault":
		return operatorFault("Forbidden.RAM")
	}
	if w.fateOf(request).Kind == "refused" {
		return permanent("Param.NotFound")
	}
	return nil
}

// after loses the answer of a call whose effect has happened.
func (w *world) after(request events.Request) error {
	if w.outcome(request) != "lost" {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dbs[request.BackupSetName]++
	return io.ErrUnexpectedEOF
}

func (w *world) publish(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sends++
	f := w.fates[w.sends%len(w.fates)]
	if w.sends < 60 && len(f.Publish) > 0 {
		switch f.Publish[w.sends%len(f.Publish)] {
		case "fail", "lost":
			return transient("InternalServerError")
		case "fault":
			return operatorFault("QueueNotExist")
		}
	}
	return nil
}

func (w *world) check(rt *rapid.T, t *testing.T, d *deployment) {
	results := d.results.results(t)
	dead := map[string]bool{}
	for _, body := range d.deadLetters.messages {
		dead[body] = true
	}
	tasks := 0
	for i, f := range w.fates {
		id := fmt.Sprintf("event-%d", i)
		result, published := results[id]
		token := w.token(i)
		if token == "" {
			token = id
		}
		ok := true
		switch f.Kind {
		case "good":
			tasks++
			ok = published && d.dbs.tasks[token] != "" && result.Data.BackupSetDownloadTaskID == d.dbs.tasks[token]
		case "refused":
			ok = published && result.Data.ErrCode == "Param.NotFound"
		case "malformed":
			ok = published && result.Data.ErrCode == events.CodeMalformed && dead[fmt.Sprintf("rubbish %d", i)]
		case "unfinished":
			ok = !published
		}
		if !ok {
			rt.Fatalf("event %d (%+v): result %v %+v, task %q", i, f, published, result.Data, d.dbs.tasks[token])
		}
	}
	assert.Len(t, d.dbs.tasks, tasks)
}
