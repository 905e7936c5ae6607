package redisstore_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/redisstore"
	"github.com/cachetrip/cachetrip/store/storetest"
)

func TestStore(t *testing.T) {
	server := sharedServer(t)
	for name, memory := range map[string]int{"with memory": 0, "without memory": -1} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) storetest.Subject {
				return subject(t, server, patient(redisstore.Options{MemoryBytes: memory, MaxBodyBytes: 16 << 20}))
			})
		})
	}
}

// subject returns a Store for storetest.Run, with all that can be done to it.
func subject(t *testing.T, server *server, opts redisstore.Options) storetest.Subject {
	s := open(t, server.url(), opts)
	url := func(key string) string { return opts.Prefix + ":v1:{" + key[:32] + "}" }
	return storetest.Subject{
		Store:   s,
		MaxBody: opts.MaxBodyBytes,
		Reopen: func() (store.Store, error) {
			if err := s.Close(); err != nil {
				return nil, err
			}
			s = open(t, server.url(), opts)
			return s, nil
		},
		Second: func() (store.Store, error) { return open(t, server.url(), opts), nil },
		Damage: func(key string, blob store.Blob) error {
			return flip(t, server, url(key)+":b:"+blob.ID)
		},
		Lose: func(key string, blob store.Blob) error {
			server.do(t, "DEL", url(key)+":b:"+blob.ID)
			return nil
		},
		DamageEntries: func(key string) error { return flip(t, server, metadataName(opts, key)) },
		Collect: func() error {
			for _, name := range strings.Fields(server.do(t, "KEYS", opts.Prefix+":v1:*:b:*")) {
				// A draft lives for 10 minutes, a blob that an entry names for much longer.
				if ttl, err := strconv.Atoi(server.do(t, "TTL", name)); err == nil && ttl >= 0 && ttl <= 600 {
					server.do(t, "DEL", name)
				}
			}
			return nil
		},
	}
}

// flip changes a byte of a field of a hash.
func flip(t *testing.T, server *server, hash string) error {
	fields := strings.Fields(server.do(t, "HKEYS", hash))
	if len(fields) == 0 {
		return fmt.Errorf("there is no hash %s", hash)
	}
	field := fields[rand.IntN(len(fields))]
	value := []byte(server.do(t, "HGET", hash, field))
	value[rand.IntN(len(value))] ^= 1
	server.do(t, "HSET", hash, field, string(value))
	return nil
}

// TestFormatsDoNotMeet: replicas with different formats leave each other's
// entries alone. They have separate keys, except the secret.
func TestFormatsDoNotMeet(t *testing.T) {
	server := sharedServer(t)
	opts := patient(redisstore.Options{Prefix: "formats"})
	s := open(t, server.url(), opts)
	key := storetest.Key(3, 1)
	if err := s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry {
		return []*store.Entry{{Key: key, URL: "https://example.com/", Method: "GET", Status: 200}}
	}); err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(server.do(t, "KEYS", opts.Prefix+"*"))
	for _, name := range names {
		if name != opts.Prefix+":secret" && !strings.HasPrefix(name, opts.Prefix+":v1:{") {
			t.Errorf("the name %s does not tell the format of its value", name)
		}
	}
	if len(names) == 0 {
		t.Error("nothing is on the server")
	}
}
