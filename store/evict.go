package store

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// sampleKeys is how many keys are looked at, in as many shards as it takes, before the oldest eighth of
	// them is evicted. What is among the oldest eighth of so large a sample is so of the whole cache.
	sampleKeys = 256
	evictPart  = 8

	// In a cache of few keys they lie in many shards: then so few have to do, once listing took gatherSoft.
	sampleFew  = 64
	gatherSoft = time.Millisecond

	// sampleAll is up to how many files a shard is listed whole under its lock, which also sets right how many bytes it
	// is said to take: 1 ms of work, as looking at a file takes some microseconds. Of a larger one only the files of a
	// sample are looked at, and a survey lists it whole.
	sampleAll = 256

	// A survey looks at the clock after so many files, and after one that was in vain there is none for so long: the next
	// may be so as well, if many change the shard.
	surveyFiles = 64
	surveyRest  = 10 * time.Second

	// One call evicts for so long, or so many keys, once the bound is kept: what is beyond it is work
	// that the next calls need not do. While the bound is not kept, but nearly, it may take evictHard.
	// Where the device is told at once which blocks are free, removing a file takes a millisecond.
	evictSoft    = time.Millisecond
	evictSoftMax = 32
	evictHard    = 3 * time.Millisecond

	// evictWait is how long a request waits for another that evicts: who does may wait for lockWait itself.
	evictWait = 4 * lockWait

	// roomTries is how often one who finds no room makes some and tries again, when others take it first.
	roomTries = 3

	// sweepKeys bounds how many keys are read in one listing of a shard to find bodies that none of them names.
	sweepKeys = 100

	// leftAfter is the age in which what no entry names is taken for left behind: no body takes so long
	// from its last write to the Update that names it.
	leftAfter = time.Hour

	// orphanAfter is the age in which such a body may be evicted like an entry.
	orphanAfter = time.Minute
)

// evictor chooses what is evicted. There is no list of what the cache holds: shards are listed in turn and
// the keys not used for longest are taken from them.
type evictor struct {
	mu     shardLock // held by who evicts
	cursor int       // the shard to list next
	pool   []*keyFiles
	survey survey

	turns     atomic.Uint64 // counts the rounds of evicting
	gathering time.Duration // what the last call has spent on listing
}

func (e *evictor) init() {
	e.mu = make(shardLock, 1)
	e.cursor = rand.IntN(shardCount) // so that short-lived processes do not all begin with the same
}

// keyFiles are the files of a key.
type keyFiles struct {
	key   string
	shard int
	heads bool  // there is a file of the key itself
	used  int64 // when it was used last, in nanoseconds since 1970
	size  int64 // of it, as allocated
	blobs []fileInfo
}

type fileInfo struct {
	name  string
	size  int64 // as allocated
	mtime int64
}

// total returns how many bytes evicting the key sets free.
func (k *keyFiles) total() int64 {
	n := k.size
	for _, b := range k.blobs {
		n += b.size
	}
	return n
}

// shardList is what was found in a shard.
type shardList struct {
	bytes int64
	keys  []*keyFiles
	other []fileInfo // drafts, and what has no name of this package's making
}

// listShard lists a shard. What it finds is exact if the shard's lock is held.
func (d *Disk) listShard(shard int) (*shardList, error) {
	names, err := d.shardNames(shard)
	if err != nil {
		return nil, opError("list", err)
	}
	slices.Sort(names)
	return d.listFiles(shard, names)
}

// listFiles lists some files of a shard. Their names are sorted, so that a key comes right before its bodies.
func (d *Disk) listFiles(shard int, names []string) (*shardList, error) {
	list := &shardList{}
	if len(names) == 0 {
		return list, nil
	}
	dir, err := d.openAnew(shard) // what is kept open may be another by now than that whose names these are
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.As(err, new(noDirError)):
		return list, nil
	case err != nil:
		return nil, opError("list", err)
	}
	defer dir.release()
	var st fileStat
	for _, name := range names {
		switch err := dir.stat(name, &st); {
		case err == nil && st.regular:
			list.add(shard, name, &st)
		case errors.Is(err, fs.ErrPermission): // all that is there is unknown
			return nil, opError("list", err)
		}
	}
	return list, nil
}

// sampleShard returns some keys of a shard, chosen at random, with their files; of a small shard all.
func (d *Disk) sampleShard(ctx context.Context, shard int) (*shardList, error) {
	names, err := d.shardNames(shard)
	if err != nil {
		return nil, opError("list", err)
	}
	if len(names) <= sampleAll {
		return d.scan(ctx, shard)
	}
	// A window of the digits that follow those of the shard: a key comes with its bodies, and without sorting them all.
	window, from := max(1, 256*sampleKeys/len(names)), rand.IntN(256)
	names = slices.DeleteFunc(names, func(name string) bool {
		return len(name) < keyLen || !isHex(name[:keyLen]) || (shardOf(name[2:])-from+256)%256 >= window
	})
	slices.Sort(names)
	return d.listFiles(shard, names)
}

// add takes a file into the list; that of a key before its bodies.
func (list *shardList) add(shard int, name string, st *fileStat) {
	size := allocated(st.size)
	list.bytes += size
	key, id, isBlob := strings.Cut(name, "-")
	if len(key) != keyLen || !isHex(key) || shardOf(key) != shard || isBlob && (len(id) != 2*blobIDLen || !isHex(id)) {
		list.other = append(list.other, fileInfo{name, size, st.mtime})
		return
	}
	if n := len(list.keys); n == 0 || list.keys[n-1].key != key {
		list.keys = append(list.keys, &keyFiles{key: key, shard: shard})
	}
	k := list.keys[len(list.keys)-1]
	if isBlob {
		k.blobs = append(k.blobs, fileInfo{name, size, st.mtime})
	} else {
		k.heads, k.used, k.size = true, st.atime, size
	}
}

// scan lists a shard, sets its slot right, and removes what was left behind in it if that is due.
func (d *Disk) scan(ctx context.Context, shard int) (*shardList, error) {
	l, err := d.lock(ctx, shard, lockWait)
	if err != nil {
		return nil, err
	}
	defer l.unlock()
	list, err := d.listShard(shard)
	if err != nil {
		return nil, err
	}
	var page usagePage
	if err := d.readUsage(&page); err != nil {
		return nil, err
	}
	now := time.Now()
	l.sweepDrafts(list)
	s := page.slot(shard)
	due := !s.known || page.dueShard(shard, now)
	if due {
		l.sweep(list, d.fileNow(), sweepKeys)
		s.listed = uint32(now.Unix() / 60)
	}
	if !due && s.bytes == list.bytes {
		return list, nil
	}
	s.bytes = list.bytes
	return list, l.setSlot(s, &page)
}

// sweepDrafts removes the drafts of processes that were killed.
func (l *locked) sweepDrafts(list *shardList) {
	dir := l.d.shardDir(l.shard)
	list.other = slices.DeleteFunc(list.other, func(f fileInfo) bool {
		path := filepath.Join(dir, f.name)
		if !strings.HasSuffix(f.name, tempSuffix) || !abandoned(path) || os.Remove(path) != nil {
			return false
		}
		list.bytes -= f.size
		return true
	})
}

// sweep removes what was left behind in the locked shard: bodies that no entry names, drafts where it
// cannot be known whether their process lives, and files that do not belong there. It reads so many keys as budget says
// to find bodies, and returns what is left of it.
func (l *locked) sweep(list *shardList, now int64, budget int) int {
	d := l.d
	old := func(f fileInfo) bool { return isOld(now, f.mtime, leftAfter) }
	remove := func(dir string, f fileInfo) {
		if old(f) && os.Remove(filepath.Join(dir, f.name)) == nil {
			list.bytes -= f.size
		}
	}
	dir := d.shardDir(l.shard)
	for _, f := range list.other {
		remove(dir, f)
	}
	start := rand.IntN(len(list.keys) + 1) // so that all are looked at in time
	for i := range list.keys {
		k := list.keys[(start+i)%len(list.keys)]
		if !slices.ContainsFunc(k.blobs, old) {
			continue
		}
		if budget == 0 {
			break
		}
		budget--
		var named map[string]bool
		if k.heads {
			st, _, err := d.load(k.key)
			if err != nil {
				continue
			}
			named = fileBlobs(st.entries)
		}
		k.blobs = slices.DeleteFunc(k.blobs, func(f fileInfo) bool {
			if named[f.name[keyLen+1:]] || !old(f) {
				return false
			}
			remove(dir, f)
			return true
		})
	}
	return budget
}

// survey is the listing of a shard of many files, which is done in parts by as many calls and without the shard's lock.
// It finds what was left behind there, and how many bytes the shard takes if that did not change meanwhile. Short-lived
// processes only do parts of it: so what many of them have left behind goes, but where there are so many files what the
// shard is said to take stays as much too large as killed ones left it, until a process lives for longer.
type survey struct {
	shard  int
	names  []string // of files not looked at yet
	bytes  int64    // of the others
	budget int      // how many more keys may be read to find bodies that none of them names

	// What the shard was like when it began.
	slot slot
	dir  fileStat
	seen int64 // when that was

	inexact bool      // there was what changes without the directory doing so, or something was removed
	rest    time.Time // until when none begins
}

// inspect begins the survey of a shard; a shard of few files it scans.
func (d *Disk) inspect(ctx context.Context, shard int) error {
	var page usagePage
	s := &survey{shard: shard, budget: sweepKeys, seen: d.fileNow()}
	err := d.inShard(ctx, shard, &page, func(*locked) error {
		s.slot = page.slot(shard)
		return statFile(d.shardDir(shard), &s.dir)
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	names, err := d.shardNames(shard)
	if err != nil {
		return opError("list", err)
	}
	if len(names) <= sampleAll {
		_, err := d.scan(ctx, shard)
		return err
	}
	slices.Sort(names)
	// A process that ends before its survey does began somewhere else than the next.
	i := keyEnd(names, 1+rand.IntN(len(names)))
	s.names = slices.Concat(names[i:], names[:i])
	d.evictor.survey = *s
	return nil
}

// inShard calls f with a shard locked and what the usage file says then.
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

// keyEnd returns where the files of the key end of which names[i-1] is one.
func keyEnd(names []string, i int) int {
	for i < len(names) && len(names[i-1]) >= keyLen && strings.HasPrefix(names[i], names[i-1][:keyLen]) {
		i++
	}
	return i
}

// surveyOn goes on with the survey for gatherSoft. When it ends, what the shard is said to take is set right, unless it
// was changed since it began.
func (d *Disk) surveyOn(ctx context.Context) (err error) {
	s := &d.evictor.survey
	defer func() {
		if err != nil {
			*s = survey{rest: time.Now().Add(surveyRest)}
		}
	}()
	now := d.fileNow()
	for start := time.Now(); len(s.names) > 0; {
		if time.Since(start) > gatherSoft {
			return nil
		}
		n := keyEnd(s.names, min(surveyFiles, len(s.names)))
		list, err := d.listFiles(s.shard, s.names[:n])
		if err != nil {
			return err
		}
		s.names = s.names[n:]
		s.bytes += list.bytes
		if err := d.sweepPart(ctx, s, list, now); err != nil {
			return err
		}
	}
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
			*s = survey{}
		}
		return err
	})
}

var errChanged = errors.New("the shard was changed while it was listed")

// sweepPart removes what was left behind of the listed files of a shard that is surveyed. It takes the shard's lock only
// if there may be such.
func (d *Disk) sweepPart(ctx context.Context, s *survey, list *shardList, now int64) error {
	aged := s.budget > 0 && slices.ContainsFunc(list.keys, func(k *keyFiles) bool {
		return slices.ContainsFunc(k.blobs, func(f fileInfo) bool { return isOld(now, f.mtime, leftAfter) })
	})
	if len(list.other) == 0 && !aged {
		return nil
	}
	var page usagePage
	return d.inShard(ctx, s.shard, &page, func(l *locked) error {
		before := list.bytes
		l.sweepDrafts(list)
		s.budget = l.sweep(list, now, s.budget)
		// A draft grows and shrinks without its directory changing.
		s.inexact = s.inexact || list.bytes < before || slices.ContainsFunc(list.other, func(f fileInfo) bool { return strings.HasSuffix(f.name, tempSuffix) })
		if list.bytes == before {
			return nil
		}
		_, err := l.account(list.bytes-before, &page)
		return err
	})
}

// sweepTemps removes old temporary files of what is not in a shard, which lie in a directory of their own and are not
// counted: a file of a few kilobytes that is there for some microseconds.
func (d *Disk) sweepTemps(now int64) {
	names, err := readNames(d.tmp)
	if err != nil || checkDirs(d.root, d.tmp) != nil {
		return
	}
	var st fileStat
	for _, name := range names[:min(len(names), 4*sweepKeys)] {
		path := filepath.Join(d.tmp, name)
		if statFile(path, &st) == nil && st.regular && isOld(now, st.mtime, leftAfter) {
			os.Remove(path)
		}
	}
}

// housekeep does what is to be done after the cache grew to sum bytes: eviction if it is over its bound,
// and the listing of at most one shard for which that is due, or of a part of it.
func (d *Disk) housekeep(ctx context.Context, sum int64, page *usagePage) {
	now := time.Now()
	if sum > d.max {
		d.makeRoom(ctx, sum, 0)
		if time.Since(now) > evictHard {
			return // and the next call may list
		}
	}
	shard := page.due(rand.IntN(shardCount), now)
	if shard < 0 {
		return
	}
	select {
	case d.evictor.mu <- struct{}{}:
	default:
		return // somebody is at it
	}
	e := &d.evictor
	defer func() { <-e.mu }()
	var err error
	switch {
	case len(e.survey.names) > 0:
		shard = e.survey.shard
		err = d.surveyOn(ctx)
	case now.After(e.survey.rest):
		err = d.inspect(ctx, shard)
	default:
		return
	}
	if err != nil {
		d.log.Debug("cachetrip: store: shard not listed", "shard", shardName(shard), "error", err)
	}
	if len(e.survey.names) > 0 {
		return // it goes on with the next call
	}
	fileNow := d.fileNow()
	d.sweepTemps(fileNow)
	d.sweepVersions(fileNow)
}

// near is how many bytes a cache may take for a moment: it leaves some of the 10 % over the bound to those
// who write at the same moment.
func (d *Disk) near() int64 { return d.max + d.max/32 }

// wait waits for the evictor's lock, while whoever holds it goes on.
func (e *evictor) wait(ctx context.Context) error {
	seen, idle := e.turns.Load(), 0
	for {
		timer := time.NewTimer(evictWait / idleTwice)
		select {
		case e.mu <- struct{}{}:
			timer.Stop()
			return nil
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		if now := e.turns.Load(); now != seen {
			seen, idle = now, 0
		} else if idle++; idle == idleTwice {
			return errLocked
		}
	}
}

// grant makes room for one who found none. The error is why that is not possible: ErrTooLarge if there is nothing to evict.
func (d *Disk) grant(ctx context.Context, full *fullError, r *room) error {
	if full.unknown {
		paid, err := d.learn(ctx, full.delta)
		r.paid = paid
		return err
	}
	ok, err := d.makeRoom(ctx, full.sum, full.delta)
	if !ok && err == nil {
		err = ErrTooLarge
	}
	return err
}

// learn lists shards of which it is not known what they take, and evicts what was not used for longest in each until need
// bytes are set free, for as many are to be added. From a shard that takes but half of what it would in a full cache
// nothing is evicted: some take more if the cache is full, and if it is not, all are listed. It returns how many bytes were
// set free: more than can be needed if all shards are known then, or cannot be.
func (d *Disk) learn(ctx context.Context, need int64) (paid int64, err error) {
	e := &d.evictor
	if err := e.wait(ctx); err != nil {
		return 0, opError("evict", err)
	}
	defer func() { <-e.mu }()
	start := time.Now()
	now := d.fileNow()
	var page usagePage
	for range shardCount {
		e.turns.Add(1)
		shard := e.cursor
		e.cursor = (e.cursor + 1) % shardCount
		if err := d.readUsage(&page); err != nil {
			return paid, err
		}
		if page.slot(shard).known {
			continue
		}
		if paid >= need && time.Since(start) > gatherSoft {
			return paid, ctx.Err()
		}
		list, err := d.scan(ctx, shard)
		if ctx.Err() != nil {
			return paid, ctx.Err()
		}
		over := int64(0)
		if err == nil {
			over = list.bytes - d.max/shardCount/2
		}
		if over <= 0 || paid >= need {
			continue
		}
		keys := oldest(list.evictable(now), 2)
		if len(keys) == 0 {
			continue
		}
		_, err = d.evictShard(ctx, shard, keys, 0, func(freed, _ int64) bool {
			d.evictions.Add(1)
			paid += freed
			over -= freed
			return paid >= need || over <= 0
		})
		if err != nil {
			d.log.Debug("cachetrip: store: eviction failed", "error", err)
		}
	}
	return math.MaxInt64, nil
}

// evictable returns the keys of the list that may be evicted: bodies that nothing names yet may not for a while.
func (list *shardList) evictable(now int64) []*keyFiles {
	return slices.DeleteFunc(list.keys, func(k *keyFiles) bool {
		if k.heads {
			return false
		}
		for _, b := range k.blobs {
			k.used = max(k.used, b.mtime)
		}
		return !isOld(now, k.used, orphanAfter)
	})
}

// oldest returns one part of keys, which it sorts: those not used for longest, in that order.
func oldest(keys []*keyFiles, part int) []*keyFiles {
	if len(keys) == 0 {
		return nil
	}
	// What was used in the future was so by a clock that was since set back, and not since then.
	future := time.Now().Add(time.Minute).UnixNano()
	slices.SortFunc(keys, func(a, b *keyFiles) int {
		if fa, fb := a.used > future, b.used > future; fa != fb {
			if fa {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.used, b.used), strings.Compare(a.key, b.key))
	})
	return keys[:max(1, len(keys)/part)]
}

// makeRoom evicts until the cache, which now takes sum bytes, is within its bound with extra bytes added,
// and a little more so that the next calls need not, but for no longer than a request can wait. It reports
// whether the cache is within its bound then, or near it, and what kept it from being so if it was not just that there
// is nothing to evict.
func (d *Disk) makeRoom(ctx context.Context, sum, extra int64) (bool, error) {
	near := d.near() - extra
	full := d.max - extra
	e := &d.evictor
	select {
	case e.mu <- struct{}{}:
	default:
		if sum <= near {
			return true, nil // somebody is at it
		}
		if err := e.wait(ctx); err != nil {
			return false, opError("evict", err)
		}
	}
	defer func() { <-e.mu }()
	low := full - d.max/64
	start := time.Now()
	e.gathering = 0
	n, err := d.evictUntil(ctx, low, func(sum int64, n int) bool {
		// Having listed keys, one should also evict some: a process that ends forgets what it has listed, and else
		// the next that stores would have to list again.
		took := time.Since(start)
		some := n >= evictSoftMax || took-e.gathering > evictSoft
		return sum <= full && some || sum <= near && took > evictHard && (some || took > 4*evictHard)
	})
	if err != nil {
		d.log.Debug("cachetrip: store: eviction failed", "error", err)
	}
	if n <= near {
		err = nil
	}
	return n <= near, err
}

// evictUntil evicts until the cache takes no more than low bytes, enough says so, or there is nothing more to evict.
// It returns how many bytes the cache takes then, and what kept it from evicting in some shards, if any: it goes on with
// the others. The evictor's lock is held.
func (d *Disk) evictUntil(ctx context.Context, low int64, enough func(sum int64, n int) bool) (sum int64, err error) {
	e := &d.evictor
	var page usagePage
	var n int
	var oldest int64
	var failed error
	defer func() {
		if err == nil {
			err = failed
		}
		if oldest > 0 {
			d.setResidence(time.Duration(time.Now().UnixNano() - oldest))
		}
	}()
	listed := 0 // shards since something was evicted
	for {
		e.turns.Add(1)
		if err := d.readUsage(&page); err != nil {
			return 0, err
		}
		sum = page.sum()
		if sum <= low || enough(sum, n) || ctx.Err() != nil {
			return sum, ctx.Err()
		}
		if len(e.pool) == 0 {
			if listed >= shardCount {
				return sum, nil
			}
			m, err := d.gather(ctx, &page)
			failed = cmp.Or(failed, err)
			listed += m
			continue // listing has set the sum right
		}
		batch := e.pool[:0:0]
		for need := sum - low; need > 0 && len(e.pool) > 0 && len(batch) < 32; {
			// Of what is among the oldest, a large body does not go for a few kilobytes as long as others do for them.
			i := max(0, slices.IndexFunc(e.pool, func(k *keyFiles) bool { return k.total() <= need+d.max/64 }))
			k := e.pool[i]
			e.pool = slices.Delete(e.pool, i, i+1)
			need -= k.total()
			batch = append(batch, k)
		}
		evicted, used, rest, err := d.evict(ctx, batch, low, func(freed int64, m int) bool { return enough(sum-freed, n+m) })
		e.pool = append(rest, e.pool...)
		failed = cmp.Or(failed, err)
		if evicted > 0 {
			listed = 0
			oldest = used
		}
		n += evicted
	}
}

// gather lists the next shards and puts the oldest of their keys into the pool, oldest first. It returns how
// many shards it went past, and the first error of those that could not be listed.
func (d *Disk) gather(ctx context.Context, page *usagePage) (listed int, err error) {
	e := &d.evictor
	start := time.Now()
	defer func() { e.gathering += time.Since(start) }()
	now := d.fileNow()
	var keys []*keyFiles
	for ; listed < shardCount && len(keys) < sampleKeys; listed++ {
		if len(keys) >= sampleFew && time.Since(start) > gatherSoft {
			break
		}
		shard := e.cursor
		e.cursor = (e.cursor + 1) % shardCount
		if s := page.slot(shard); s.known && s.bytes == 0 {
			continue
		}
		list, failed := d.sampleShard(ctx, shard)
		if failed != nil {
			if ctx.Err() != nil {
				return listed, failed
			}
			err = cmp.Or(err, failed)
			continue
		}
		keys = append(keys, list.evictable(now)...)
	}
	e.pool = d.victims(keys)
	return listed, err
}

// evict removes keys, unless they were used since they were listed, until the cache takes no more than low bytes, which
// others may see to at the same moment, or enough says that it is, with the bytes that were set free and the keys that
// were removed so far. It returns how many it removed, the use time of the last of them, and the keys that it did not
// come to. Those that it failed at are not among them.
func (d *Disk) evict(ctx context.Context, batch []*keyFiles, low int64, enough func(freed int64, n int) bool) (n int, used int64, rest []*keyFiles, err error) {
	var freed int64
	for stop := false; len(batch) > 0 && !stop && ctx.Err() == nil; {
		shard := batch[0].shard
		var here []*keyFiles
		batch = slices.DeleteFunc(batch, func(k *keyFiles) bool {
			if k.shard == shard {
				here = append(here, k)
			}
			return k.shard == shard
		})
		left, failed := d.evictShard(ctx, shard, here, low, func(f, at int64) bool {
			freed += f
			used = at
			n++
			stop = enough(freed, n)
			return stop
		})
		err = cmp.Or(err, failed)
		batch = append(left, batch...)
		stop = stop || len(left) > 0
	}
	d.evictions.Add(uint64(n))
	return n, used, batch, err
}

// evictShard removes keys of a shard until the cache takes no more than low bytes or evicted, which it calls after each with the bytes that were set free and
// the key's use time, returns true. It returns the keys after that.
func (d *Disk) evictShard(ctx context.Context, shard int, keys []*keyFiles, low int64, evicted func(freed, used int64) bool) (rest []*keyFiles, err error) {
	l, err := d.lock(ctx, shard, lockWait)
	if err != nil {
		return nil, err
	}
	defer l.unlock()
	var page usagePage
	if err := d.readUsage(&page); err != nil {
		return nil, err
	}
	sum := page.sum()
	var freed int64
	var failed error
	for i, k := range keys {
		if sum-freed <= low {
			rest = keys[i:]
			break
		}
		var st fileStat
		err := l.dir.stat(k.key, &st)
		if k.heads && (err != nil || st.atime != k.used) || !k.heads && !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err = l.remove(k.key); err != nil {
			failed = err
			break
		}
		d.tier.remove(k.key)
		d.shares.set(k.key, nil)
		n := allocated(st.size)
		for _, b := range k.blobs {
			if l.dir.remove(b.name) == nil {
				n += b.size
			}
		}
		freed += n
		if evicted(n, k.used) {
			rest = keys[i+1:]
			break
		}
	}
	if freed > 0 {
		if _, err := l.account(-freed, &page); failed == nil {
			failed = err
		}
	}
	return rest, opError("evict", failed)
}

// sweepVersions removes some of what other versions of the format left in the cache directory and nobody
// has touched for a while. A directory is only taken for one of those if it has a usage file as ours.
func (d *Disk) sweepVersions(now int64) {
	names, err := readNames(d.dir)
	if err != nil {
		return
	}
	budget := 64 // files: some 0.4 ms
	for _, name := range names {
		if name == version || len(name) < 2 || name[0] != 'v' || strings.Trim(name[1:], "0123456789") != "" {
			continue
		}
		root := filepath.Join(d.dir, name)
		if !isCacheVersion(root) {
			continue
		}
		if d.sweepTree(root, now, &budget) {
			os.Remove(filepath.Join(root, "usage"))
			os.Remove(root)
		}
	}
}

// isCacheVersion reports whether root has a usage file of this package, in whatever version.
func isCacheVersion(root string) bool {
	fi, err := os.Lstat(root)
	if err != nil || !fi.IsDir() {
		return false
	}
	f, err := os.OpenFile(filepath.Join(root, "usage"), os.O_RDONLY|nofollow, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [len(usageMagic)]byte
	_, err = f.ReadAt(magic[:], 0)
	return err == nil && string(magic[:]) == usageMagic
}

// sweepTree removes old files below dir, but for a file "usage" in it, until the budget is spent, and reports
// whether nothing is left.
func (d *Disk) sweepTree(dir string, now int64, budget *int) bool {
	names, err := readNames(dir)
	if err != nil {
		return false
	}
	empty := true
	for _, name := range names {
		path := filepath.Join(dir, name)
		fi, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil || *budget <= 0:
			return false
		case fi.IsDir():
			if !d.sweepTree(path, now, budget) || os.Remove(path) != nil {
				empty = false
			}
			continue
		case name == "usage":
			continue
		}
		var st fileStat
		if statFile(path, &st) != nil || !isOld(now, max(st.mtime, st.atime), leftAfter) {
			empty = false
			continue
		}
		*budget--
		if os.Remove(path) != nil {
			empty = false
		}
	}
	return empty
}
