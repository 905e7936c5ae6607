package command

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/cachetrip/cachetrip"
)

// tally is the sum of the counts of all runs of get on a cache directory. It is
// kept in a file of that directory. Other programs count for themselves.
type tally struct {
	Since         time.Time `json:"since"`
	Runs          uint64    `json:"runs"`
	Requests      uint64    `json:"requests"`
	Hits          uint64    `json:"hits"`          // answered without asking the origin
	Revalidations uint64    `json:"revalidations"` // answered after a 304
	BytesServed   int64     `json:"bytes_served"`  // of bodies from the cache
	BytesReceived int64     `json:"bytes_received"`
}

const tallyName = "get.json"

// addTally adds the counts of one run. A file that cannot be read, such as
// after a power cut, is replaced by a new one.
func addTally(dir string, s cachetrip.Stats, now time.Time) error {
	return underLock(dir, func(path string) error {
		t := readTally(path)
		if t.Since.IsZero() {
			t.Since = now.UTC().Truncate(time.Second)
		}
		t.Runs++
		t.Requests += s.Requests
		t.Hits += s.Hits
		t.Revalidations += s.Revalidations
		t.BytesServed += s.BytesServed
		t.BytesReceived += s.BytesReceived
		text, err := json.Marshal(t)
		if err != nil {
			return err
		}
		temporary := path + ".tmp"
		if err := os.WriteFile(temporary, append(text, '\n'), 0o600); err != nil {
			return err
		}
		return os.Rename(temporary, path)
	})
}

func loadTally(dir string) tally { return readTally(filepath.Join(dir, tallyName)) }

// forgetTally resets the counts.
func forgetTally(dir string) error {
	return underLock(dir, func(path string) error {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

func readTally(path string) (t tally) {
	text, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(text, &t) != nil {
		return tally{}
	}
	return t
}

// underLock runs change while no other process changes the file.
func underLock(dir string, change func(path string) error) error {
	path := filepath.Join(dir, tallyName)
	lock := flock.New(path+".lock", flock.SetPermissions(0o600))
	if err := lock.Lock(); err != nil {
		return err
	}
	defer lock.Unlock()
	return change(path)
}
