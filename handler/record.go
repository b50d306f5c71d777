package handler

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"

	"increment-backup-download/events"
)

// recordKey identifies an event across deliveries.
type recordKey [sha256.Size]byte

// createdKey is the key of an event that a task was created for. Whoever sends it
// again, the task is there.
func createdKey(event events.Event) recordKey {
	request := event.Request
	return keyOf("created", event.ResultID(), request.ClientToken, request.BackupSetID, request.BackupSetName, request.BackupSetDataFormat)
}

// failedKey is the key of a message that failed for good. A person who sends its
// body once more, having mended the cause, sends another message.
func failedKey(event events.Event) recordKey {
	return keyOf("failed", event.ResultID(), event.MessageID, event.Body)
}

func keyOf(parts ...string) recordKey {
	hash := sha256.New()
	for _, part := range parts {
		hash.Write(binary.AppendUvarint(nil, uint64(len(part))))
		hash.Write([]byte(part))
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
