//go:build unix

package redisstore_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/redisstore"
	"github.com/cachetrip/cachetrip/store/storetest"
)

// impatient has options for tests in which operations wait in vain for a server.
// Others of their operations may fail on a busy machine, and are repeated.
var impatient = redisstore.Options{LookupTimeout: 500 * time.Millisecond, WriteTimeout: 500 * time.Millisecond}

func TestBrokenServer(t *testing.T) {
	for _, test := range []struct {
		name          string
		breaks, mends func(*testing.T, *server)
	}{
		{"gone", func(_ *testing.T, s *server) { s.kill() }, func(t *testing.T, s *server) { s.start(t) }},
		{"stopped", func(_ *testing.T, s *server) { s.signal(syscall.SIGSTOP) }, func(_ *testing.T, s *server) { s.signal(syscall.SIGCONT) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := startServer(t)
			s := open(t, server.url(), impatient)
			one, two, three := storetest.Key(1, 1), storetest.Key(2, 1), storetest.Key(3, 1)
			eventually(t, "something is stored", func() bool {
				return put(s, t, one, small) == nil && put(s, t, two, large) == nil
			})
			draft, err := s.Create(t.Context(), three, -1)
			if err != nil {
				t.Fatal(err)
			}
			defer draft.Close()
			if _, err := draft.Write(large); err != nil {
				t.Fatal(err)
			}

			test.breaks(t, server)
			quick(t, "a broken server", func() {
				if test.name == "gone" { // the client has to notice, and may use its memory until then
					eventually(t, "a lookup fails", func() bool { _, err := s.Entries(t.Context(), two); return err != nil })
				}
				notAsked := 0
				for range 1000 {
					if _, err := s.Entries(t.Context(), two); err == nil && test.name == "gone" {
						t.Fatal("a lookup on a server that is gone is no error")
					}
					err := put(s, t, storetest.Key(4, 1), small)
					if err == nil {
						t.Fatal("storing on a broken server is no error")
					}
					if refused(err) {
						notAsked++
					}
					for e, err := range s.All(t.Context(), one[:32]) {
						if err == nil {
							t.Fatalf("a broken server lists %v", e)
						}
					}
				}
				if notAsked == 0 {
					t.Error("each operation asks the broken server")
				}
			})
			quick(t, "a draft", func() {
				// Other readers are not affected.
				got := make([]byte, len(large))
				if n, err := draft.ReadAt(got, 0); n < len(got) || !bytes.Equal(got, large) {
					t.Errorf("reading a draft: %d, %v", n, err)
				}
				_, err := draft.Write(large)
				if _, cerr := draft.Commit(); err == nil && cerr == nil {
					t.Error("a body is committed to a broken server")
				}
				if n, err := draft.ReadAt(got, 0); n < len(got) || !bytes.Equal(got, large) {
					t.Errorf("reading a draft that failed: %d, %v", n, err)
				}
			})

			test.mends(t, server)
			eventually(t, "it recovers", func() bool { return put(s, t, one, large) == nil && holds(s, t, one, large) })
		})
	}
}

// TestStalledServer has a server stop answering that is in use.
func TestStalledServer(t *testing.T) {
	server := startServer(t)
	key := storetest.Key(1, 1)
	start := func(t *testing.T) *redisstore.Store {
		s := open(t, server.url(), impatient)
		eventually(t, "metadata is in memory", func() bool {
			return put(s, t, key, large) == nil && holds(s, t, key, large) && holds(s, t, key, large)
		})
		server.signal(syscall.SIGSTOP)
		t.Cleanup(func() { server.signal(syscall.SIGCONT) })
		return s
	}
	t.Run("metadata in memory", func(t *testing.T) {
		s := start(t)
		quick(t, "many bodies", func() {
			notAsked := 0
			for range 500 {
				_, err := get(s, t, key)
				if err == nil {
					t.Fatal("a body comes from a server that does not answer")
				}
				if refused(err) {
					notAsked++
				}
			}
			if notAsked == 0 {
				t.Error("each body is requested from a server that does not answer")
			}
		})
	})
	t.Run("more lookups at once than the client takes", func(t *testing.T) {
		s := start(t)
		quick(t, "many lookups", func() {
			var wg sync.WaitGroup
			for i := range 4000 {
				wg.Go(func() { s.Entries(t.Context(), storetest.Key(2+i, 1)) })
			}
			wg.Wait()
		})
	})
}

// TestConnectionsMadeAgain: no operation waits for a connection that was lost
// for longer than its time limit. A connection may take longer than that.
func TestConnectionsMadeAgain(t *testing.T) {
	key := storetest.Key(1, 1)
	for _, test := range []struct {
		name   string
		dial   func(ctx context.Context, ends <-chan struct{}) error // is called for each connection that is made again
		hangs  bool                                                  // the server does not answer
		usable bool                                                  // the store recovers meanwhile
	}{
		{"dialing hangs", func(_ context.Context, ends <-chan struct{}) error { <-ends; return errors.New("ended") }, false, false},
		{"the server takes connections and hangs", func(context.Context, <-chan struct{}) error { return nil }, true, false},
		{"dialing fails", func(context.Context, <-chan struct{}) error { return errors.New("no route") }, false, false},
		{"dialing takes a while", func(ctx context.Context, _ <-chan struct{}) error {
			select {
			case <-time.After(2 * impatient.LookupTimeout):
			case <-ctx.Done():
			}
			return ctx.Err()
		}, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := startServer(t)
			var lost atomic.Bool
			ends := make(chan struct{})
			opts := impatient
			opts.Lease = 100 * time.Millisecond
			opts.Configure = func(o *rueidis.ClientOption) {
				o.DialCtxFn = func(ctx context.Context, to string, dialer *net.Dialer, _ *tls.Config) (net.Conn, error) {
					if lost.Load() {
						if err := test.dial(ctx, ends); err != nil {
							return nil, err
						}
					}
					return dialer.DialContext(ctx, "tcp", to)
				}
			}
			s := open(t, server.url(), opts)
			eventually(t, "something is stored", func() bool { return put(s, t, key, large) == nil && holds(s, t, key, large) })
			lost.Store(true)
			server.do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
			if test.hangs {
				server.signal(syscall.SIGSTOP)
			}

			for what, do := range map[string]func(ctx context.Context){
				"looking up": func(ctx context.Context) { s.Entries(ctx, storetest.Key(2, 1)) },
				"reading":    func(context.Context) { get(s, t, key) },
				"storing":    func(context.Context) { put(s, t, key, large) },
				"leasing":    func(ctx context.Context) { s.Lease(ctx, key, "") },
				"listing one URL": func(ctx context.Context) {
					for range s.All(ctx, key[:32]) {
					}
				},
				"listing": func(ctx context.Context) {
					for range s.All(ctx, "") {
					}
				},
				"asking for a sign": func(ctx context.Context) { s.Ping(ctx) },
			} {
				quick(t, what, func() {
					for range 5 {
						ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
						do(ctx)
						cancel()
					}
				})
			}
			if test.usable {
				eventually(t, "it is used again", func() bool { return holds(s, t, key, large) && put(s, t, key, large) == nil })
			}

			close(ends)
			server.signal(syscall.SIGCONT)
			lost.Store(false)
			eventually(t, "it recovers", func() bool { return holds(s, t, key, large) && put(s, t, key, small) == nil })
		})
	}
}

// TestLateUpdate: an update whose caller has left while the connection was made
// again does nothing later. By then, what it stores may have been invalidated.
func TestLateUpdate(t *testing.T) {
	server := startServer(t)
	key := storetest.Key(1, 1)
	var lost atomic.Bool
	dialing, proceed := make(chan bool, 100), make(chan bool)
	s := open(t, server.url(), redisstore.Options{WriteTimeout: 100 * time.Millisecond, Configure: func(o *rueidis.ClientOption) {
		o.DialCtxFn = func(ctx context.Context, to string, dialer *net.Dialer, _ *tls.Config) (net.Conn, error) {
			if lost.Load() {
				dialing <- true
				<-proceed
			}
			return dialer.DialContext(ctx, "tcp", to)
		}
	}})
	eventually(t, "the server is there", func() bool { return s.Ping(t.Context()) == nil })
	eventually(t, "something is looked up", func() bool { _, err := s.Entries(t.Context(), key); return err == nil })
	var lose sync.Once
	err := s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry {
		lose.Do(func() {
			lost.Store(true)
			server.do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
			// until the connection is being made again
			for end := time.Now().Add(time.Minute); len(dialing) == 0 && time.Now().Before(end); {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				for range s.All(ctx, "") {
				}
				cancel()
			}
		})
		return []*store.Entry{newEntry(key)}
	})
	close(proceed)
	if err == nil || len(dialing) == 0 {
		t.Fatalf("the update: %v; the connection was being made again %d times", err, len(dialing))
	}
	if err := s.Close(); err != nil { // waits for operations
		t.Fatal(err)
	}
	entries, err := open(t, server.url(), patient(redisstore.Options{Prefix: redisstore.DefaultPrefix})).Entries(t.Context(), key)
	if err != nil || len(entries) > 0 {
		t.Errorf("%d entries, %v; want none", len(entries), err)
	}
}

// TestPanics: functions of the program panic while the client makes a lost
// connection again. That ends the operation, and not the process.
func TestPanics(t *testing.T) {
	server := startServer(t)
	key := storetest.Key(1, 1)
	var lost atomic.Bool
	s := open(t, server.url(), patient(redisstore.Options{Configure: func(o *rueidis.ClientOption) {
		o.DialCtxFn = func(ctx context.Context, to string, dialer *net.Dialer, _ *tls.Config) (net.Conn, error) {
			if lost.Load() {
				panic("on purpose")
			}
			return dialer.DialContext(ctx, "tcp", to)
		}
	}}))
	eventually(t, "something is stored", func() bool { return put(s, t, key, large) == nil && holds(s, t, key, large) })
	lost.Store(true)
	server.do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	eventually(t, "a connection is needed", func() bool {
		_, err := s.Entries(t.Context(), storetest.Key(2, 1))
		return err != nil && strings.Contains(err.Error(), "on purpose")
	})
	lost.Store(false)
	eventually(t, "it recovers", func() bool { return put(s, t, key, small) == nil && holds(s, t, key, small) })
}

// TestNothingLeft closes stores during operations, which may be making
// connections.
func TestNothingLeft(t *testing.T) {
	server := startServer(t)
	slowly := func(o *rueidis.ClientOption) {
		o.DialCtxFn = func(ctx context.Context, to string, dialer *net.Dialer, _ *tls.Config) (net.Conn, error) {
			time.Sleep(20 * time.Millisecond)
			return dialer.DialContext(ctx, "tcp", to)
		}
	}
	for range 5 {
		s, err := redisstore.Open(server.url(), patient(redisstore.Options{Configure: slowly}))
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			draft, err := s.Create(t.Context(), storetest.Key(1, 1), -1)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := draft.Write(large); err != nil {
				t.Fatal(err)
			}
			draft.Close()
		}
		time.Sleep(10 * time.Millisecond)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all connections are closed", func() bool {
		return strings.Contains(server.do(t, "INFO", "clients"), "connected_clients:1\r\n") // which asks
	})
}

func TestServerComesLater(t *testing.T) {
	program(t)
	server := &server{port: freePort(t), dir: tempDir(t)}
	var s *redisstore.Store
	quick(t, "opening without a server", func() { s = open(t, server.url(), patient(redisstore.Options{})) })
	if err := s.Ping(t.Context()); err == nil {
		t.Error("Ping of a server that is not there is no error")
	}
	if err := put(s, t, storetest.Key(1, 1), small); err == nil {
		t.Error("storing without a server is no error")
	}
	server.start(t)
	defer server.kill()
	eventually(t, "it is used", func() bool {
		return put(s, t, storetest.Key(1, 1), small) == nil && holds(s, t, storetest.Key(1, 1), small)
	})
}

// TestSilentReading has the server stop while a body is being read that was not fetched at once. It stops for
// longer than a lookup waits, until it counts as broken.
func TestSilentReading(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	opts := redisstore.Options{WriteTimeout: hanging, LookupTimeout: 2 * time.Second}
	s := open(t, server.url(), opts)
	key := storetest.Key(1, 1)
	body := bytes.Repeat(large, 8)
	var opened store.Body
	eventually(t, "it is stored and opened", func() bool {
		if put(s, t, key, body) != nil {
			return false
		}
		entries, err := s.Entries(t.Context(), key)
		if err != nil || len(entries) == 0 {
			return false
		}
		opened, err = s.Open(t.Context(), key, entries[0].Parts[0].Blob)
		return err == nil
	})
	defer opened.Close()
	server.signal(syscall.SIGSTOP)
	var reader sync.WaitGroup
	reader.Go(func() {
		// It is patient: without the rest the response is lost.
		got, err := io.ReadAll(io.NewSectionReader(opened, 0, int64(len(body))))
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("a server that was held up: %d bytes of %d, %v", len(got), len(body), err)
		}
	})
	eventually(t, "the server counts as broken", func() bool {
		var lookups sync.WaitGroup
		var broken atomic.Bool
		for range 4 { // together, which takes less time
			lookups.Go(func() {
				if _, err := s.Entries(t.Context(), storetest.Key(2, 1)); refused(err) {
					broken.Store(true)
				}
			})
		}
		lookups.Wait()
		return broken.Load()
	})
	server.signal(syscall.SIGCONT)
	reader.Wait()
	server.kill()
	quick(t, "reading without a server", func() {
		if _, err := opened.ReadAt(make([]byte, 10), 0); err == nil {
			t.Error("reading what only a server had that is gone is no error")
		}
	})
}

// TestRestOfTheOrigin: the server goes away while a stored response is read.
// The rest comes from the origin, if that still has the same content.
func TestRestOfTheOrigin(t *testing.T) {
	body := bytes.Repeat(large, 8)
	for _, test := range []struct {
		name     string
		etags    []string // at first, and when the rest is requested
		want     int      // bytes, at least
		complete bool
	}{
		{"the same content", []string{`"1"`, `"1"`}, len(body), true},
		{"other content", []string{`"1"`, `"2"`}, 1000, false},
		{"content without a tag, compared byte by byte", []string{"", ""}, len(body), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := startServer(t)
			var killed atomic.Bool
			origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				etag := test.etags[0]
				if killed.Load() {
					etag = test.etags[1]
				}
				w.Header().Set("Cache-Control", "max-age=3600")
				if etag != "" {
					w.Header().Set("Etag", etag)
				}
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
			}))
			defer origin.Close()
			client := replicas(t, 1, server.url(), patient(redisstore.Options{}))[0]
			eventually(t, "it is stored", func() bool {
				_, resp, err := fetch(client, origin.URL)
				return err == nil && cachetrip.StatusOf(resp).Hit
			})
			resp, err := client.Get(origin.URL)
			if err != nil || !cachetrip.StatusOf(resp).Hit {
				t.Fatalf("%v, want a hit", err)
			}
			defer resp.Body.Close()
			got := make([]byte, 1000)
			if _, err := io.ReadFull(resp.Body, got); err != nil {
				t.Fatal(err)
			}
			killed.Store(true)
			server.kill()
			rest, err := io.ReadAll(resp.Body)
			if got = append(got, rest...); !bytes.HasPrefix(body, got) || len(got) < test.want || (err == nil) != test.complete {
				t.Errorf("%d bytes of %d, %v", len(got), len(body), err)
			}
		})
	}
}

func TestFullServer(t *testing.T) {
	server := startServer(t)
	s := open(t, server.url(), patient(redisstore.Options{}))
	one, two, three := storetest.Key(1, 1), storetest.Key(2, 1), storetest.Key(3, 1)
	mustPut(s, t, one, small)
	mustPut(s, t, two, large)
	server.do(t, "CONFIG", "SET", "maxmemory", "1mb")
	for range 10 { // which would trip the breaker, if it counted
		for _, body := range [][]byte{small, large} {
			if err := put(s, t, three, body); err == nil || !strings.Contains(err.Error(), "OOM") {
				t.Fatalf("storing %d bytes on a full server: %v, want its error", len(body), err)
			}
		}
	}
	if !holds(s, t, one, small) || !holds(s, t, two, large) {
		t.Error("what a full server holds can't be read")
	}
	for _, key := range []string{one, two} {
		if err := s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry { return nil }); err != nil {
			t.Errorf("removing from a full server: %v", err)
		}
		if entries, err := s.Entries(t.Context(), key); len(entries) > 0 || err != nil {
			t.Errorf("%d entries left, %v", len(entries), err)
		}
	}
	server.do(t, "CONFIG", "SET", "maxmemory", "0")
	mustPut(s, t, three, large)
}

func TestReadOnlyReplica(t *testing.T) {
	primary := startServer(t)
	key := storetest.Key(1, 1)
	opts := patient(redisstore.Options{})
	writer := open(t, primary.url(), opts)
	mustPut(writer, t, key, large)
	replica := startServer(t, "--replicaof", "127.0.0.1 "+primary.url()[len("redis://127.0.0.1:"):])
	s := open(t, replica.url(), opts)
	eventually(t, "the replica has it", func() bool { return holds(s, t, key, large) })
	for range 10 {
		for _, body := range [][]byte{small, large} {
			if err := put(s, t, key, body); err == nil || !strings.Contains(err.Error(), "READONLY") {
				t.Fatalf("storing on a replica: %v, want its error", err)
			}
		}
	}
	if !holds(s, t, key, large) {
		t.Error("a replica that refused to write is not read from")
	}
	n := 0
	for _, err := range s.All(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("a replica lists %d entries, want 1", n)
	}
	mustPut(writer, t, key, small)
	eventually(t, "a change on the primary is seen on the replica", func() bool { return holds(s, t, key, small) })
}

func TestWrongType(t *testing.T) {
	server := sharedServer(t)
	opts := patient(redisstore.Options{})
	s := open(t, server.url(), opts)
	key := storetest.Key(1, 1)
	name := metadataName(opts, key)
	server.do(t, "SET", name, "of somebody else")
	for range 10 {
		if entries, err := s.Entries(t.Context(), key); err == nil {
			t.Fatalf("Entries: %v, want an error", entries)
		}
		if err := put(s, t, key, small); err == nil {
			t.Fatal("Update is no error")
		}
	}
	for range s.All(t.Context(), "") {
		t.Error("something is listed")
	}
	if got := server.do(t, "GET", name); got != "of somebody else" {
		t.Errorf("it holds %q now", got)
	}
	mustPut(s, t, storetest.Key(2, 1), large) // the server does not count as broken
	server.do(t, "DEL", name)
	mustPut(s, t, key, small)
	blob := func() string {
		entries, err := s.Entries(t.Context(), storetest.Key(2, 1))
		if err != nil || len(entries) != 1 {
			t.Fatalf("Entries: %v, %v", entries, err)
		}
		return opts.Prefix + ":v1:{" + storetest.Key(2, 1)[:32] + "}:b:" + entries[0].Parts[0].Blob.ID
	}()
	server.do(t, "DEL", blob)
	server.do(t, "LPUSH", blob, "x")
	if _, err := get(s, t, storetest.Key(2, 1)); err == nil {
		t.Error("a body of a wrong type is no error")
	}
}

func TestDamage(t *testing.T) {
	server := sharedServer(t)
	for name, damage := range map[string]func(t *testing.T, url, field, blob string){
		"value cut":       func(t *testing.T, url, field, _ string) { server.do(t, "HSET", url, field, "short") },
		"value exchanged": func(t *testing.T, url, field, _ string) { server.do(t, "HSET", url, field, strings.Repeat("x", 500)) },
		"value changed": func(t *testing.T, url, field, _ string) {
			server.do(t, "HSET", url, field, strings.Replace(server.do(t, "HGET", url, field), "example", "elsewhr", 1))
		},
		"chunk exchanged": func(t *testing.T, _, _, blob string) {
			server.do(t, "HSET", blob, "1", strings.Repeat("x", len(large)-(256<<10-64)+4))
		},
		"chunk gone": func(t *testing.T, _, _, blob string) { server.do(t, "HDEL", blob, "0") },
		"body gone":  func(t *testing.T, _, _, blob string) { server.do(t, "DEL", blob) },
	} {
		t.Run(name, func(t *testing.T) {
			opts := patient(redisstore.Options{})
			s := open(t, server.url(), opts)
			key := storetest.Key(1, 1)
			mustPut(s, t, key, large)
			entries, err := s.Entries(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			damage(t, metadataName(opts, key), key[32:], opts.Prefix+":v1:{"+key[:32]+"}:b:"+entries[0].Parts[0].Blob.ID)
			fresh := open(t, server.url(), opts)
			if got, err := get(fresh, t, key); !errors.Is(err, store.ErrDamaged) {
				t.Errorf("%d bytes, %v, want ErrDamaged", len(got), err)
			}
			mustPut(fresh, t, key, small)
			eventually(t, "it is replaced", func() bool { return holds(s, t, key, small) })
		})
	}
}
