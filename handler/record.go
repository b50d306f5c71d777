package handler

import (
	"crypto/sha256"
	"sync"

	"increment-backup-download/events"
)

// recordKey identifies an event across deliveries.
type recordKey [sha256.Size]byte

// keyOf returns the key of an event whose outcome follows from its request, or,
// where it cannot be understood, from its body.
func keyOf(event events.Event, understood bool) recordKey {
	hash := sha256.New()
	part := func(s string) {
		hash.Write([]byte(s))
		hash.Write([]byte{0})
	}
	part(event.ResultID())
	if understood {
		part(event.Request.ClientToken)
		part(event.Request.BackupSetID)
		part(event.Request.BackupSetName)
		part(event.Request.BackupSetDataFormat)
	} else {
		part(event.Body)
	}
	return recordKey(hash.Sum(nil))
}

// record remembers, in memory and for this instance, the events that are done:
// the task created and the result published, or the body dead-lettered and the
// failure published. A redelivered batch then does only what is missing. It is
// bounded, forgets the oldest first, and its loss is harmless: calls are
// idempotent and results carry an ID. It is safe for concurrent use.
type record struct {
	mu   sync.Mutex
	done map[recordKey]events.ResultData
	ring []recordKey
	next int
}

func newRecord(size int) *record {
	return &record{done: make(map[recordKey]events.ResultData), ring: make([]recordKey, 0, size)}
}

func (r *record) get(key recordKey) (events.ResultData, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	data, ok := r.done[key]
	return data, ok
}

func (r *record) put(key recordKey, data events.ResultData) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.done[key]; !ok {
		if len(r.ring) < cap(r.ring) {
			r.ring = append(r.ring, key)
		} else {
			delete(r.done, r.ring[r.next])
			r.ring[r.next] = key
			r.next = (r.next + 1) % len(r.ring)
		}
	}
	r.done[key] = data
}
