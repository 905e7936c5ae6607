package command

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// demoSite is the address under which the demo's pages are cached. It is the
// same in all runs, although the origin listens on another port each time. RFC
// 2606 reserves the name for examples.
const demoSite = "http://demo.cachetrip.example"

// origin is a small web site on a loopback port. It counts the bytes that pass
// its sockets.
type origin struct {
	server   *http.Server
	listener net.Listener
	opened   time.Time
	edition  atomic.Int64 // of the page /news

	requests atomic.Int64
	wire     atomic.Int64 // bytes in both directions
}

// startOrigin starts a site. Its news differ for each value of opened.
func startOrigin(opened time.Time) (*origin, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &origin{listener: listener, opened: opened}
	o.edition.Store(1)
	o.server = &http.Server{
		Handler:  o.site(),
		ErrorLog: log.New(io.Discard, "", 0),
	}
	go o.server.Serve(countingListener{listener, &o.wire}) // close ends it
	return o, nil
}

func (o *origin) close() { o.server.Close() }

// transport returns a transport that connects to the site, whatever the host.
func (o *origin) transport() *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, o.listener.Addr().String())
		},
	}
}

// site returns the handler of the pages. It sets their content type and
// validators; net/http answers conditional requests.
func (o *origin) site() http.Handler {
	mux := http.NewServeMux()
	page := func(path string, serve func(w http.ResponseWriter, r *http.Request)) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			o.requests.Add(1)
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			serve(w, r)
		})
	}
	page("/style.css", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=86400")
		content(w, r, strings.Repeat("p { margin: 1em auto; max-width: 40em }\n", 500))
	})
	page("/catalogue", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=0")
		w.Header().Set("ETag", `"catalogue"`)
		content(w, r, strings.Repeat("a thing that is for sale, with its price and its description\n", 5000))
	})
	page("/news", func(w http.ResponseWriter, r *http.Request) {
		edition := fmt.Sprintf("%d-%d", o.opened.UnixNano(), o.edition.Load())
		w.Header().Set("Cache-Control", "max-age=0")
		w.Header().Set("ETag", strconv.Quote(edition))
		content(w, r, strings.Repeat("what happened before edition "+edition+"\n", 500))
	})
	page("/hello", func(w http.ResponseWriter, r *http.Request) {
		greeting := "Hello, world.\n"
		if strings.HasPrefix(r.Header.Get("Accept-Language"), "de") {
			greeting = "Hallo, Welt.\n"
		}
		w.Header().Set("Cache-Control", "max-age=86400")
		w.Header().Set("Vary", "Accept-Language")
		content(w, r, strings.Repeat(greeting, 500))
	})
	page("/mirror", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=0")
		w.Header().Set("ETag", `"left"`)
		if r.Header.Get("If-None-Match") != "" {
			w.Header().Set("ETag", `"right"`)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		content(w, r, strings.Repeat("two servers that do not agree on their ETags\n", 500))
	})
	return mux
}

// content answers r with body, or with 304 if the conditions of r say so.
func content(w http.ResponseWriter, r *http.Request, body string) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader([]byte(body)))
}

// countingListener counts the bytes that pass its connections.
type countingListener struct {
	net.Listener
	wire *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countingConn{conn, l.wire}, nil
}

type countingConn struct {
	net.Conn
	wire *atomic.Int64
}

func (c countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.wire.Add(int64(n))
	return n, err
}

// Write counts before it writes, so that the bytes of a response are counted
// when its reader has them.
func (c countingConn) Write(p []byte) (int, error) {
	c.wire.Add(int64(len(p)))
	n, err := c.Conn.Write(p)
	c.wire.Add(int64(n - len(p)))
	return n, err
}
