package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// ociTool is a machine without a memory of its own that pulls images every day
// for two weeks: the manifest of a tag, the one of its platform, the
// configuration and the layers. Its bearer tokens last for one pull.
//
// The registry of the CNCF sends blobs with Cache-Control: max-age=31536000 and
// their digest as the entity tag (distribution/distribution,
// registry/storage/blobserver.go). With cloud storage, it redirects with 307 to
// an address with a signature that differs each time. Manifests have their
// digest as the entity tag and no lifetime.
func ociTool() *tool {
	r := rand.New(rand.NewPCG(seedOf("oci"), 1))
	t := &tool{pages: make(map[string]*page)}
	const span = 14 * 24 * time.Hour
	for image := range 6 {
		name := fmt.Sprintf("v2/image%d/", image)
		redirects := image >= 3 // to cloud storage
		tag := &page{size: 2_000, tag: strongTag}
		for at := time.Duration(r.Int64N(int64(span / 2))); at < span; at += time.Duration(2+r.IntN(6)) * 24 * time.Hour {
			tag.changes = append(tag.changes, at)
		}
		t.pages[name+"manifests/latest"] = tag
		t.pages["token"] = &page{size: 2_500, cacheControl: "no-store"}
		blob := func(digest string, size int64) string {
			path := name + "blobs/" + digest
			if t.pages[path] != nil {
				return path
			}
			p := &page{size: size, cacheControl: "max-age=31536000", tag: strongTag}
			if redirects {
				stored := "storage/" + digest
				t.pages[stored] = &page{size: size, tag: strongTag, dated: true}
				p = &page{status: http.StatusTemporaryRedirect,
					location: func(at time.Duration) string { return fmt.Sprintf("%s?sig=%x", stored, seedOf(digest+at.String())) }}
			}
			t.pages[path] = p
			return path
		}
		base := []int64{300_000 + int64(r.IntN(500_000)), 200_000 + int64(r.IntN(300_000)), 50_000}
		for _, at := range every(24*time.Hour, span) {
			version := tag.version(at)
			bearer := fmt.Sprintf("Bearer %x", seedOf(name+at.String()))
			manifest := fmt.Sprintf("%smanifests/sha256-%d-%d", name, image, version)
			t.pages[manifest] = &page{size: 3_000, tag: strongTag}
			paths := []string{name + "manifests/latest", manifest, blob(fmt.Sprintf("config-%d-%d", image, version), 8_000)}
			for layer, size := range base { // the lower layers stay
				paths = append(paths, blob(fmt.Sprintf("layer-%d-%d", image, layer), size))
			}
			paths = append(paths, blob(fmt.Sprintf("top-%d-%d", image, version), 150_000))
			t.calls = append(t.calls, call{at: at, path: "token"})
			for _, path := range paths {
				accept := "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
				t.calls = append(t.calls, call{at: at + time.Second, path: path, accept: accept, token: bearer})
			}
		}
	}
	return t.sorted()
}
