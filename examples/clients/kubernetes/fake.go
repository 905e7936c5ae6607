package main

import (
	"compress/gzip"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	apidiscovery "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fake answers discovery, aggregated discovery and /openapi/v3 like
// kube-apiserver:
//
//   - ETag, Vary and "Cache-Control: public". If-None-Match is compared as a text, without
//     lists or weak tags: ServeHTTPWithETag in
//     https://github.com/kubernetes/kubernetes/blob/master/staging/src/k8s.io/apiserver/pkg/endpoints/discovery/aggregated/etag.go
//   - "no-cache, private" for everything else: WithCacheControl in
//     https://github.com/kubernetes/kubernetes/blob/master/staging/src/k8s.io/apiserver/pkg/endpoints/filters/cachecontrol.go
//   - Schemas with a digest in their URL never change. They have "immutable" and an Expires
//     in a year, with UTC instead of GMT: HandleGroupVersion in
//     https://github.com/kubernetes/kube-openapi/blob/master/pkg/handler3/handler.go
//   - compression from 128 KiB on: endpoints/handlers/responsewriters/writers.go beside those
type fake struct {
	mu     sync.Mutex
	groups int
}

func newFake() *fake { return &fake{groups: 80} }

// addCRD changes the cluster like "kubectl apply" of a
// CustomResourceDefinition.
func (f *fake) addCRD() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.groups++
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Audit-Id", "7f9c3b1e-0a51-4c43-9e0b-2b1a1f0c6d55")
	h.Set("Cache-Control", "no-cache, private")
	h.Set("X-Kubernetes-Pf-Flowschema-Uid", "0c9d3b1a-4be2-4f0e-8b0e-2f2d2f7f9d01")
	h.Set("X-Kubernetes-Pf-Prioritylevel-Uid", "9a7d9b51-53d7-4f77-8a3e-6b1c1f0c6d02")
	if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer token-") {
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/openapi/v3") {
		serveOpenAPI(w, r)
		return
	}
	list := f.discovery(r.URL.Path)
	if list == nil || !strings.Contains(r.Header.Get("Accept"), "g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList") {
		http.NotFound(w, r)
		return
	}
	if strings.Contains(r.Header.Get("Accept"), "profile=nopeer") {
		list.Items = list.Items[:len(list.Items)-1] // without the group that only another API server has
	}
	body, err := json.Marshal(list)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	tag := fmt.Sprintf(`"%X"`, sha512.Sum512(body))
	h.Set("ETag", tag)
	h.Set("Vary", "Accept")
	h.Set("Cache-Control", "public")
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
	if len(body) < 128<<10 || !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Write(body)
		return
	}
	h.Set("Content-Encoding", "gzip")
	h.Add("Vary", "Accept-Encoding")
	zip, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
	zip.Write(body)
	zip.Close()
}

// serveOpenAPI serves the list of schemas, and the schema of apps/v1.
func serveOpenAPI(w http.ResponseWriter, r *http.Request) {
	var kinds []string
	for i := range 400 {
		kinds = append(kinds, fmt.Sprintf(
			`"io.k8s.api.apps.v1.Type%d": {"type": "object", "description": "Type %d of many."}`, i, i))
	}
	body := `{"openapi": "3.0.0", "components": {"schemas": {` + strings.Join(kinds, ", ") + `}}}`
	digest := fmt.Sprintf("%X", sha512.Sum512([]byte(body)))
	switch r.URL.Path {
	case "/openapi/v3":
		body = `{"paths": {"apis/apps/v1": {"serverRelativeURL": "/openapi/v3/apis/apps/v1?hash=` + digest + `"}}}`
		digest = fmt.Sprintf("%X", sha512.Sum512([]byte(body)))
	case "/openapi/v3/apis/apps/v1":
		w.Header().Set("Vary", "Accept")
		if r.URL.Query().Get("hash") == digest {
			w.Header().Set("Cache-Control", "public, immutable")
			w.Header().Set("Expires", time.Now().UTC().AddDate(1, 0, 0).Format(time.RFC1123))
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("ETag", `"`+digest+`"`)
	http.ServeContent(w, r, "", time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC), strings.NewReader(body))
}

// discovery returns the API of a cluster with a few operators installed.
func (f *fake) discovery(path string) *apidiscovery.APIGroupDiscoveryList {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := &apidiscovery.APIGroupDiscoveryList{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: "apidiscovery.k8s.io/v2"},
	}
	switch path {
	case "/api":
		list.Items = append(list.Items, group("", "v1", "Pod", "Service", "ConfigMap", "Secret", "Node"))
	case "/apis":
		list.Items = append(list.Items, group("apps", "v1", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"))
		for i := range f.groups {
			kind := fmt.Sprintf("Custom%d", i)
			list.Items = append(list.Items, group(fmt.Sprintf("operator-%d.example.com", i), "v1alpha1",
				kind+"Cluster", kind+"Policy", kind+"Backup", kind+"Restore"))
		}
	default:
		return nil
	}
	return list
}

func group(name, version string, kinds ...string) apidiscovery.APIGroupDiscovery {
	v := apidiscovery.APIVersionDiscovery{Version: version, Freshness: apidiscovery.DiscoveryFreshnessCurrent}
	for _, kind := range kinds {
		singular := strings.ToLower(kind)
		of := &metav1.GroupVersionKind{Group: name, Version: version, Kind: kind}
		v.Resources = append(v.Resources, apidiscovery.APIResourceDiscovery{
			Resource: singular + "s", SingularResource: singular, ResponseKind: of,
			Scope: apidiscovery.ScopeNamespace, Categories: []string{"all", name},
			Verbs: []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"},
			Subresources: []apidiscovery.APISubresourceDiscovery{
				{Subresource: "status", ResponseKind: of, Verbs: []string{"get", "patch", "update"}},
			},
		})
	}
	return apidiscovery.APIGroupDiscovery{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Versions: []apidiscovery.APIVersionDiscovery{v},
	}
}
