package otelcachetrip_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/otelcachetrip"
	"github.com/cachetrip/cachetrip/store"
)

// The metrics of a cache are reported through the program's MeterProvider. The
// reader of this one collects them when it is asked to.
func ExampleRegister() {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		fmt.Fprint(w, "hello")
	}))
	defer origin.Close()

	reader := metric.NewManualReader()
	provider := metric.NewMeterProvider(metric.WithReader(reader))
	cache := &cachetrip.Transport{Store: store.NewMemory(10 << 20)}
	defer cache.Close()
	registration, err := otelcachetrip.Register(cache, otelcachetrip.Options{MeterProvider: provider})
	if err != nil {
		log.Fatal(err)
	}
	defer registration.Unregister()

	for range 3 {
		resp, err := cache.Client().Get(origin.URL)
		if err != nil {
			log.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}

	var collected metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &collected); err != nil {
		log.Fatal(err)
	}
	for _, scope := range collected.ScopeMetrics {
		for _, instrument := range scope.Metrics {
			sum, ok := instrument.Data.(metricdata.Sum[int64])
			if !ok || instrument.Name != "cachetrip.requests" {
				continue
			}
			for _, point := range sum.DataPoints {
				outcome, _ := point.Attributes.Value("cachetrip.outcome")
				fmt.Println(outcome.AsString(), point.Value)
			}
		}
	}
	// Unordered output:
	// miss 1
	// hit 2
}
