package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	bartventer "github.com/bartventer/httpcache"
	"github.com/bartventer/httpcache/pkg/urlkey"
	"github.com/bartventer/httpcache/store"
	"github.com/bartventer/httpcache/store/driver"
	"github.com/bartventer/httpcache/store/fscache"
	"github.com/bartventer/httpcache/store/memcache"
	gregjones "github.com/gregjones/httpcache"
	gregjonesdisk "github.com/gregjones/httpcache/diskcache"
	sandrolain "github.com/sandrolain/httpcache"
	sandrolaindisk "github.com/sandrolain/httpcache/diskcache"
)

// The peers, each opened as its README shows. They have no size limit.

// peers lists the subjects that are other caches.
var peers = []string{gregjonesDisk, gregjonesMemory, bartventerDisk, bartventerMemory, sandrolainDisk, sandrolainMemory}

// openPeer opens a peer with its files in dir.
func openPeer(subject, dir string, base http.RoundTripper) (*cache, error) {
	switch subject {
	case gregjonesDisk:
		return openGregjones(gregjonesdisk.New(dir), base), nil
	case gregjonesMemory:
		return openGregjones(gregjones.NewMemoryCache(), base), nil
	case bartventerDisk:
		conn, err := fscache.Open("bench", fscache.WithBaseDir(dir))
		if err != nil {
			return nil, err
		}
		return openBartventer(conn, base), nil
	case bartventerMemory:
		return openBartventer(memcache.Open(), base), nil
	case sandrolainDisk:
		return openSandrolain(sandrolaindisk.New(dir), base), nil
	case sandrolainMemory:
		return openSandrolain(sandrolain.NewMemoryCache(), base), nil
	}
	return nil, fmt.Errorf("unknown subject %q", subject)
}

func openGregjones(c gregjones.Cache, base http.RoundTripper) *cache {
	t := gregjones.NewTransport(c)
	t.Transport = base
	return &cache{
		RoundTripper: t,
		forget:       func(url string) error { c.Delete(url); return nil },
		close:        func() error { return nil },
	}
}

func openSandrolain(c sandrolain.Cache, base http.RoundTripper) *cache {
	sandrolain.SetLogger(slog.New(slog.DiscardHandler))
	t := sandrolain.NewTransport(c)
	t.Transport = base
	return &cache{
		RoundTripper: t,
		forget:       func(url string) error { c.Delete(url); return nil },
		close:        func() error { return nil },
	}
}

// bartventerScheme registers open connections, because NewTransport takes only
// the address of one.
const bartventerScheme = "opened"

var bartventerConns []driver.Conn

func init() {
	store.Register(bartventerScheme, driver.DriverFunc(func(u *url.URL) (driver.Conn, error) {
		return bartventerConns[len(bartventerConns)-1], nil
	}))
}

func openBartventer(conn driver.Conn, base http.RoundTripper) *cache {
	bartventerConns = append(bartventerConns, conn)
	return &cache{
		RoundTripper: bartventer.NewTransport(bartventerScheme+"://", bartventer.WithUpstream(base)),
		forget:       func(url string) error { return forgetBartventer(conn, url) },
		close:        func() error { return nil },
	}
}

// forgetBartventer removes the responses of a URL, and the list that names
// them.
func forgetBartventer(conn driver.Conn, rawURL string) error {
	u, err := url.Parse(rawURL)
	if err != nil {
		return err
	}
	key := urlkey.Normalize(u)
	list, err := conn.Get(key)
	if errors.Is(err, driver.ErrNotExist) {
		return nil
	}
	var refs []struct {
		ID string `json:"id"`
	}
	if err = errors.Join(err, json.Unmarshal(list, &refs)); err != nil {
		return err
	}
	for _, ref := range refs {
		err = errors.Join(err, conn.Delete(ref.ID))
	}
	return errors.Join(err, conn.Delete(key))
}

// fillPeer stores local responses in the directory of a peer, in its format.
// It does not flush each file, which would take minutes. It reports whether it
// can.
func fillPeer(subject, dir string, urls []string) (ok bool, err error) {
	switch subject {
	case gregjonesDisk:
		for _, url := range urls {
			if err := writeGregjones(dir, url); err != nil {
				return true, err
			}
		}
		return true, nil
	case sandrolainDisk:
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return true, err
		}
		c := openSandrolain(&unflushed{dir: dir}, localBase{})
		buf := make([]byte, 1<<20)
		for _, url := range urls {
			if err := fetchInto(c, url, buf); err != nil {
				return true, err
			}
		}
		return true, nil
	case bartventerDisk:
		held := &recorder{Conn: memcache.Open(), keys: make(map[string]bool)}
		c := openBartventer(held, localBase{})
		buf := make([]byte, 1<<20)
		for _, url := range urls {
			if err := fetchInto(c, url, buf); err != nil {
				return true, err
			}
		}
		return true, held.write(filepath.Join(dir, "bench"))
	}
	return false, nil
}

// recorder remembers its keys.
type recorder struct {
	driver.Conn
	keys map[string]bool
}

func (r *recorder) Set(key string, value []byte) error {
	r.keys[key] = true
	return r.Conn.Set(key, value)
}

// write writes files like fscache, but without an fsync.
func (r *recorder) write(dir string) error {
	for key := range r.keys {
		b, err := r.Get(key)
		if err != nil {
			return err
		}
		name := base64.RawURLEncoding.EncodeToString([]byte(key))
		if len(name) > 255 {
			return fmt.Errorf("bartventer: the key %q is too long to be written here", key)
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// fetchInto requests a URL and reads the body.
func fetchInto(c *cache, url string, buf []byte) error {
	req, err := newRequest(url)
	if err != nil {
		return err
	}
	resp, err := c.RoundTrip(req)
	if err != nil {
		return err
	}
	_, err = readAll(resp.Body, buf)
	return errors.Join(err, resp.Body.Close())
}

// unflushed writes files like sandrolain/httpcache/diskcache, but without an
// fsync.
type unflushed struct {
	dir string
}

func (*unflushed) Get(string) ([]byte, bool) { return nil, false }
func (*unflushed) Delete(string)             {}
func (u *unflushed) Set(key string, resp []byte) {
	name := fmt.Sprintf("%x", sha256.Sum256([]byte(key)))
	if err := os.WriteFile(filepath.Join(u.dir, name), resp, 0o600); err != nil {
		panic(err) // the interface has no error, and nothing can be measured now
	}
}

// peerOnDisk reports whether a subject is a peer with files.
func peerOnDisk(subject string) bool {
	return isPeer(subject) && !strings.HasSuffix(subject, "-memory")
}
