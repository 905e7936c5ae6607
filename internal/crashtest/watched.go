package main

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cachetrip/cachetrip/store"
)

// This file is the store of a worker: a Disk that reports changes and kills the
// process in the middle of some.

// die has the process kill itself at a random moment within the next steps of
// the store.
func die(r *rand.Rand) {
	wait := time.Duration(r.ExpFloat64() * float64(60*time.Microsecond))
	go func() {
		for end := time.Now().Add(wait); time.Now().Before(end); {
		}
		if p, err := os.FindProcess(os.Getpid()); err == nil {
			p.Kill()
		}
	}()
}

// watched is a Disk that reports all lookups and changes.
type watched struct {
	*store.Disk
	w *worker

	mu   sync.Mutex
	rand *rand.Rand
}

func (s *watched) dies() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rand.Float64() < s.w.Suicides
}

func (s *watched) dieSoon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	die(s.rand)
}

// lookedUp is what a request found in the store. The request's context carries
// it.
type lookedUp struct {
	mu      sync.Mutex
	entries []*store.Entry
	newest  map[string]int // the newest version of each variant that this request found
}

type lookedUpKey struct{}

// of returns the newest version that was found of the variant of r, and whether
// r itself was found and not invalidated.
func (l *lookedUp) of(r representation) (newest int, held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held = slices.ContainsFunc(l.entries, func(e *store.Entry) bool {
		return e.InvalidatedAt.IsZero() && e.Header.Get(versionField) == r.String()
	})
	return l.newest[r.variant], held
}

func (s *watched) Entries(ctx context.Context, key string) ([]*store.Entry, error) {
	begun := time.Now().UnixNano()
	entries, err := s.Disk.Entries(ctx, key)
	if err != nil {
		s.w.failed("entries", err)
		return entries, err
	}
	s.w.tell(event{Kind: eventReading, Key: key, Begun: begun, Ended: time.Now().UnixNano(), After: stateOf(entries)})
	if found, ok := ctx.Value(lookedUpKey{}).(*lookedUp); ok {
		found.mu.Lock()
		defer found.mu.Unlock()
		found.entries = entries
		for _, e := range entries {
			if r, err := parseRepresentation(e.Header.Get(versionField)); err == nil {
				found.newest[r.variant] = max(found.newest[r.variant], r.version)
			}
		}
	}
	return entries, nil
}

func (s *watched) Update(ctx context.Context, key string, fn func([]*store.Entry) []*store.Entry) error {
	id := s.w.ids.Add(1)
	writes := false
	err := s.Disk.Update(ctx, key, func(current []*store.Entry) []*store.Entry {
		before := stateOf(current)
		now := time.Now().UnixNano()
		next := fn(current)
		if len(next) == len(current) && (len(next) == 0 || &next[0] == &current[0]) {
			writes = false
			s.w.tell(event{Kind: eventReading, Key: key, Begun: now, Ended: now, After: before})
			return next
		}
		s.w.checkChange(current, next)
		writes = true
		s.w.tell(event{Kind: eventChange, ID: id, Key: key, Begun: now, Before: before, After: stateOf(next), Fresh: freshens(current, next)})
		if s.dies() {
			s.dieSoon()
		}
		return next
	})
	switch {
	case err != nil:
		if store.CauseOf(err) == store.CauseLocked {
			s.w.tell(event{Kind: eventDropped, Key: key})
		}
		s.w.failed("update", err)
	case writes:
		s.w.tell(event{Kind: eventDone, ID: id, Key: key, Ended: time.Now().UnixNano()})
	}
	return err
}

func (s *watched) Open(ctx context.Context, key string, blob store.Blob) (store.Body, error) {
	b, err := s.Disk.Open(ctx, key, blob)
	if err != nil {
		s.w.failed("open", err)
	}
	return b, err
}

func (s *watched) Create(ctx context.Context, key string, size int64) (store.Draft, error) {
	d, err := s.Disk.Create(ctx, key, size)
	if err != nil {
		s.w.failed("create", err)
		return nil, err
	}
	return &watchedDraft{d, s}, nil
}

type watchedDraft struct {
	store.Draft
	s *watched
}

func (d *watchedDraft) Write(p []byte) (int, error) {
	if len(p) > 16<<10 && d.s.dies() {
		d.s.dieSoon()
	}
	n, err := d.Draft.Write(p)
	if err != nil {
		d.s.w.failed("write", err)
	}
	return n, err
}

func (d *watchedDraft) Commit() (store.Blob, error) {
	if d.s.dies() {
		d.s.dieSoon()
	}
	b, err := d.Draft.Commit()
	if err != nil {
		d.s.w.failed("commit", err)
	}
	return b, err
}

// freshens reports whether a change of the store only freshens what is stored.
func freshens(current, next []*store.Entry) bool {
	return len(next) == len(current) && !slices.ContainsFunc(next, func(e *store.Entry) bool {
		return e == nil || !slices.ContainsFunc(current, func(old *store.Entry) bool {
			return e == old || e.Status == old.Status && len(e.Parts) > 0 && slices.EqualFunc(e.Parts, old.Parts, samePart) &&
				(e.InvalidatedAt.IsZero() || e.InvalidatedAt.Equal(old.InvalidatedAt))
		})
	})
}

func samePart(a, b store.Part) bool {
	return a.Offset == b.Offset && a.Length == b.Length && a.Skip == b.Skip && a.Blob.ID == b.Blob.ID
}

// checkChange checks that a change neither replaces a newer response by an
// older one, nor makes an invalidated response usable without asking the
// origin.
func (w *worker) checkChange(current, next []*store.Entry) {
	for _, e := range next {
		if e == nil || !e.InvalidatedAt.IsZero() {
			continue // it must be validated before use
		}
		r, err := parseRepresentation(e.Header.Get(versionField))
		if err != nil {
			w.violation("an entry is stored for %s whose header is not the origin's: %v", e.URL, err)
			continue
		}
		if e.Header.Get("ETag") != r.etag() {
			w.violation("an entry is stored for %s that has the tag %s with the content of %v", e.URL, e.Header.Get("ETag"), r)
		}
		for _, old := range current {
			was, err := parseRepresentation(old.Header.Get(versionField))
			if old == e || err != nil || was.variant != r.variant {
				continue
			}
			if was.version > r.version {
				w.violation("%v is stored in the place of %v, and would be used", r, was)
			}
			if was.version == r.version && !old.InvalidatedAt.IsZero() && e.RequestTime.Before(old.InvalidatedAt) {
				w.violation("%v was invalidated at %v, and is to be used again by the answer to a request of %v", r, old.InvalidatedAt, e.RequestTime)
			}
		}
	}
}
