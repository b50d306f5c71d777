package handler

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"

	"increment-backup-download/events"
)

// recordKey identifies an event, or a message, across deliveries.
type recordKey [sha256.Size]byte

// createdKey is the key of an event that a task was created for. The task exists
// no matter who sends the event again.
func createdKey(event events.Event, resultID string) recordKey {
	request := event.Request
	return keyOf("created", resultID, request.ClientToken, request.BackupSetID, request.BackupSetName, request.BackupSetDataFormat)
}

// messageKey is the key of one message. A person who fixes the cause of a failure
// and sends its body once more sends another message.
func messageKey(event events.Event, resultID string) recordKey {
	return keyOf("message", resultID, event.MessageID, event.Body, event.Request.BackupSetID, event.Request.BackupSetName)
}

// followUpKey is the key of all follow-ups of one task for one event.
func followUpKey(f events.FollowUp) recordKey {
	return keyOf("followUp", f.Result.Source, f.Result.ID, f.TaskID)
}

func keyOf(parts ...string) recordKey {
	text := make([]byte, 0, 1024)
	for _, part := range parts {
		text = append(binary.AppendUvarint(text, uint64(len(part))), part...)
	}
	return sha256.Sum256(text)
}

// done is what a finished event leaves behind: the part of its result that the event
// itself does not say and the summary needs.
type done struct{ taskID, requestID, errCode string }

func doneOf(data events.ResultData) done {
	return done{taskID: data.BackupSetDownloadTaskID, requestID: data.RequestID, errCode: data.ErrCode}
}

// data returns the data of a result for an event that ended like this.
func (o done) data(event events.Event) events.ResultData {
	data := events.NewResultData(event)
	data.BackupSetDownloadTaskID, data.RequestID, data.ErrCode = o.taskID, o.requestID, o.errCode
	return data
}

// record remembers, in memory and for this instance, what is done, by key. A
// redelivered batch then does only what is missing. It is bounded in bytes,
// forgets the oldest first, and losing it is harmless: calls are idempotent and
// results have an identity. It is safe for concurrent use.
type record struct {
	mu    sync.Mutex
	limit int // bytes
	size  int
	done  map[recordKey]done
	order []recordKey // oldest first, from next on
	next  int
}

// entrySize is what an entry takes besides its texts: its key twice, three string
// headers, and the map's own share.
const entrySize = 2*sha256.Size + 3*16 + 32

func newRecord(limit int) *record {
	return &record{limit: limit, done: make(map[recordKey]done)}
}

func (o done) size() int {
	return entrySize + len(o.taskID) + len(o.requestID) + len(o.errCode)
}

func (r *record) get(key recordKey) (done, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	data, ok := r.done[key]
	return data, ok
}

func (r *record) put(key recordKey, data done) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if earlier, ok := r.done[key]; ok {
		r.size -= earlier.size()
	} else {
		r.order = append(r.order, key)
	}
	r.done[key] = data
	r.size += data.size()
	for r.size > r.limit {
		oldest := r.order[r.next]
		r.next++
		r.size -= r.done[oldest].size()
		delete(r.done, oldest)
	}
	if r.next > len(r.order)/2 { // half of it is forgotten
		r.order = append(r.order[:0], r.order[r.next:]...)
		r.next = 0
	}
}
