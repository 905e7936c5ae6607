// Package demo has what the examples share: a loopback origin that counts, and the table of what the
// runs of an example cost. A reader who came for a client need not look in here.
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

// Cost is what an origin was asked for and what that took.
type Cost struct {
	Requests    int   // that reached the origin
	NotModified int   // of these, answered 304
	Bytes       int64 // that the origin sent: status lines, header fields and bodies
}

// Origin is a service on a loopback port.
type Origin struct {
	URL string // without a slash at its end

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

// Write counts first: what a client has read has been counted.
func (c countingConn) Write(b []byte) (int, error) {
	c.origin.bytes.Add(int64(len(b)))
	return c.Conn.Write(b)
}

// Row is one run of a client.
type Row struct {
	Name string // what is different about it
	Cost
	Data any // what the client made of the answers
}

// Table is what the runs of a client cost.
type Table []Row

// Add makes a run, and adds what it got and what that cost.
func (t *Table) Add(name string, o *Origin, run func() (any, error)) error {
	o.Take()
	data, err := run()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	*t = append(*t, Row{name, o.Take(), data})
	return nil
}

// String returns the table as the examples print it, and the pages about them show it.
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

// Main prints the table of an example that is given a new cache directory.
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
