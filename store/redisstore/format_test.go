package redisstore_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/internal/golden"
	"github.com/cachetrip/cachetrip/store/redisstore"
)

// value is a value on a server: a hash or a string.
type value struct {
	Hash   map[string]string
	String string
}

// dump returns all values whose names begin with prefix, by the rest of the name.
func (s *server) dump(t *testing.T, prefix string) map[string]value {
	values := make(map[string]value)
	for _, name := range strings.Fields(s.do(t, "KEYS", prefix+"*")) {
		var v value
		if s.do(t, "TYPE", name) == "string" {
			v.String = s.do(t, "GET", name)
		} else {
			v.Hash = make(map[string]string)
			for _, field := range strings.Fields(s.do(t, "HKEYS", name)) {
				v.Hash[field] = s.do(t, "HGET", name, field)
			}
		}
		values[strings.TrimPrefix(name, prefix)] = v
	}
	return values
}

// load puts values on the server.
func (s *server) load(t *testing.T, prefix string, values map[string]value) {
	for name, v := range values {
		if v.Hash == nil {
			s.do(t, "SET", prefix+name, v.String)
		}
		for field, value := range v.Hash {
			s.do(t, "HSET", prefix+name, field, value)
		}
	}
}

// written returns the values that an earlier program has put on its server, by
// their names without the prefix.
func written(t *testing.T, server *server) map[string]value {
	return golden.File(t, "testdata/v1.gob", func() map[string]value {
		opts := patient(redisstore.Options{})
		s := open(t, server.url(), opts)
		if _, err := s.Secret(t.Context()); err != nil {
			t.Fatal(err)
		}
		golden.Fill(t, s)
		return server.dump(t, opts.Prefix)
	})
}

func TestReadsValuesOfV1(t *testing.T) {
	server := sharedServer(t)
	opts := patient(redisstore.Options{})
	values := written(t, server)
	server.load(t, opts.Prefix, values)
	s := open(t, server.url(), opts)
	golden.Check(t, s)
	secret, err := s.Secret(t.Context())
	if err != nil || base64.StdEncoding.EncodeToString(secret) != values[":secret"].String {
		t.Errorf("another secret, %v", err)
	}
}

// TestLeavesNewerVersions: this version neither reads, changes nor removes the
// values that a replica with a newer format has stored.
func TestLeavesNewerVersions(t *testing.T) {
	server := sharedServer(t)
	opts := patient(redisstore.Options{})
	newer := make(map[string]value)
	for name, v := range written(t, server) {
		if rest, ok := strings.CutPrefix(name, ":v1:"); ok {
			newer[rest] = v
		}
	}
	if len(newer) == 0 {
		t.Fatal("no name tells the version")
	}
	prefix := opts.Prefix + ":v2:"
	server.load(t, prefix, newer)
	s := open(t, server.url(), opts)
	golden.Fill(t, s)
	golden.Check(t, s)
	for _, key := range golden.Keys {
		if err := s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	for e := range s.All(t.Context(), "") {
		t.Errorf("an entry of %s is listed", e.URL)
	}
	if diff := cmp.Diff(newer, server.dump(t, prefix)); diff != "" {
		t.Errorf("values of the newer version (-before +after):\n%s", diff)
	}
}
