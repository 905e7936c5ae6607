package store

import (
	"encoding/binary"
	"io"
	"os"
	"slices"
	"time"
)

// The growth of a shard is by how much its files have grown since its slot in
// the usage file was written. It is a word of the mapped file of counters, so
// noting it takes no system call and no lock. The size of a shard is its slot
// and its growth together.
//
// A listing of a shard writes the slot anew. Before that, the growth is moved
// to the slot.
//
// A word carries a check. If it fails, the size of the shard is unknown, as if
// its slot were damaged. So it does if the file of counters was lost: a flag in
// the usage file tells that there was one, and the words of the next one are
// random. A process that cannot map the file reads and settles the words, and
// notes growth in the slots.

const (
	growthSize = 4096 // bytes: a page of its own, of which the words take half

	// growthFlagAt is where the usage file has growthFlag once words of growth
	// were used.
	growthFlagAt = 56
	growthFlag   = 0x68746f7267727463

	block = 4096 // bytes; see allocated
)

// growth is a decoded word.
type growth struct {
	blocks int32 // of 4 KiB
	known  bool
}

// growthCheck returns 24 bits.
func growthCheck(v uint64) uint64 { return uint64(slotCheck(v, 0x67)) >> 8 }

func (g growth) encode() uint64 {
	v := uint64(uint32(g.blocks))
	return v | growthCheck(v)<<40
}

func decodeGrowth(word uint64) growth {
	v := word & (1<<40 - 1)
	if word>>40 != growthCheck(v) {
		return growth{}
	}
	return growth{int32(uint32(v)), true}
}

// noGrowth makes b the words of shards that have not grown.
func noGrowth(b []byte) {
	for i := range shardCount {
		binary.NativeEndian.PutUint64(b[8*i:], growth{known: true}.encode())
	}
}

// growthUsed reports whether words of growth were used before, according to the
// usage file.
func (d *Disk) growthUsed() (bool, error) {
	f, err := d.usageOpen()
	if err != nil {
		return false, err
	}
	var b [8]byte
	if _, err := f.ReadAt(b[:], growthFlagAt); err != nil && err != io.EOF {
		return false, err
	}
	return binary.LittleEndian.Uint64(b[:]) != 0, nil
}

// noteGrowthUsed notes in the usage file that words of growth are used.
func (d *Disk) noteGrowthUsed() error {
	f, err := d.usageOpen()
	if err != nil {
		return err
	}
	_, err = f.WriteAt(binary.LittleEndian.AppendUint64(nil, growthFlag), growthFlagAt)
	return err
}

// grow notes that a shard grows by n bytes. The result is not known if the
// growth cannot be noted here.
func (c *counters) grow(shard int, n int64) growth {
	m := c.current(time.Now().UnixNano())
	if m == nil || n%block != 0 || int64(int32(n/block)) != n/block {
		return growth{}
	}
	g := m.grow(shard, int32(n/block))
	if m.failed.Load() {
		c.suspect()
	}
	return g
}

// growths returns the words of all shards. It reports false if none were ever
// used, as the usage file p tells. Words that are lost are not known.
func (c *counters) growths(words *[shardCount]uint64, p *usagePage) (used bool) {
	if m := c.current(time.Now().UnixNano()); m != nil && m.growths(words) {
		return true
	}
	if binary.LittleEndian.Uint64(p[growthFlagAt:]) == 0 && !c.there.Load() {
		return false
	}
	var b [8 * shardCount]byte
	if f, err := c.openFile(os.O_RDONLY); err == nil {
		defer f.Close()
		if _, err := f.ReadAt(b[:], growthAt); err != nil {
			clear(b[:])
		}
	}
	for i := range words {
		words[i] = binary.NativeEndian.Uint64(b[8*i:])
	}
	return true
}

// mapped fills words with those of all shards, and returns it. It returns nil if
// they are not mapped.
func (c *counters) mapped(words *[shardCount]uint64) *[shardCount]uint64 {
	if m := c.mapping.Load(); m == nil || !m.growths(words) {
		return nil
	}
	return words
}

// addGrowth adds the growth of all shards to their slots in p. Slots whose
// growth is not known become unknown. before has the words from before the slots
// were read, or is nil: of two words of a shard, the larger one counts. So its
// size is said to be too large rather than too small if the growth is settled
// meanwhile, whether the shard has grown or shrunk.
func (c *counters) addGrowth(p *usagePage, before *[shardCount]uint64) {
	var words [shardCount]uint64
	if !c.growths(&words, p) {
		return
	}
	none := growth{known: true}.encode()
	for i, word := range words {
		g := decodeGrowth(word)
		if before != nil && before[i] != word {
			g.blocks = max(g.blocks, decodeGrowth(before[i]).blocks)
		} else if word == none {
			continue
		}
		b := p[usageHeader+i*usageSlot:][:usageSlot]
		s := decodeSlot(b)
		if !s.known || !g.known {
			clear(b)
			continue
		}
		s.bytes += int64(g.blocks) * block
		s.encode(b)
	}
}

// settle moves the growth of the locked shard to its slot, before the shard is
// listed. If the process is killed in between, the size of the shard is said to
// be too large, not too small: blocks that were added count twice then, and
// blocks that were removed still count.
func (l *locked) settle() error {
	f, err := l.d.usageOpen()
	if err != nil {
		return opError("write usage", err)
	}
	g, reset := l.growth()
	if reset == nil {
		return nil
	}
	var b [usageSlot]byte
	if _, err := f.ReadAt(b[:], l.slotAt()); err != nil && err != io.EOF {
		return opError("read usage", err)
	}
	s := decodeSlot(b[:])
	if s.known && g.known {
		s.bytes += int64(g.blocks) * block
		s.encode(b[:])
	} else {
		clear(b[:])
	}
	steps := []func() error{
		func() error { _, err := f.WriteAt(b[:], l.slotAt()); return err },
		reset,
	}
	if g.blocks < 0 {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return opError("write usage", err)
		}
	}
	return nil
}

// growth returns the growth of the locked shard, and a function that makes it 0. The
// function is nil if words of growth were never used, or if the file cannot be read. A
// process that cannot map the file reads and writes the word: the lock keeps others from it.
func (l *locked) growth() (g growth, reset func() error) {
	c := &l.d.counts
	if m := c.current(time.Now().UnixNano()); m != nil {
		g = m.grow(l.shard, 0)
		return g, func() error { m.settle(l.shard, g.blocks); return nil }
	}
	used, unknown := l.d.growthUsed()
	if !used && !c.there.Load() {
		return growth{}, nil
	}
	off := growthAt + 8*int64(l.shard)
	var b [8]byte
	f, err := c.openFile(os.O_RDWR)
	if c.lost(err) && c.make(used || unknown != nil) {
		f, err = c.openFile(os.O_RDWR)
	}
	if err != nil {
		return growth{}, nil
	}
	defer f.Close()
	if _, err := f.ReadAt(b[:], off); err != nil {
		return growth{}, nil
	}
	return decodeGrowth(binary.NativeEndian.Uint64(b[:])), func() error {
		f, err := c.openFile(os.O_WRONLY)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt(binary.NativeEndian.AppendUint64(nil, growth{known: true}.encode()), off)
		return err
	}
}
