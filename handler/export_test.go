package handler

import "encoding/binary"

// FilledRecord returns how many entries a record with the given limit in bytes keeps
// after n were put into it, and how many keys it holds for that.
func FilledRecord(limit, n int) (entries, keys int) {
	r := newRecord(limit)
	for i := range n {
		var key recordKey
		binary.BigEndian.PutUint64(key[:], uint64(i))
		r.put(key, done{taskID: "1jydacm000001"})
	}
	return len(r.done), len(r.order)
}

// RecordLimit is the limit of each record of a handler, in bytes.
const RecordLimit = recordLimit

// RefilledRecord returns how many entries a record keeps after n puts under one key.
func RefilledRecord(limit, n int) int {
	r := newRecord(limit)
	for range n {
		r.put(recordKey{}, done{taskID: "1jydacm000001"})
	}
	return len(r.done)
}
