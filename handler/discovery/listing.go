package discovery

import (
	"context"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"increment-backup-download/handler/cloud"
)

// listing is one attempt to read a list of DBS. Rows come and go while it is read, and
// pages shift. DBS is documented to count pages from 0 and has samples that count from
// 1; it then answers PageNum 0 like PageNum 1. See
// https://help.aliyun.com/zh/dms/developer-reference/api-dbs-2019-03-06-describeincrementbackuplist.
type listing[T any] struct {
	fetch   func(ctx context.Context, pageNum int) (Page[T], error)
	workers int                                       // pages to read at once if their order does not matter
	reserve func(ctx context.Context, rows int) error // waits until so many rows may be kept
	key     func(T) string
	made    func(T) int64 // in milliseconds since 1970; 0 if unknown
	keep    func(T) bool  // takes a row, one at a time, and reports whether it is new
	since   int64         // rows made before may stay unread; 0: none may

	samples  []Page[T]    // PageNum 0 and, if there are more, 1
	base     int          // PageNum of the first page: 0 or 1
	end      int          // PageNum after the last page
	elements int          // TotalElements of PageNum 0; the largest one if timeless
	cutoff   int64        // a row made then or later may not have existed when DBS answered for PageNum 0; 0 if unknown
	read     map[int]bool // by PageNum
	known    int          // different rows, without those that may not have existed
	timeless bool         // a row has no time, and so may have come while another one went
	rows     int          // repeated ones included
	sum      uint64       // of their checksums
}

// readWhole reads a list, and once more if a row may be missing, since pages may have
// shifted. If both attempts find the same rows, as many as DBS says, then the list does
// not change, and has a row twice.
func readWhole[T any](ctx context.Context, what string, attempt func() *listing[T]) error {
	first := attempt()
	if whole, err := first.run(ctx); whole || err != nil {
		return err
	}
	rows, sum := first.rows, first.sum
	select { // cutoff is in whole seconds
	case <-time.After(time.Second):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	second := attempt()
	whole, err := second.run(ctx)
	if whole || err != nil || second.rows == rows && second.sum == sum && rows == second.elements {
		return err
	}
	return &cloud.Error{Service: "DBS", Code: "IncompleteList",
		Message: fmt.Sprintf("%d of %d %s are listed, even at the second attempt", second.known, second.elements, what)}
}

// run reads the list, and reports whether it found all rows that were there all the
// time and were made since then.
func (l *listing[T]) run(ctx context.Context) (whole bool, err error) {
	if err := l.open(ctx); err != nil {
		return false, err
	}
	if l.since != 0 && len(l.samples) > 1 {
		if end, err := l.walk(ctx); err != nil || end != walkOpen {
			return end == walkDone, err
		}
	}
	err = l.rest(ctx)
	return l.known >= l.elements, err
}

// open reads PageNum 0, and 1 if there are more: pages count from 1 if that repeats 0.
func (l *listing[T]) open(ctx context.Context) error {
	first, err := l.fetch(ctx, 0)
	if err != nil {
		return err
	}
	if first.Elements < 0 || first.Elements == 0 && len(first.Rows) > 0 || first.Pages < 0 || first.Pages > max(first.Elements, 1) {
		return &cloud.Error{Service: "DBS", Code: "UnexpectedAnswer",
			Message: fmt.Sprintf("a list of %d elements in %d pages", first.Elements, first.Pages)}
	}
	l.samples, l.elements, l.read = []Page[T]{first}, first.Elements, make(map[int]bool)
	seen := make(map[string]bool)
	for _, row := range first.Rows {
		seen[l.key(row)] = true
		l.takeRow(row)
	}
	l.cutoff = milliseconds(first.Date)
	if first.Pages > 1 {
		second, err := l.fetch(ctx, 1)
		if err != nil {
			return err
		}
		repeats := 0
		for _, row := range second.Rows {
			if seen[l.key(row)] {
				repeats++
			}
		}
		if 2*repeats > len(first.Rows) {
			l.base = 1
		}
		l.samples = append(l.samples, second)
	}
	l.end = max(first.Pages, 1) + l.base
	for pageNum, got := range l.samples {
		l.take(pageNum, got)
	}
	return nil
}

// walkEnd says how a walk ended.
type walkEnd int

const (
	walkOpen walkEnd = iota // the pages that it did not read must be read as well
	walkDone                // they are older than needed
	walkVoid                // a row may have been missed
)

// minWalk is how many pages are read one after the other before their pace is judged.
const minWalk = 20

// walk reads page after page from the newest row towards the past, until the rows are
// older than needed. Rows that are made meanwhile, or deleted at the far end, shift
// pages so that rows repeat and none is missed, as long as each page is read after the
// newer one. If the walk would need more than half of the pages, or more than the time
// left, they are all read at once, unless they have too many rows.
func (l *listing[T]) walk(ctx context.Context) (walkEnd, error) {
	last, tail := l.end-1, l.samples[1]
	if last > 1 {
		var err error
		if tail, err = l.fetch(ctx, last); err != nil {
			return walkOpen, err
		}
		for _, row := range tail.Rows {
			l.takeRow(row)
		}
	}
	// Start at PageNum 1 if that is the first page: it has the rows made since PageNum 0.
	pageNum, sampled := l.base, l.samples[l.base:]
	step := l.order(append(slices.Clone(sampled), tail))
	if step < 0 {
		pageNum, sampled = last, []Page[T]{tail}
	}
	started, elements, newest, before := time.Now(), 0, int64(0), int64(math.MaxInt64)
	for ; step > 0 && pageNum < l.end || step < 0 && pageNum >= l.base; pageNum += step {
		if len(l.read) >= minWalk {
			longer := float64(newest-l.since) / float64(newest-before+1) // than so far
			deadline, bounded := ctx.Deadline()
			late := bounded && time.Since(started).Seconds()*longer > time.Until(deadline).Seconds()
			if l.elements <= maxRows && (late || 2*longer*float64(len(l.read)) > float64(l.end)) {
				return walkOpen, nil
			}
			if err := l.reserve(ctx, l.rows); err != nil {
				return walkOpen, err
			}
		}
		var got Page[T]
		var err error
		if len(sampled) > 0 {
			got, sampled = sampled[0], sampled[1:]
		} else if got, err = l.fetch(ctx, pageNum); err != nil {
			return walkOpen, err
		}
		switch {
		case step > 0 && got.Elements < elements:
			return walkVoid, nil // if a newer row was deleted, another one moved to a page that was read
		case len(got.Rows) != min(got.Elements-(pageNum-l.base)*ListPageSize, ListPageSize):
			return walkOpen, nil
		}
		elements, l.end = got.Elements, min(got.Pages, maxRows)+l.base
		far := false
		for i, row := range got.Rows {
			if step < 0 {
				row = got.Rows[len(got.Rows)-1-i]
			}
			isNew, made := l.takeRow(row), l.made(row)
			if made == 0 || isNew && made > before {
				return walkOpen, nil
			}
			newest, before, far = max(newest, made), min(before, made), far || made < l.since
		}
		if l.take(pageNum, got); far {
			return walkDone, nil
		}
	}
	return walkOpen, nil
}

// order returns 1 if the rows are ordered by when they were made with the newest first,
// -1 with the oldest first, and 0 if neither is sure.
func (l *listing[T]) order(sampled []Page[T]) int {
	var times []int64
	seen := make(map[string]bool)
	for _, got := range sampled {
		for _, row := range got.Rows {
			if key := l.key(row); !seen[key] {
				seen[key] = true
				times = append(times, l.made(row))
			}
		}
	}
	rises := slices.IsSorted(times)
	slices.Reverse(times)
	switch falls := slices.IsSorted(times); {
	case rises == falls || slices.Contains(times, 0):
		return 0
	case rises:
		return -1
	}
	return 1
}

// rest reads all pages that were not read, several at once. Without one page the others
// are of no use, so the first failure ends the reading.
func (l *listing[T]) rest(ctx context.Context) error {
	if err := l.reserve(ctx, l.elements); err != nil {
		return err
	}
	var mu sync.Mutex
	for next := 0; next < l.end; { // rows that are made meanwhile may need another page
		read, first := maps.Clone(l.read), next
		next = l.end
		pages, ctx := errgroup.WithContext(ctx)
		pages.SetLimit(l.workers)
		for pageNum := first; pageNum < next; pageNum++ {
			if read[pageNum] {
				continue
			}
			pages.Go(func() error {
				got, err := l.fetch(ctx, pageNum)
				if err == nil {
					mu.Lock()
					defer mu.Unlock()
					l.take(pageNum, got)
					l.end = max(l.end, min(got.Pages, maxRows)+l.base)
				}
				return err
			})
		}
		if err := pages.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// take keeps the rows of a page, and notes that it is read. The first page counts once,
// even if DBS gives it for two numbers.
func (l *listing[T]) take(pageNum int, got Page[T]) {
	counts := !l.read[pageNum] && pageNum >= l.base
	l.read[pageNum] = true
	for _, row := range got.Rows {
		l.takeRow(row)
		if counts {
			l.rows++
			l.sum += uint64(crc32.ChecksumIEEE([]byte(l.key(row))))
		}
	}
	if l.timeless {
		l.elements = max(l.elements, got.Elements)
	}
}

// takeRow keeps a row, and reports whether it is new.
func (l *listing[T]) takeRow(row T) bool {
	isNew, made := l.keep(row), l.made(row)
	if isNew && (l.cutoff == 0 || made < l.cutoff) {
		l.known++
	}
	l.timeless = l.timeless || made == 0
	return isNew
}

func milliseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
