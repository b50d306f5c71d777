package handler_test

import (
	"fmt"
	"strings"
	"testing"

	"increment-backup-download/events"
	"increment-backup-download/handler"
)

// BenchmarkHandler_Handle is the cost of an event without its services.
func BenchmarkHandler_Handle(b *testing.B) {
	const size = 500
	payload := string(batch(items(size)...))
	h := handler.New(handler.Config{Concurrency: 16, Source: events.Source{Region: "cn-hangzhou", AccountID: "1234567890123456", FunctionName: "f"}},
		handler.Ports{Tasks: forgetfulDBS{}, Results: discardQueue{}, DeadLetters: discardQueue{}}, discard)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		fresh := []byte(strings.ReplaceAll(payload, "event-", fmt.Sprintf("%d-", n)))
		if _, err := h.Handle(b.Context(), "", fresh); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/event")
}
