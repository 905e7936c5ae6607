package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	// surveyFiles is how many files a survey lists between two looks at the clock.
	surveyFiles = 64

	// surveyRest is how long no survey begins after one that failed: if many
	// callers change the shard, the next survey may fail as well.
	surveyRest = 10 * time.Second
)

// survey is the listing of a shard with many files. Many calls each do a part
// of it, without the shard's lock. It removes the shard's leftovers. When it
// ends, it corrects the size of the shard in the usage file, unless the shard
// was changed meanwhile.
//
// Short-lived processes do only parts of a survey. Together they remove
// leftovers. But the recorded size still counts the leftovers of killed
// processes, until a process lives long enough for a whole survey.
type survey struct {
	shard  int
	from   *os.File // the directory; nil if no survey is under way
	early  bool     // it goes from a random place to the end, before it counts from the beginning
	bytes  int64    // of the files that were listed
	budget int      // how many more keys may be read to find bodies that no entry names

	// The state of the shard when the survey began.
	slot slot
	dir  fileStat
	seen int64 // when that was

	inexact bool      // there were drafts, which grow unseen, or files were removed
	rest    time.Time // no survey begins before
}

// errChanged reports that a survey cannot tell the size of its shard.
var errChanged = errors.New("the shard was changed while it was listed")

// beginSurvey begins the survey of a shard. A shard of few files it scans
// instead.
func (d *Disk) beginSurvey(ctx context.Context, shard int) error {
	var page usagePage
	s := survey{shard: shard, budget: sweepKeys, seen: d.fileNow()}
	err := d.inShard(ctx, shard, &page, func(l *locked) error {
		s.slot = page.slot(shard)
		if err := l.settle(); err != nil {
			return err
		}
		return statFile(d.shardDir(shard), &s.dir)
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.openNames(shard)
	if err != nil {
		return opError("list", err)
	}
	if f == nil {
		_, err := d.scan(ctx, shard)
		return err
	}
	names, err := f.Readdirnames(sampleAll + 1)
	if err != nil && err != io.EOF {
		f.Close()
		return opError("list", err)
	}
	if len(names) <= sampleAll {
		f.Close()
		_, err := d.scan(ctx, shard)
		return err
	}
	s.from = f
	s.skip(names)
	d.evictor.survey = s
	return nil
}

// skip begins the survey at a random place of the directory, whose first names
// are given. So a survey that is cut short does not repeat the part of the one
// before it.
func (s *survey) skip(first []string) {
	s.early = true
	at, err := s.from.Seek(0, io.SeekCurrent)
	if err == nil {
		place := float64(at) / float64(len(first)) * float64(s.slot.bytes/4096) * rand.Float64()
		if place < math.MaxInt64 {
			_, err = s.from.Seek(int64(place), io.SeekStart)
		}
	}
	if err != nil {
		s.rewind()
	}
}

// rewind goes on at the beginning of the directory, and counts from there.
func (s *survey) rewind() error {
	s.early, s.bytes = false, 0
	_, err := s.from.Seek(0, io.SeekStart)
	return err
}

// giveUp ends the survey. No other one begins before rest is over.
func (s *survey) giveUp(rest time.Duration) {
	if s.from != nil {
		s.from.Close()
	}
	*s = survey{}
	if rest > 0 {
		s.rest = time.Now().Add(rest)
	}
}

// inShard calls f with a shard locked and page filled from the usage file.
func (d *Disk) inShard(ctx context.Context, shard int, page *usagePage, f func(*locked) error) error {
	l, err := d.lock(ctx, shard, lockWait)
	if err != nil {
		return err
	}
	defer l.unlock()
	if err := d.readUsage(page); err != nil {
		return err
	}
	return f(l)
}

// continueSurvey lists more files of the survey's shard, for listSoft, and ends
// the survey after the last one. After an error the survey is given up.
func (d *Disk) continueSurvey(ctx context.Context) (err error) {
	s := &d.evictor.survey
	defer func() {
		if err != nil {
			s.giveUp(surveyRest)
		}
	}()
	now := d.fileNow()
	for start := time.Now(); time.Since(start) <= listSoft; {
		names, err := s.from.Readdirnames(surveyFiles)
		switch {
		case len(names) > 0:
		case err != io.EOF:
			return err
		case s.early:
			if err := s.rewind(); err != nil {
				return err
			}
			continue
		default:
			return d.endSurvey(ctx, s)
		}
		list, err := d.listPart(s.shard, names)
		if err != nil {
			return err
		}
		s.bytes += list.bytes
		if err := d.sweepPart(ctx, s, list, now); err != nil {
			return err
		}
	}
	return nil
}

// endSurvey records the size of the shard, if it did not change since the
// survey began.
func (d *Disk) endSurvey(ctx context.Context, s *survey) error {
	var page usagePage
	return d.inShard(ctx, s.shard, &page, func(l *locked) error {
		var dir fileStat
		if err := statFile(d.shardDir(s.shard), &dir); err != nil {
			return err
		}
		same := page.slot(s.shard) == s.slot && dir.ino == s.dir.ino && dir.mtime == s.dir.mtime
		if s.inexact || !same || s.seen-s.dir.mtime <= int64(settle(s.dir.mtime)) { // see fileStat.unchanged
			return errChanged
		}
		err := l.setSlot(slot{bytes: s.bytes, listed: uint32(time.Now().Unix() / 60)}, &page)
		if err == nil {
			s.giveUp(0)
		}
		return err
	})
}

// sweepPart removes the leftovers among the listed files of a survey. It takes
// the shard's lock only if there may be leftovers.
func (d *Disk) sweepPart(ctx context.Context, s *survey, list *shardList, now int64) error {
	aged := s.budget > 0 && slices.ContainsFunc(list.keys, func(k *keyFiles) bool { return hasLeftover(k.blobs, now) })
	if len(list.other) == 0 && !aged {
		return nil
	}
	var page usagePage
	return d.inShard(ctx, s.shard, &page, func(l *locked) error {
		before := list.bytes
		l.sweepDrafts(list)
		s.budget = l.sweep(list, now, s.budget)
		// A draft grows and shrinks without a change of its directory.
		drafts := slices.ContainsFunc(list.other, func(f fileInfo) bool { return strings.HasSuffix(f.name, tempSuffix) })
		s.inexact = s.inexact || list.bytes < before || drafts
		if list.bytes == before {
			return nil
		}
		_, err := l.account(list.bytes-before, &page)
		return err
	})
}
