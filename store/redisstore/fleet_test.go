package redisstore_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/redisstore"
	"github.com/cachetrip/cachetrip/store/storetest"
)

// commands returns how often a server was given a command.
func commands(t testing.TB, s *server, name string) int {
	t.Helper()
	for _, line := range strings.Split(s.do(t, "INFO", "commandstats"), "\n") {
		if rest, ok := strings.CutPrefix(line, "cmdstat_"+name+":calls="); ok {
			n, _, _ := strings.Cut(rest, ",")
			calls, err := strconv.Atoi(n)
			if err != nil {
				t.Fatal(err)
			}
			return calls
		}
	}
	return 0
}

func TestMemory(t *testing.T) {
	server := startServer(t)
	opts := patient(redisstore.Options{})
	one, other := open(t, server.url(), opts), open(t, server.url(), opts)
	key := storetest.Key(1, 1)
	if got, err := get(one, t, key); got != nil || err != nil {
		t.Fatalf("%q, %v, want nothing", got, err)
	}
	mustPut(other, t, key, small)
	eventually(t, "what was not there is seen", func() bool { return holds(one, t, key, small) })

	before := commands(t, server, "hget")
	for range 1000 {
		if !holds(one, t, key, small) {
			t.Fatal("it is not there")
		}
	}
	if n := commands(t, server, "hget") - before; n != 0 {
		t.Errorf("1000 hits asked the server %d times, want none", n)
	}
	for i := range 20 {
		body := fmt.Appendf(nil, "body %d", i)
		mustPut(other, t, key, body)
		if !holds(other, t, key, body) {
			t.Fatal("the replica that stored the body does not see it")
		}
		eventually(t, "a change elsewhere is seen", func() bool { return holds(one, t, key, body) })
	}
	for i := range 2000 {
		body := fmt.Appendf(nil, "own body %d", i)
		mustPut(other, t, key, body)
		if !holds(other, t, key, body) {
			t.Fatalf("round %d: the replica that stored the body does not see it", i)
		}
	}
	// Removal of all keys shows as well.
	server.do(t, "FLUSHALL")
	eventually(t, "it is seen that all is gone", func() bool { got, err := get(one, t, key); return got == nil && err == nil })
}

// TestNewIdentities stores more and more identities of one URL. Other processes still
// remember nearly all of those that they have looked up, and a listing finds all.
func TestNewIdentities(t *testing.T) {
	server := startServer(t)
	opts := patient(redisstore.Options{})
	one, other := open(t, server.url(), opts), open(t, server.url(), opts)
	url := storetest.Key(1, 1)[:32]
	identity := func(i int) string {
		sum := sha256.Sum256(fmt.Append(nil, i))
		return url + hex.EncodeToString(sum[:16])
	}
	const known, added = 200, 20
	for i := range known {
		mustPut(one, t, identity(i), small)
	}
	lookUpAll := func() {
		t.Helper()
		for i := range known {
			if entries, err := other.Entries(t.Context(), identity(i)); err != nil || len(entries) != 1 {
				t.Fatalf("identity %d: %v, %v", i, entries, err)
			}
		}
	}
	lookUpAll()
	before := commands(t, server, "hget")
	for i := range added {
		mustPut(one, t, identity(known+i), small)
		time.Sleep(10 * time.Millisecond) // until the other one is told
		lookUpAll()
	}
	asked := commands(t, server, "hget") - before
	t.Logf("%d of %d lookups asked the server", asked, added*known)
	if asked > added*known/10 {
		t.Errorf("%d of %d lookups asked the server, want one in ten at most", asked, added*known)
	}
	for _, prefix := range []string{url, url[:8], ""} {
		found := make(map[string]bool)
		for e, err := range other.All(t.Context(), prefix) {
			if err != nil {
				t.Fatal(err)
			}
			if found[e.Key] {
				t.Errorf("%s is listed twice", e.Key)
			}
			found[e.Key] = true
		}
		if len(found) != known+added {
			t.Errorf("with prefix %q, %d identities are listed, want %d", prefix, len(found), known+added)
		}
	}
	for digits := 33; digits <= 35; digits++ {
		prefix, want := identity(3)[:digits], 0
		for i := range known + added {
			if strings.HasPrefix(identity(i), prefix) {
				want++
			}
		}
		got := 0
		for _, err := range other.All(t.Context(), prefix) {
			if err != nil {
				t.Fatal(err)
			}
			got++
		}
		if got != want {
			t.Errorf("with %d digits of a key, %d identities are listed, want %d", digits, got, want)
		}
	}
}

// TestUnheard has a process not be told that something was stored which it then removes.
func TestUnheard(t *testing.T) {
	server := sharedServer(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var unheard atomic.Int64
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", server.address())
			if err != nil {
				conn.Close()
				return
			}
			go func() {
				io.Copy(to, conn)
				to.Close()
			}()
			go func() {
				defer conn.Close()
				for r := bufio.NewReader(to); ; {
					message, err := readMessage(r)
					if err != nil {
						return
					}
					if message[0] == '>' { // which it says unasked
						unheard.Add(1)
						continue
					}
					conn.Write(message)
				}
			}()
		}
	}()
	opts := patient(redisstore.Options{})
	s, other := open(t, "redis://"+l.Addr().String(), opts), open(t, server.url(), opts)
	key := storetest.Key(1, 1)
	if entries, err := s.Entries(t.Context(), key); len(entries) > 0 || err != nil {
		t.Fatalf("%v, %v, want nothing", entries, err)
	}
	mustPut(other, t, key, small)
	eventually(t, "it is told so", func() bool { return unheard.Load() > 0 })
	if err := s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry { return nil }); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is removed", func() bool { got, err := get(other, t, key); return got == nil && err == nil })
}

// readMessage returns the next whole message of a server.
func readMessage(r *bufio.Reader) ([]byte, error) {
	message, err := r.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(message[1:])))
	switch message[0] {
	case '$', '!', '=': // so many bytes, and a line break
		if n < 0 {
			return message, nil
		}
		text := make([]byte, n+2)
		_, err := io.ReadFull(r, text)
		return append(message, text...), err
	case '%', '|': // so many pairs of messages
		n *= 2
	case '*', '~', '>': // so many messages
	default:
		n = 0
	}
	for range n {
		element, err := readMessage(r)
		if err != nil {
			return nil, err
		}
		message = append(message, element...)
	}
	return message, nil
}

func TestManyWriters(t *testing.T) {
	server := sharedServer(t)
	opts := patient(redisstore.Options{})
	key := storetest.Key(1, 1)
	const clients, writers, rounds = 4, 4, 25
	var wg sync.WaitGroup
	for range clients {
		s := open(t, server.url(), opts)
		for range writers {
			wg.Go(func() {
				for range rounds {
					err := s.Update(t.Context(), key, func(current []*store.Entry) []*store.Entry {
						e := newEntry(key)
						if len(current) > 0 {
							e.Status = current[0].Status
						}
						e.Status++
						return []*store.Entry{e}
					})
					if err != nil {
						t.Errorf("Update: %v", err)
					}
				}
			})
		}
	}
	wg.Wait()
	entries, err := open(t, server.url(), opts).Entries(t.Context(), key)
	if err != nil || len(entries) != 1 || entries[0].Status != 200+clients*writers*rounds {
		t.Errorf("%v, %v, want an entry that counts %d", entries, err, 200+clients*writers*rounds)
	}
}

func TestEverythingExpires(t *testing.T) {
	server := startServer(t)
	const keep = time.Hour
	s := open(t, server.url(), patient(redisstore.Options{Prefix: "app", Keep: keep}))
	key := storetest.Key(1, 1)
	began := time.Now()
	mustPut(s, t, key, large)
	if _, err := s.Secret(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A writer that dies.
	draft, err := s.Create(t.Context(), key, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer draft.Close()
	if _, err := draft.Write(large); err != nil {
		t.Fatal(err)
	}
	kinds := func() map[string][]time.Duration {
		got := make(map[string][]time.Duration)
		for _, name := range strings.Split(server.do(t, "KEYS", "*"), "\n") {
			left, err := strconv.Atoi(server.do(t, "PTTL", name))
			if left == -2 {
				continue // it did meanwhile
			}
			if err != nil || left <= 0 {
				t.Errorf("%s does not expire: %d, %v", name, left, err)
			}
			kind := "url"
			switch {
			case strings.HasSuffix(name, ":released"):
				kind = "released"
			case strings.Contains(name, ":b:"):
				kind = "body"
			case name == "app:secret":
				kind = "secret"
			case !strings.HasPrefix(name, "app:v1:{"):
				t.Errorf("what is %s?", name)
			}
			got[kind] = append(got[kind], time.Duration(left)*time.Millisecond)
		}
		return got
	}
	around := func(kind string, got, want time.Duration) {
		const second = time.Second // by which times are rounded, also those in header fields
		if passed := time.Since(began); got < want-passed-2*second || got > want+second {
			t.Errorf("%s expires in %v, %v after the change, want %v", kind, got, passed, want)
		}
	}
	var got map[string][]time.Duration
	eventually(t, "the chunk is there", func() bool { got = kinds(); return len(got["body"]) == 2 })
	around("a URL", got["url"][0], keep+time.Minute)
	around("a body", max(got["body"][0], got["body"][1]), keep+time.Minute)
	around("what is not stored yet", min(got["body"][0], got["body"][1]), 10*time.Minute)

	// Freshened for longer, it stays for longer, and its body with it.
	err = s.Update(t.Context(), key, func(current []*store.Entry) []*store.Entry {
		e := current[0].Clone()
		e.Header.Set("Cache-Control", "max-age=3600")
		return []*store.Entry{e}
	})
	if err != nil {
		t.Fatal(err)
	}
	got = kinds()
	around("a URL", got["url"][0], keep+time.Hour)
	around("its body", max(got["body"][0], got["body"][1]), keep+time.Hour)

	began = time.Now()
	if err := s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry { return nil }); err != nil {
		t.Fatal(err)
	}
	got = kinds()
	if len(got["url"]) != 0 || len(got["released"]) != 1 {
		t.Fatalf("after removal there is %v", got)
	}
	around("what was released", got["released"][0], 2*time.Minute)

	// A body that is being read stays until it is closed.
	brief := storetest.Key(2, 1)
	mustPut(s, t, brief, bytes.Repeat(large, 8))
	entries, err := s.Entries(t.Context(), brief)
	if err != nil {
		t.Fatal(err)
	}
	blob := entries[0].Parts[0].Blob
	name := fmt.Sprintf("app:v1:{%s}:b:%s", brief[:32], blob.ID)
	server.do(t, "PEXPIRE", name, "60000")
	body, err := s.Open(t.Context(), brief, blob)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	eventually(t, "it stays for longer", func() bool {
		left, err := strconv.Atoi(server.do(t, "PTTL", name))
		return err == nil && left > 60_000
	})
	server.do(t, "UNLINK", name)

	// A large body that is given up goes at once.
	draft.Close()
	eventually(t, "it goes", func() bool { return len(kinds()["body"]) == 0 })
}

func TestKeptForever(t *testing.T) {
	opts := patient(redisstore.Options{Keep: math.MaxInt64})
	s := open(t, sharedServer(t).url(), opts)
	key := storetest.Key(1, 1)
	mustPut(s, t, key, large)
	left, err := strconv.ParseInt(sharedServer(t).do(t, "PTTL", metadataName(opts, key)), 10, 64)
	if year := 365 * 24 * time.Hour.Milliseconds(); err != nil || left < year {
		t.Errorf("it expires in %d ms, %v", left, err)
	}
}

// TestExpired has time pass on the server, as far as it can: entries of short lives go by themselves.
func TestExpired(t *testing.T) {
	t.Parallel()
	server := sharedServer(t)
	opts := patient(redisstore.Options{Keep: -1})
	s := open(t, server.url(), opts)
	// Where a URL has many identities, what may go does so as others are stored.
	for i := range 200 {
		key := storetest.Key(1, i)
		e := newEntry(key)
		e.Header.Set("Cache-Control", "max-age=0")
		if i == 0 || i >= 100 { // the first keeps all from going at once
			e.Header.Set("Cache-Control", "max-age=1000")
		}
		if i == 100 {
			time.Sleep(2100 * time.Millisecond) // the least that anything is kept for, to the second
		}
		if err := s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry { return []*store.Entry{e} }); err != nil {
			t.Fatal(err)
		}
	}
	n, lasting := 0, 0
	for e, err := range s.All(t.Context(), storetest.Key(1, 1)[:32]) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		if e.Header.Get("Cache-Control") == "max-age=1000" {
			lasting++
		}
	}
	if lasting != 101 || n > 150 {
		t.Errorf("%d entries are left, of which %d may not go, want 101 of those and less than half of the others", n, lasting)
	}
}

// TestNamedAgain names a body that was released, and is still being read.
func TestNamedAgain(t *testing.T) {
	s := open(t, sharedServer(t).url(), patient(redisstore.Options{}))
	key := storetest.Key(1, 1)
	mustPut(s, t, key, large)
	entries, err := s.Entries(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	for _, next := range [][]*store.Entry{nil, entries} {
		if err := s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry { return next }); err != nil {
			t.Fatal(err)
		}
	}
	if !holds(s, t, key, large) {
		t.Error("it is not there")
	}
	gone := entries[0].Clone()
	gone.Parts[0].Blob.ID = strings.Repeat("0", 32)
	err = s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry { return []*store.Entry{gone} })
	if !errors.Is(err, store.ErrDamaged) || !holds(s, t, key, large) {
		t.Errorf("an entry with a body that is not there: %v, want ErrDamaged, and nothing changed", err)
	}
}

func TestApplicationsApart(t *testing.T) {
	server := sharedServer(t)
	a, b := patient(redisstore.Options{}), patient(redisstore.Options{})
	b.Prefix = a.Prefix + "x" // one begins with the other
	one, other := open(t, server.url(), a), open(t, server.url(), b)
	key := storetest.Key(1, 1)
	mustPut(one, t, key, large)
	if got, err := get(other, t, key); got != nil || err != nil {
		t.Errorf("another application finds %d bytes, %v", len(got), err)
	}
	for range other.All(t.Context(), "") {
		t.Error("another application lists it")
	}
	first, err := one.Secret(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := other.Secret(t.Context())
	if err != nil || bytes.Equal(first, second) {
		t.Errorf("they share a secret, or %v", err)
	}
	again, err := open(t, server.url(), a).Secret(t.Context())
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("another process of the application has another secret, or %v", err)
	}
	for _, prefix := range []string{"a*", "a{b", "a b", "ä"} {
		if s, err := redisstore.Open(server.url(), redisstore.Options{Prefix: prefix}); err == nil {
			s.Close()
			t.Errorf("the prefix %q is taken", prefix)
		}
	}
	if _, err := redisstore.Open("redis://user:secret@host:port:99/", redisstore.Options{}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("the error for a bad URL is %v", err)
	}
}

// TestSecretStays takes the secret from the server, as eviction or a restart does, while it is in use.
func TestSecretStays(t *testing.T) {
	t.Parallel()
	began := time.Now()
	server := startServer(t)
	opts := patient(redisstore.Options{Prefix: "app"})
	s := open(t, server.url(), opts)
	want, err := s.Secret(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server.do(t, "FLUSHALL")
	eventually(t, "the secret is back", func() bool {
		if _, err := s.Entries(t.Context(), storetest.Key(1, 1)); err != nil {
			t.Fatal(err)
		}
		return server.do(t, "EXISTS", "app:secret") == "1"
	})
	if got, err := open(t, server.url(), opts).Secret(t.Context()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("a process that starts has another secret, or %v", err)
	}
	server.do(t, "PEXPIRE", "app:secret", "100000")
	eventually(t, "it lives longer again", func() bool {
		if _, err := s.Entries(t.Context(), storetest.Key(1, 1)); err != nil {
			t.Fatal(err)
		}
		left, err := strconv.Atoi(server.do(t, "PTTL", "app:secret"))
		return err == nil && left > 100000
	})
	if n, most := commands(t, server, "getex"), 2+int(time.Since(began)/(2*time.Second)); n > most {
		t.Errorf("it was used %d times, want at most %d: once in two seconds", n, most)
	}
}

func TestUnixSocket(t *testing.T) {
	server := startServer(t)
	server.kill()
	path := filepath.Join(server.dir, "socket")
	server.args = []string{"--unixsocket", path, "--requirepass", "geheim"}
	server.start(t)
	key := storetest.Key(1, 1)
	s := open(t, "unix://default:geheim@"+path, patient(redisstore.Options{}))
	mustPut(s, t, key, large)
	if !holds(s, t, key, large) {
		t.Error("it is not there")
	}
}

func TestTLS(t *testing.T) {
	origin := httptest.NewTLSServer(nil) // for its certificate
	defer origin.Close()
	private, err := x509.MarshalPKCS8PrivateKey(origin.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := tempDir(t)
	for name, block := range map[string]*pem.Block{
		"cert": {Type: "CERTIFICATE", Bytes: origin.Certificate().Raw},
		"key":  {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, _ := exec.Command(program(t), "--tls-port", "0", "--port", "-1").CombinedOutput(); bytes.Contains(out, []byte(">>> 'tls-port")) {
		t.Skip("the server was built without TLS")
	}
	server := startServer(t, "--tls-cert-file", filepath.Join(dir, "cert"), "--tls-key-file", filepath.Join(dir, "key"),
		"--tls-ca-cert-file", filepath.Join(dir, "cert"), "--tls-auth-clients", "no")
	var url string
	eventually(t, "the server takes a port for TLS", func() bool {
		port := strconv.Itoa(freePort(t))
		url = "rediss://127.0.0.1:" + port
		return server.do(t, "CONFIG", "SET", "tls-port", port) == "OK"
	})
	if err := open(t, url, redisstore.Options{}).Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server that nobody vouches for: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(origin.Certificate())
	s := open(t, url, patient(redisstore.Options{Configure: func(o *rueidis.ClientOption) { o.TLSConfig.RootCAs = roots }}))
	key := storetest.Key(1, 1)
	mustPut(s, t, key, large)
	if !holds(s, t, key, large) {
		t.Error("it is not there")
	}
}

// TestPrivileges uses the server as a user with only the rights in
// docs/redis.md.
func TestPrivileges(t *testing.T) {
	server := startServer(t)
	server.do(t, strings.Fields("ACL SETUSER app on >geheim ~app:* resetchannels +@read +@write +@scripting +@connection +info +role")...)
	s := open(t, strings.Replace(server.url(), "redis://", "redis://app:geheim@", 1), patient(redisstore.Options{Prefix: "app", Lease: hanging}))
	key := storetest.Key(1, 1)
	mustPut(s, t, key, large)
	mustPut(s, t, key, small)
	if !holds(s, t, key, small) {
		t.Error("it is not there")
	}
	if _, err := s.Secret(t.Context()); err != nil {
		t.Error(err)
	}
	n := 0
	for _, err := range s.All(t.Context(), "") {
		if err != nil {
			t.Error(err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("%d entries are listed, want 1", n)
	}
	release, granted := s.Lease(t.Context(), key, "")
	if !granted {
		t.Fatal("no lease")
	}
	if names := server.do(t, "KEYS", "*:l:*"); names == "" {
		t.Error("the lease is not on the server")
	}
	release(true)
	eventually(t, "the lease ends", func() bool { return server.do(t, "KEYS", "*:l:*") == "" })
}

// startCluster returns the servers of a cluster, ready. They do not take each
// other for dead, because they may only be slow.
func startCluster(t *testing.T, n int) []*server {
	var servers []*server
	for range n {
		servers = append(servers, startServer(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "600000", "--cluster-require-full-coverage", "no"))
	}
	const slots = 16384
	for i, s := range servers {
		s.do(t, "CLUSTER", "ADDSLOTSRANGE", fmt.Sprint(i*slots/n), fmt.Sprint((i+1)*slots/n-1))
		s.do(t, "CLUSTER", "SET-CONFIG-EPOCH", fmt.Sprint(i+1))
		for _, other := range servers[:i] {
			s.do(t, "CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(other.port))
		}
	}
	for _, s := range servers {
		eventually(t, "the servers know each other", func() bool {
			info := s.do(t, "CLUSTER", "INFO")
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_slots_ok:16384") &&
				strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", n))
		})
	}
	return servers
}

func TestCluster(t *testing.T) {
	servers := startCluster(t, 3)
	url := servers[0].url() + "?addr=" + servers[1].address()
	t.Run("store", func(t *testing.T) {
		storetest.Test(t, func(t *testing.T) store.Store { return open(t, url, patient(redisstore.Options{})) })
	})
	t.Run("a slot moves", func(t *testing.T) {
		s := open(t, url, patient(redisstore.Options{Prefix: "moves"}))
		key := storetest.Key(1, 1)
		mustPut(s, t, key, large)
		slot := servers[0].do(t, "CLUSTER", "KEYSLOT", "moves:v1:{"+key[:32]+"}")
		var from, to *server
		for _, one := range servers {
			if one.do(t, "CLUSTER", "COUNTKEYSINSLOT", slot) != "0" {
				from = one
			} else {
				to = one
			}
		}
		toID := to.do(t, "CLUSTER", "MYID")
		to.do(t, "CLUSTER", "SETSLOT", slot, "IMPORTING", from.do(t, "CLUSTER", "MYID"))
		from.do(t, "CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
		for _, name := range strings.Split(from.do(t, "CLUSTER", "GETKEYSINSLOT", slot, "10"), "\n") {
			for range 5 { // keys that are on two servers can't be changed together
				if err := put(s, t, key, small); err == nil || !strings.Contains(err.Error(), "TRYAGAIN") {
					t.Fatalf("storing in a slot that moves: %v", err)
				}
			}
			if !holds(s, t, key, large) {
				t.Error("what is in a slot that moves is not found")
			}
			from.do(t, "MIGRATE", "127.0.0.1", strconv.Itoa(to.port), name, "0", "600000")
		}
		if !holds(s, t, key, large) {
			t.Error("what has moved is not found")
		}
		to.do(t, "CLUSTER", "SETSLOT", slot, "NODE", toID)
		from.do(t, "CLUSTER", "SETSLOT", slot, "NODE", toID)
		eventually(t, "what has moved can be changed", func() bool { return put(s, t, key, small) == nil && holds(s, t, key, small) })
	})
	t.Run("one server gone", func(t *testing.T) {
		s := open(t, url, patient(redisstore.Options{Prefix: "gone"}))
		all := make([]string, 60)
		for i := range all {
			all[i] = storetest.Key(i, 1)
			eventually(t, "it is stored", func() bool { return put(s, t, all[i], large) == nil })
		}
		servers[2].kill()
		working := func() (n int) {
			for _, key := range all {
				if holds(s, t, key, large) {
					n++
				}
			}
			return n
		}
		// Keys are spread by a checksum: some are on each server.
		eventually(t, "what others hold is found", func() bool { n := working(); return n > 20 && n < len(all) })
	})
}

func TestSentinel(t *testing.T) {
	t.Parallel()
	primary := startServer(t, "--repl-diskless-sync-delay", "0")
	replica := startServer(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(primary.port))
	sentinel := startSentinel(t, primary.port)
	s := open(t, sentinel.url()+"?master_set=mine", patient(redisstore.Options{Prefix: "sentinel"}))
	key := storetest.Key(1, 1)
	eventually(t, "it is stored", func() bool { return put(s, t, key, large) == nil && holds(s, t, key, large) })
	eventually(t, "the replica has it, and is known", func() bool {
		return strings.Contains(primary.do(t, "INFO", "replication"), "state=online,offset=") &&
			strings.Contains(sentinel.do(t, "SENTINEL", "REPLICAS", "mine"), strconv.Itoa(replica.port)) &&
			commandOffset(t, primary) == commandOffset(t, replica)
	})
	primary.kill()
	eventually(t, "the Sentinel begins a failover", func() bool { return sentinel.do(t, "SENTINEL", "FAILOVER", "mine") == "OK" })
	eventually(t, "the replica takes over", func() bool { return holds(s, t, key, large) && put(s, t, key, small) == nil })
	if !holds(s, t, key, small) {
		t.Error("what was stored after the failover is not found")
	}
}

// commandOffset returns how far replication is.
func commandOffset(t *testing.T, s *server) string {
	for _, line := range strings.Split(s.do(t, "INFO", "replication"), "\r\n") {
		if offset, ok := strings.CutPrefix(line, "master_repl_offset:"); ok {
			return offset
		}
	}
	return ""
}
