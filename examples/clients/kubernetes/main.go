// Kubernetes asks a cluster for its API with client-go through a cache, as
// kubectl does first. It prints the cost of each run, compared with client-go's
// own cache. The cluster is a loopback server that answers as kube-apiserver
// does:
//
//	go run ./kubernetes
package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/disk"
	"k8s.io/client-go/rest"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/examples/clients/internal/demo"
	"github.com/cachetrip/cachetrip/store"
)

func main() { demo.Main(run) }

// newDiscovery puts the cache below the credentials of config, for this client
// only. user identifies the user whatever the current token is; it can be the
// name of the context in kubeconfig.
func newDiscovery(config *rest.Config, stored store.Store, user string) (*discovery.DiscoveryClient, error) {
	config = rest.CopyConfig(config)
	config.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		return &cachetrip.Transport{
			Store:          stored,
			Base:           rt,
			Identity:       func(*http.Request) string { return user },
			ModifyResponse: inGMT,
		}
	})
	return discovery.NewDiscoveryClientForConfig(config)
}

// inGMT repairs the dates of the API server, which have UTC where HTTP requires
// GMT. An invalid Expires counts as past (RFC 9111, section 5.3), so schemas
// that never change would be validated each time.
func inGMT(resp *http.Response) error {
	if date, ok := strings.CutSuffix(resp.Header.Get("Expires"), " UTC"); ok {
		resp.Header.Set("Expires", date+" GMT")
	}
	return nil
}

// api is the part of a cluster's API that the example reads.
type api struct {
	Resources map[string][]metav1.APIResource // by group and version
	Schema    string                          // of apps/v1
}

// look makes the requests that kubectl makes before it validates a Deployment.
func look(client discovery.DiscoveryInterface) (any, error) {
	found := api{Resources: map[string][]metav1.APIResource{}}
	_, lists, err := client.ServerGroupsAndResources()
	if err != nil {
		return nil, err
	}
	for _, l := range lists {
		found.Resources[l.GroupVersion] = l.APIResources
	}
	paths, err := client.OpenAPIV3().Paths()
	if err != nil {
		return nil, err
	}
	schema, err := paths["apis/apps/v1"].Schema(runtime.ContentTypeJSON)
	found.Schema = string(schema)
	return found, err
}

// clients has the kinds of clients. Each call is a run of its own, which shares
// only dir with the others.
type clients struct {
	dir string
	url string
}

func (c clients) config(token string) *rest.Config {
	return &rest.Config{Host: c.url, BearerToken: token}
}

func (c clients) plain() (any, error) {
	client, err := discovery.NewDiscoveryClientForConfig(c.config("token-1"))
	if err != nil {
		return nil, err
	}
	return look(client)
}

func (c clients) cached(token string) (any, error) {
	stored, err := store.OpenDisk(filepath.Join(c.dir, "cachetrip"), store.DiskOptions{})
	if err != nil {
		return nil, err
	}
	defer stored.Close()
	client, err := newDiscovery(c.config(token), stored, "admin@cluster")
	if err != nil {
		return nil, err
	}
	return look(client)
}

// own uses the cache of client-go, which sends no request within ttl.
func (c clients) own(ttl time.Duration) (any, error) {
	client, err := disk.NewCachedDiscoveryClientForConfig(c.config("token-1"),
		filepath.Join(c.dir, "discovery"), filepath.Join(c.dir, "http"), ttl)
	if err != nil {
		return nil, err
	}
	return look(client)
}

func run(dir string) (demo.Table, error) {
	origin, err := demo.Start(newFake())
	if err != nil {
		return nil, err
	}
	defer origin.Close()
	c := clients{dir, origin.URL}

	var table demo.Table
	for _, r := range []struct {
		name string
		run  func() (any, error)
	}{
		{"without a cache", c.plain},
		{"cachetrip, first run", func() (any, error) { return c.cached("token-1") }},
		{"cachetrip, second run", func() (any, error) { return c.cached("token-1") }},
		{"cachetrip, third run, with a new token", func() (any, error) { return c.cached("token-2") }},
		{"client-go's own, first run", func() (any, error) { return c.own(6 * time.Hour) }},
		{"client-go's own, second run, within its 6 hours", func() (any, error) { return c.own(6 * time.Hour) }},
		{"client-go's own, third run, after them", func() (any, error) { return c.own(0) }},
	} {
		if err := table.Add(r.name, origin, r.run); err != nil {
			return nil, err
		}
	}
	return table, nil
}
