// Package demo has the common parts of the examples: a loopback origin that
// counts, and the table of costs. To learn how to use a client, you need not
// read it.
package demo

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"text/tabwriter"
)

// Cost counts the requests that an origin got and the bytes that it sent.
type Cost struct {
	Requests    int   // requests that reached the origin
	NotModified int   // of these, those answered 304
	Bytes       int64 // bytes that the origin sent: status lines, header fields and bodies
}

// Origin is a service on a loopback port.
type Origin struct {
	URL string // without a trailing slash

	server                *http.Server
	requests, notModified atomic.Int64
	bytes                 atomic.Int64
}

// Start serves h until Close.
func Start(h http.Handler) (*Origin, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &Origin{URL: "http://" + l.Addr().String()}
	o.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.requests.Add(1)
		h.ServeHTTP(&statusCounter{w, o}, r)
	})}
	go o.server.Serve(countingListener{l, o}) // returns when Close closes the listener
	return o, nil
}

// Close ends the service and its connections.
func (o *Origin) Close() { o.server.Close() }

// Take returns the cost since the last Take.
func (o *Origin) Take() Cost {
	return Cost{int(o.requests.Swap(0)), int(o.notModified.Swap(0)), o.bytes.Swap(0)}
}

type statusCounter struct {
	http.ResponseWriter
	origin *Origin
}

func (c *statusCounter) WriteHeader(status int) {
	if status == http.StatusNotModified {
		c.origin.notModified.Add(1)
	}
	c.ResponseWriter.WriteHeader(status)
}

type countingListener struct {
	net.Listener
	origin *Origin
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countingConn{c, l.origin}, err
}

type countingConn struct {
	net.Conn
	origin *Origin
}

// Write counts before it writes, so that bytes are counted when a client has
// read them.
func (c countingConn) Write(b []byte) (int, error) {
	c.origin.bytes.Add(int64(len(b)))
	return c.Conn.Write(b)
}

// Row is one run of a client.
type Row struct {
	Name string // how the run differs from others
	Cost
	Data any // the result of the client
}

// Table lists the costs of the runs of a client.
type Table []Row

// Add calls run, and adds its result and its cost to the table.
func (t *Table) Add(name string, o *Origin, run func() (any, error)) error {
	o.Take()
	data, err := run()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	*t = append(*t, Row{name, o.Take(), data})
	return nil
}

// String returns the table as the examples print it and docs/clients show it.
func (t Table) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "requests\t304\tbytes received\t")
	for _, r := range t {
		fmt.Fprintf(w, "%d\t%d\t%d\t  %s\n", r.Requests, r.NotModified, r.Bytes, r.Name)
	}
	w.Flush()
	return b.String()
}

// Main runs an example with a new cache directory, and prints its table.
func Main(run func(dir string) (Table, error)) {
	dir, err := os.MkdirTemp("", "cachetrip-example-")
	if err == nil {
		var t Table
		t, err = run(dir)
		os.RemoveAll(dir)
		fmt.Print(t)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
