package otelcachetrip_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/otelcachetrip"
	"github.com/cachetrip/cachetrip/store"
)

// origin answers requests by their path, without a network.
type origin struct{}

func (origin) RoundTrip(req *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	h := w.Header()
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	switch req.URL.Path {
	case "/fresh":
		h.Set("Cache-Control", "max-age=600")
	case "/checked", "/behind":
		h.Set("Cache-Control", "no-cache")
		if req.URL.Path == "/behind" {
			h.Set("Cache-Control", "max-age=0, stale-while-revalidate=60")
		}
		h.Set("Etag", `"1"`)
		if req.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return w.Result(), nil
		}
	case "/never":
		h.Set("Cache-Control", "no-store")
	case "/fails":
		return nil, syscall.ECONNREFUSED
	}
	io.WriteString(w, strings.Repeat("x", 1000))
	return w.Result(), nil
}

// use makes a request of a path, with Cache-Control if that is not empty.
func use(t *testing.T, cache *cachetrip.Transport, path, directives string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://origin.example"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if directives != "" {
		req.Header.Set("Cache-Control", directives)
	}
	resp, err := cache.RoundTrip(req)
	if err != nil {
		if path != "/fails" {
			t.Fatal(err)
		}
		return
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
}

// collect returns the values of all instruments, by name and attributes. The
// value of a histogram is its count and sum.
func collect(t *testing.T, reader metric.Reader) map[string]string {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &rm); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, scope := range rm.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Description == "" || m.Unit == "" {
				t.Errorf("%s has no description or unit", m.Name)
			}
			note := func(set attribute.Set, value string) {
				got[m.Name+"{"+set.Encoded(attribute.DefaultEncoder())+"}"] = value
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					note(p.Attributes, fmt.Sprint(p.Value))
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					note(p.Attributes, fmt.Sprintf("%d, %g", p.Count, p.Sum))
				}
			default:
				t.Errorf("%s is a %T", m.Name, data)
			}
		}
	}
	return got
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := store.NewMemory(0)
		told := 0
		cache := &cachetrip.Transport{Store: memory, Base: origin{}, Trace: &cachetrip.Trace{Hit: func(cachetrip.AnswerInfo) { told++ }}}
		reader := metric.NewManualReader()
		provider := metric.NewMeterProvider(metric.WithReader(reader))
		registration, err := otelcachetrip.Register(cache, otelcachetrip.Options{MeterProvider: provider, Name: "api"})
		if err != nil {
			t.Fatal(err)
		}
		use(t, cache, "/fresh", "")
		time.Sleep(30 * time.Second)
		use(t, cache, "/fresh", "")
		use(t, cache, "/fresh", "")
		use(t, cache, "/checked", "")
		use(t, cache, "/checked", "")
		use(t, cache, "/behind", "")
		time.Sleep(10 * time.Second)
		use(t, cache, "/behind", "")
		synctest.Wait()
		use(t, cache, "/never", "")
		use(t, cache, "/fails", "")
		use(t, cache, "/nothing", "only-if-cached")

		want := map[string]string{
			"cachetrip.requests{cachetrip.cache.name=api,cachetrip.outcome=hit}":                                "2",
			"cachetrip.requests{cachetrip.cache.name=api,cachetrip.outcome=stale}":                              "1",
			"cachetrip.requests{cachetrip.cache.name=api,cachetrip.outcome=revalidated,cachetrip.reason=stale}": "1",
			"cachetrip.requests{cachetrip.cache.name=api,cachetrip.outcome=miss,cachetrip.reason=uri-miss}":     "4",
			"cachetrip.requests{cachetrip.cache.name=api,cachetrip.outcome=refused,cachetrip.reason=uri-miss}":  "1",
			"cachetrip.requests.age{cachetrip.cache.name=api,cachetrip.outcome=hit}":                            "2, 60",
			"cachetrip.requests.age{cachetrip.cache.name=api,cachetrip.outcome=stale}":                          "1, 10",
			"cachetrip.requests.age{cachetrip.cache.name=api,cachetrip.outcome=revalidated}":                    "1, 0",
			"cachetrip.background_revalidations{cachetrip.cache.name=api}":                                      "1",
			"cachetrip.body.served{cachetrip.cache.name=api}":                                                   "4000",
			"cachetrip.body.received{cachetrip.cache.name=api}":                                                 "4000",
			"cachetrip.responses.stored{cachetrip.cache.name=api}":                                              "3",
			"cachetrip.responses.not_stored{cachetrip.cache.name=api,cachetrip.reason=no-store}":                "1",
			"cachetrip.store.evictions{cachetrip.cache.name=api}":                                               "0",
			"cachetrip.store.size{cachetrip.cache.name=api}":                                                    fmt.Sprint(memory.Bytes()),
		}
		for _, cause := range []string{"full", "denied", "vanished", "descriptors", "obstructed", "too_large", "locked", "_OTHER"} {
			want["cachetrip.store.faults{cachetrip.cache.name=api,error.type="+cause+"}"] = "0"
		}
		if diff := cmp.Diff(want, collect(t, reader)); diff != "" {
			t.Errorf("metrics (-want +got):\n%s", diff)
		}
		if memory.Bytes() < 3000 {
			t.Errorf("the store holds %d bytes", memory.Bytes())
		}
		if told != 2 {
			t.Errorf("the hook that was there was called %d times, want 2", told)
		}

		if err := registration.Unregister(); err != nil {
			t.Fatal(err)
		}
		if _, found := collect(t, reader)["cachetrip.body.served{cachetrip.cache.name=api}"]; found {
			t.Error("still observed after Unregister")
		}
		cache.Close()
	})
}

// failing is a store on a full device.
type failing struct{ *store.Memory }

func (failing) Create(context.Context, string, int64) (store.Draft, error) {
	return nil, syscall.ENOSPC
}

func TestFaults(t *testing.T) {
	cache := &cachetrip.Transport{Store: failing{store.NewMemory(0)}, Base: origin{}}
	reader := metric.NewManualReader()
	if _, err := otelcachetrip.Register(cache, otelcachetrip.Options{MeterProvider: metric.NewMeterProvider(metric.WithReader(reader))}); err != nil {
		t.Fatal(err)
	}
	use(t, cache, "/fresh", "")
	got := collect(t, reader)
	if n := got["cachetrip.store.faults{error.type=full}"]; n != "1" {
		t.Errorf("%s faults for want of space, want 1, of %v", n, got)
	}
	if n := got["cachetrip.responses.not_stored{cachetrip.reason=store-error}"]; n != "1" {
		t.Errorf("%s responses not stored for that, want 1, of %v", n, got)
	}
}

// The size of a directory is reported as the size limit counts it.
// brokenStore panics when it is asked for its size.
type brokenStore struct{ store.Store }

func (brokenStore) Bytes() int64 { panic("on purpose") }

func TestBrokenStore(t *testing.T) {
	reader := metric.NewManualReader()
	cache := &cachetrip.Transport{Store: brokenStore{store.NewMemory(1 << 20)}, Base: origin{}}
	defer cache.Close()
	if _, err := otelcachetrip.Register(cache, otelcachetrip.Options{MeterProvider: metric.NewMeterProvider(metric.WithReader(reader))}); err != nil {
		t.Fatal(err)
	}
	use(t, cache, "/fresh", "")
	got := collect(t, reader)
	if size, known := got["cachetrip.store.size{}"]; known {
		t.Errorf("the size is reported as %s", size)
	}
	if stored := got["cachetrip.responses.stored{}"]; stored != "1" {
		t.Errorf("%q stored responses are reported, want 1", stored)
	}
}

func TestDiskSize(t *testing.T) {
	disk, err := store.OpenDisk(t.TempDir(), store.DiskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	cache := &cachetrip.Transport{Store: disk, Base: origin{}}
	reader := metric.NewManualReader()
	if _, err := otelcachetrip.Register(cache, otelcachetrip.Options{MeterProvider: metric.NewMeterProvider(metric.WithReader(reader))}); err != nil {
		t.Fatal(err)
	}
	last := int64(-1)
	for i := range 2 {
		use(t, cache, "/fresh?"+fmt.Sprint(i), "")
		got := collect(t, reader)["cachetrip.store.size{}"]
		if got != fmt.Sprint(disk.Bytes()) || disk.Bytes() <= last {
			t.Errorf("%s bytes are reported, %d are stored, %d were stored before", got, disk.Bytes(), last)
		}
		last = disk.Bytes()
	}
}
