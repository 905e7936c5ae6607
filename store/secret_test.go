package store

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestSecretWaitsWithoutMutex has several callers want the secret of a new
// cache while another process holds the lock under which it is made. A caller
// that waited with a mutex held would stop the clock of the bubble for good.
func TestSecretWaitsWithoutMutex(t *testing.T) {
	dir := scratchDir(t)
	synctest.Test(t, func(t *testing.T) {
		other, err := OpenDisk(dir, DiskOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		d, err := OpenDisk(dir, DiskOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		l, err := other.lock(t.Context(), 0, lockWait)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, err := d.Secret(t.Context()); !errors.Is(err, errLocked) {
					t.Errorf("Secret, while the lock is held: %v, want %v", err, errLocked)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took > 2*lockWait {
			t.Errorf("failed after %v, want about %v", took, lockWait)
		}
		l.unlock()

		time.Sleep(2 * stallMemory)
		var secrets [6][]byte
		for i := range secrets {
			wg.Go(func() {
				user := d
				if i%2 == 0 {
					user = other
				}
				var err error
				if secrets[i], err = user.Secret(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for i := range secrets {
			if !bytes.Equal(secrets[i], secrets[0]) || len(secrets[i]) != secretLen {
				t.Errorf("secret %d is %x, that of another caller %x", i, secrets[i], secrets[0])
			}
		}
	})
}
