package bodies_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
)

// ranged is what a caller sees of an answer.
type ranged struct {
	Status        int
	ContentRange  string
	ContentLength int64
	ContentType   string
	Validators    []string
	Body          string
	Parts         []string // of multipart/byteranges: Content-Range, Content-Type and content
}

// seen reads resp. The body of a 416 is a text for people, which a cache does
// not make up.
func seen(t testing.TB, resp *http.Response) ranged {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		t.Error(err)
	}
	got := ranged{
		Status: resp.StatusCode, ContentRange: resp.Header.Get("Content-Range"), ContentLength: resp.ContentLength,
		ContentType: resp.Header.Get("Content-Type"), Validators: []string{resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")},
		Body: string(body),
	}
	if length := resp.Header.Get("Content-Length"); length != "" && length != strconv.FormatInt(resp.ContentLength, 10) {
		t.Errorf("got Content-Length %s, and a length of %d", length, resp.ContentLength)
	}
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return ranged{Status: got.Status, ContentRange: got.ContentRange}
	}
	kind, params, _ := mime.ParseMediaType(got.ContentType)
	if kind != "multipart/byteranges" {
		return got
	}
	if int64(len(body)) != resp.ContentLength {
		t.Errorf("got %d bytes of %d", len(body), resp.ContentLength)
	}
	// The boundary is made up.
	got.ContentType, got.Body, got.ContentLength = kind, "", resp.ContentLength-int64(strings.Count(string(body), params["boundary"])*len(params["boundary"]))
	for r := multipart.NewReader(bytes.NewReader(body), params["boundary"]); ; {
		part, err := r.NextRawPart()
		if err == io.EOF {
			return got
		}
		if err != nil {
			t.Error(err)
			return got
		}
		b, err := io.ReadAll(part)
		if err != nil {
			t.Error(err)
		}
		got.Parts = append(got.Parts, part.Header.Get("Content-Range")+"|"+part.Header.Get("Content-Type")+"|"+string(b))
	}
}

// many returns a Range field with n ranges.
func many(n, step int) string {
	var b strings.Builder
	b.WriteString("bytes=")
	for i := range n {
		fmt.Fprintf(&b, "%d-%d,", i*step, i*step)
	}
	return strings.TrimSuffix(b.String(), ",")
}

// rangeFields are Range fields of all kinds, for contents of 0, 1, 100 and
// 100,000 bytes.
var rangeFields = []string{
	"bytes=0-", "bytes=0-0", "bytes=0-9", "bytes=5-5", "bytes=50-", "bytes=50-60", "bytes=99-", "bytes=99-99", "bytes=99-1000",
	"bytes=100-", "bytes=100-100", "bytes=1000-", "bytes=-1", "bytes=-5", "bytes=-100", "bytes=-101", "bytes=-1000000", "bytes=-0",
	"bytes=0-1000000", "bytes=0-99999", "bytes=99999-", "bytes=99990-100000", "bytes=0-9223372036854775806",
	"bytes=0-9,20-29", "bytes=20-29,0-9", "bytes=0-9,5-15", "bytes=0-9,0-9", "bytes=0-0,-1", "bytes=-1,0-0", "bytes=0-9,1000000-",
	"bytes=1000000-,0-9", "bytes=1000000-,2000000-", "bytes=0-49,0-49,0-49", "bytes=0-,0-", "bytes=0-99,1-1", "bytes=0-50,40-99",
	"bytes= 0-9", "bytes=0-9 ", "bytes=0-9 , 20-29", "bytes=0-9,", "bytes=,0-9", "bytes=,,0-9,,", "bytes=0- 9",
	many(10, 9), many(50, 2), many(200, 2), many(1000, 3),
}

// TestRangesAsServed: from a complete response, ranges are answered as
// net/http's own server does.
func TestRangesAsServed(t *testing.T) {
	modified := time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
	for _, size := range []int{0, 1, 100, 100_000} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				origin := harness.ServeContent(harness.Noise(size, 30), "ETag", `"1"`, "Last-Modified", modified)
				defer origin.Close()
				r.Get(origin.URL)
				asked := len(origin.Asked)
				for _, field := range rangeFields {
					for _, condition := range []string{"", `"1"`, `"2"`, `W/"1"`, modified, "Mon, 02 Jan 2006 15:04:05 GMT", "nonsense"} {
						fields := []string{"Range", field}
						if condition != "" {
							if len(field) > 40 || size == 1 {
								continue // once is enough
							}
							fields = append(fields, "If-Range", condition)
						}
						direct, err := r.HTTP.RoundTrip(r.Request(r.Context(), origin.URL, fields...))
						if err != nil {
							r.Fatal(err)
						}
						asked++
						want := seen(r, direct)
						resp := r.Send(r.Context(), origin.URL, fields...)
						got := seen(r, resp)
						// The exact length of a part's header may differ,
						// because net/http counts fields that it cannot send.
						if diff := cmp.Diff(want, got); diff != "" {
							r.Errorf("%q (-net/http +cache):\n%s", fields, diff)
						}
						if n := len(origin.Asked); n != asked {
							t.Logf("%q was forwarded", fields)
							asked = n
						} else {
							harness.WantStatus(r, resp, "hit")
						}
					}
				}
				// A HEAD has no ranges: RFC 9110, section 14.2.
				req := r.Request(r.Context(), origin.URL, "Range", "bytes=0-9")
				req.Method = "HEAD"
				resp, err := r.RoundTrip(req)
				if err != nil {
					r.Fatal(err)
				}
				resp.Body.Close()
				harness.WantStatus(r, resp, "hit")
				if resp.StatusCode != 200 || resp.ContentLength != int64(size) || resp.Header.Get("Content-Range") != "" {
					r.Errorf("HEAD: got %s of %d, %v", resp.Status, resp.ContentLength, resp.Header)
				}
			})
		})
	}
}

// TestRangesForwarded: malformed ranges and very many ranges go to the origin,
// which answers as without a cache.
func TestRangesForwarded(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		origin := harness.ServeContent(harness.Noise(10_000, 31), "ETag", `"1"`)
		defer origin.Close()
		r.Get(origin.URL)
		for _, field := range []string{
			"bytes", "bytes=", "bytes=x", "bytes=-", "bytes=9-0", "bytes=1-2-3", "bytes=0-9;20-29", "lines=0-9", "=0-9",
			"bytes=--1", "bytes=+1-2", "bytes=0x1-2", "bytes=99999999999999999999-", "bytes=0-99999999999999999999", many(5000, 2),
		} {
			direct, err := r.HTTP.RoundTrip(r.Request(r.Context(), origin.URL, "Range", field))
			if err != nil {
				r.Fatal(err)
			}
			want := seen(r, direct)
			if diff := cmp.Diff(want, seen(r, r.Send(r.Context(), origin.URL, "Range", field))); diff != "" {
				r.Errorf("%.40q (-net/http +cache):\n%s", field, diff)
			}
		}
		// Two Range fields mean nothing; the whole is stored.
		resp := r.Send(r.Context(), origin.URL, "Range", "bytes=0-9", "Range", "bytes=20-29")
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		resp, got := r.Get(origin.URL)
		harness.WantStatus(r, resp, "hit")
		harness.WantBody(r, got, harness.Noise(10_000, 31))
	})
}

// TestRangesAreKept: requested parts are stored, answer requests for their
// bytes, and make up the whole when all are there.
func TestRangesAreKept(t *testing.T) {
	modified := time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
	body := harness.Noise(100, 32)
	type step struct {
		field string // "" for all
		asks  string // the range requested from the origin, "-" if none is sent, "all" without Range
		want  int
	}
	for _, test := range []struct {
		name   string
		fields []string
		steps  []step
	}{
		{"in order", []string{"ETag", `"1"`}, []step{
			{"bytes=0-49", "bytes=0-49", 206},
			{"bytes=0-49", "-", 206},
			{"bytes=10-19,30-39", "-", 206},
			{"bytes=40-59", "bytes=40-59", 206},
			{"bytes=45-55", "-", 206},
			{"bytes=60-", "bytes=60-", 206},
			{"", "-", 200},
			{"bytes=-10", "-", 206},
		}},
		{"out of order", []string{"ETag", `"1"`}, []step{
			{"bytes=-20", "bytes=-20", 206},
			{"bytes=90-", "-", 206},
			{"bytes=-5", "-", 206},
			{"bytes=30-39", "bytes=30-39", 206},
			{"bytes=0-29", "bytes=0-29", 206},
			{"bytes=25-35", "-", 206},
			{"bytes=0-10,85-", "-", 206},
			{"bytes=35-45", "bytes=35-45", 206},
			{"bytes=200-", "-", 416},
			{"bytes=46-79", "bytes=46-79", 206},
			{"", "-", 200},
		}},
		{"by date", []string{"Last-Modified", modified}, []step{
			{"bytes=0-49", "bytes=0-49", 206},
			{"bytes=50-", "bytes=50-", 206},
			{"", "-", 200},
		}},
		{"the end is missing", []string{"ETag", `"1"`}, []step{
			{"bytes=0-49", "bytes=0-49", 206},
			{"", "bytes=50-", 200},
			{"", "-", 200},
		}},
		{"the beginning is missing", []string{"ETag", `"1"`}, []step{
			{"bytes=50-", "bytes=50-", 206},
			{"", "bytes=0-49", 200},
			{"", "-", 200},
		}},
		{"the middle is missing", []string{"ETag", `"1"`}, []step{
			{"bytes=0-29", "bytes=0-29", 206},
			{"bytes=-30", "bytes=-30", 206},
			{"", "bytes=30-69", 200},
			{"", "-", 200},
			{"bytes=25-75", "-", 206},
		}},
		{"all but the middle is missing", []string{"ETag", `"1"`}, []step{
			{"bytes=40-59", "bytes=40-59", 206},
			{"", "all", 200},
			{"", "-", 200},
		}},
		{"two gaps", []string{"ETag", `"1"`}, []step{
			{"bytes=0-19", "bytes=0-19", 206},
			{"bytes=40-59", "bytes=40-59", 206},
			{"bytes=80-", "bytes=80-", 206},
			{"", "bytes=20-79", 200},
			{"", "-", 200},
		}},
		{"no validator, so that nothing is joined", nil, []step{
			{"bytes=0-49", "bytes=0-49", 206},
			{"bytes=10-19", "-", 206},
			{"bytes=50-", "bytes=50-", 206},
			{"", "all", 200},
			{"", "-", 200},
		}},
		{"a weak tag, so that nothing is joined", []string{"ETag", `W/"1"`}, []step{
			{"bytes=0-49", "bytes=0-49", 206},
			{"bytes=50-", "bytes=50-", 206},
			{"", "all", 200},
		}},
		{"several at once are not kept", []string{"ETag", `"1"`}, []step{
			{"bytes=0-49,60-", "bytes=0-49,60-", 206},
			{"bytes=0-9", "bytes=0-9", 206},
		}},
		{"a part does not replace the whole", []string{"ETag", `"1"`}, []step{
			{"", "all", 200},
			{"bytes=0-9", "-", 206},
			{"", "-", 200},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				origin := harness.ServeContent(body, test.fields...)
				defer origin.Close()
				for i, step := range test.steps {
					var fields []string
					if step.field != "" {
						fields = []string{"Range", step.field}
					}
					direct, err := r.HTTP.RoundTrip(r.Request(r.Context(), origin.URL, fields...))
					if err != nil {
						r.Fatal(err)
					}
					want := seen(r, direct)
					before := len(origin.Asked)
					resp := r.Send(r.Context(), origin.URL, fields...)
					got := seen(r, resp)
					if diff := cmp.Diff(want, got); diff != "" || got.Status != step.want {
						r.Errorf("step %d, %q (-net/http +cache):\n%s", i, step.field, diff)
					}
					asks := "-"
					if n := len(origin.Asked); n > before+1 {
						r.Errorf("step %d, %q: asks for %q", i, step.field, origin.Asked[before:])
					} else if n > before {
						if asks = origin.Asked[before]; asks == "" {
							asks = "all"
						}
					}
					if asks != step.asks {
						r.Errorf("step %d, %q: asks for %q, want %q", i, step.field, asks, step.asks)
					}
					if (step.asks == "-") != cachetrip.StatusOf(resp).Hit {
						r.Errorf("step %d, %q: got %q", i, step.field, resp.Header.Get("Cache-Status"))
					}
				}
			})
		})
	}
}

// A Range in a HEAD means nothing, but many servers answer it as in a GET. Such
// a response concerns no other request.
func TestRangeOfAHead(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		content := strings.Repeat("x", 100)
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			harness.Tagged(`"1"`, content, "Cache-Control", "max-age=60")(rw, r)
		})
		head := func(want string, fields ...string) {
			t.Helper()
			r := w.Do(w.Request("HEAD", "/", fields...))
			harness.Check(w, "HEAD "+strings.Join(fields, " "), fmt.Sprint(r, ", of ", r.Header.Get("Content-Length")), want)
		}
		part, beyond := []string{"Range", "bytes=0-1"}, []string{"Range", "bytes=100-"}
		head("206  | fwd=uri-miss; fwd-status=206; detail=status, of 2", part...)
		w.WantDo("416  | fwd=uri-miss; fwd-status=416; detail=status", w.Request("HEAD", "/", beyond...))
		head("200  | fwd=uri-miss; fwd-status=200; stored, of 100")
		head("200  | hit, of 100", part...)
		for _, fields := range [][]string{part, beyond} {
			w.Do(w.Request("HEAD", "/", append(fields, "Cache-Control", "no-cache")...))
			head("200  | hit, of 100")
		}
		w.WantGet("200 "+content+" | fwd=uri-miss; fwd-status=200; stored", "/")
		for _, fields := range [][]string{part, beyond} {
			w.Do(w.Request("HEAD", "/", append(fields, "Cache-Control", "no-cache")...))
			w.WantGet("200 "+content+" | hit", "/")
		}
	})
}

// TestPartsThatDisagree: a 206 that does not belong to the stored part, or
// contradicts its own header, is never joined to it.
func TestPartsThatDisagree(t *testing.T) {
	was, is := harness.Noise(1000, 33), harness.Noise(1000, 34)
	rangeOf := func(from, to, total int) string {
		return fmt.Sprintf("Content-Range: bytes %d-%d/%d", from, to-1, total)
	}
	for _, test := range []struct {
		name   string
		answer func(c *harness.RawCall) // to bytes=500-, of the present content
	}{
		{"another tag", func(c *harness.RawCall) { c.Part(is, 500, 1000, harness.Fresh, `ETag: "2"`) }},
		{"a weak tag", func(c *harness.RawCall) { c.Part(is, 500, 1000, harness.Fresh, `ETag: W/"1"`) }},
		{"no tag", func(c *harness.RawCall) { c.Part(is, 500, 1000, harness.Fresh) }},
		{"another total", func(c *harness.RawCall) { c.Part(append(bytes.Clone(is), 1), 500, 1001, harness.Fresh, harness.Tag) }},
		{"another coding", func(c *harness.RawCall) { c.Part(is, 500, 1000, harness.Fresh, harness.Tag, "Content-Encoding: br") }},
		{"no Content-Range", func(c *harness.RawCall) {
			c.Head(206, harness.Fresh, harness.Tag, "Content-Length: 500")
			c.Content(is[500:])
		}},
		{"two Content-Ranges", func(c *harness.RawCall) { c.Part(is, 500, 1000, harness.Fresh, harness.Tag, rangeOf(0, 500, 1000)) }},
		{"a range beyond the total", func(c *harness.RawCall) {
			c.Head(206, harness.Fresh, harness.Tag, rangeOf(500, 1001, 1000), "Content-Length: 500")
			c.Content(is[500:])
		}},
		{"a range that ends before it begins", func(c *harness.RawCall) {
			c.Head(206, harness.Fresh, harness.Tag, "Content-Range: bytes 500-499/1000", "Content-Length: 500")
			c.Content(is[500:])
		}},
		{"less than the range says", func(c *harness.RawCall) {
			c.Head(206, harness.Fresh, harness.Tag, rangeOf(500, 1000, 1000), "Content-Length: 400")
			c.Content(is[500:900])
		}},
		{"more than the range says", func(c *harness.RawCall) {
			c.Head(206, harness.Fresh, harness.Tag, rangeOf(500, 900, 1000), "Content-Length: 500")
			c.Content(is[500:])
		}},
		{"less than the range says, in chunks", func(c *harness.RawCall) {
			c.Head(206, harness.Fresh, harness.Tag, rangeOf(500, 1000, 1000), "Transfer-Encoding: chunked")
			c.Write("190\r\n")
			c.Content(is[500:900])
			c.Write("\r\n0\r\n\r\n")
		}},
		{"more than the range says, in chunks", func(c *harness.RawCall) {
			c.Head(206, harness.Fresh, harness.Tag, rangeOf(500, 900, 1000), "Transfer-Encoding: chunked")
			c.Write("1f4\r\n")
			c.Content(is[500:])
			c.Write("\r\n0\r\n\r\n")
		}},
		{"nothing, it says", func(c *harness.RawCall) {
			c.Head(206, harness.Fresh, harness.Tag, rangeOf(0, 1000, 1000), "Content-Length: 0")
		}},
		{"nothing, it says, without a validator", func(c *harness.RawCall) {
			c.Head(206, harness.Fresh, rangeOf(0, 1000, 1000), "Content-Length: 0")
		}},
		{"all but one byte, without a validator", func(c *harness.RawCall) {
			c.Head(206, harness.Fresh, rangeOf(0, 1000, 1000), "Content-Length: 999")
			c.Content(is[:999])
		}},
		{"several parts", func(c *harness.RawCall) {
			text := "--x\r\n" + rangeOf(500, 510, 1000) + "\r\n\r\n0123456789\r\n--x--\r\n"
			c.Head(206, harness.Fresh, harness.Tag, "Content-Type: multipart/byteranges; boundary=x", "Content-Length: "+strconv.Itoa(len(text)))
			c.Content([]byte(text))
		}},
		{"several parts, and a range", func(c *harness.RawCall) {
			c.Part(is, 500, 1000, harness.Fresh, harness.Tag, "Content-Type: multipart/byteranges; boundary=x")
		}},
		{"broken off", func(c *harness.RawCall) {
			c.Head(206, harness.Fresh, `ETag: "2"`, rangeOf(500, 1000, 1000), "Content-Length: 500")
			c.Content(is[500:700])
			c.HangUp()
		}},
		{"not to be stored", func(c *harness.RawCall) { c.Part(is, 500, 1000, "Cache-Control: no-store", harness.Tag) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				var answers []string
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					answers = append(answers, c.Header.Get("Range"))
					switch {
					case c.N == 0:
						c.Part(was, 0, 500, harness.Fresh, harness.Tag)
					case c.N == 1:
						test.answer(c)
					case c.Header.Get("Range") == "":
						c.Whole(is, harness.Fresh, `ETag: "2"`)
					case c.Header.Get("If-Range") != "" && c.Header.Get("If-Range") != `"2"`:
						c.Whole(is, harness.Fresh, `ETag: "2"`)
					default:
						var from, to int
						if n, _ := fmt.Sscanf(c.Header.Get("Range"), "bytes=%d-%d", &from, &to); n < 2 {
							to = 999
						}
						c.Part(is, from, to+1, harness.Fresh, `ETag: "2"`)
					}
				})
				defer origin.Close()
				if _, got := r.Get(origin.URL(), "Range", "bytes=0-499"); !bytes.Equal(got, was[:500]) {
					r.Errorf("got %d bytes", len(got))
				}
				direct := r.Send(r.Context(), origin.URL(), "Range", "bytes=500-")
				io.Copy(io.Discard, direct.Body) // which is what the origin sent, as without a cache
				direct.Body.Close()
				// All bytes that are served now are of one representation.
				resp, got := r.Get(origin.URL())
				if !bytes.Equal(got, is) || resp.Header.Get("ETag") != `"2"` {
					r.Errorf("got %d bytes, %s, %q; the origin was asked for %q", len(got), resp.Header.Get("ETag"), resp.Header.Get("Cache-Status"), answers)
				}
				resp, got = r.Get(origin.URL(), "Range", "bytes=400-599")
				harness.WantBody(r, got, is[400:600])
				if resp.StatusCode != 206 {
					r.Errorf("got %s", resp.Status)
				}
			})
		})
	}
}

// TestManyRanges: thousands of ranges cost little memory, whether the cache or
// the origin answers them.
func TestManyRanges(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		origin := harness.ServeContent(harness.Noise(1<<20, 35), "ETag", `"1"`)
		defer origin.Close()
		r.Get(origin.URL)
		for _, n := range []int{1000, 1024, 1025, 20_000} {
			resp, got := r.Get(origin.URL, "Range", many(n, 3))
			if resp.StatusCode != 206 || len(got) == 0 {
				r.Errorf("%d ranges: got %s", n, resp.Status)
			}
			if hit := cachetrip.StatusOf(resp).Hit; hit != (n <= 1024) {
				r.Errorf("%d ranges: hit: %t", n, hit)
			}
		}
		resp, got := r.Get(origin.URL, "Range", "bytes="+strings.Repeat("0-,", 1000)+"0-")
		harness.WantStatus(r, resp, "hit")
		if resp.StatusCode != 200 || len(got) != 1<<20 {
			r.Errorf("the same 1001 times: got %s of %d", resp.Status, len(got))
		}
	})
}

// TestManyParts: parts that are requested one after another stay stored. If
// there are too many, the last and the largest stay.
func TestManyParts(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		body := harness.Noise(200_000, 80)
		origin := harness.ServeContent(body, "ETag", `"1"`)
		defer origin.Close()
		const parts, kept = 100, 64
		part := func(i int) string {
			if i == 0 {
				return "bytes=0-4999" // larger than the others
			}
			return fmt.Sprintf("bytes=%d-%d", 5000+i*1000, 5000+i*1000+999)
		}
		for i := range parts {
			r.Get(origin.URL, "Range", part(i))
		}
		for i := range parts {
			if i > 0 && i <= parts-kept {
				continue
			}
			resp, got := r.Get(origin.URL, "Range", part(i))
			harness.WantStatus(r, resp, "hit")
			if i > 0 {
				harness.WantBody(r, got, body[5000+i*1000:][:1000])
			}
		}
		resp, got := r.Get(origin.URL, "Range", part(1))
		harness.WantStatus(r, resp, "!hit")
		harness.WantBody(r, got, body[6000:7000])
	})
}

// TestPartOfAnotherCoding: the whole came compressed and was decoded by
// net/http; a part comes without compression. Another entity tag of the part
// leaves the whole stored. Another date of last modification does not.
func TestPartOfAnotherCoding(t *testing.T) {
	const yesterday, today = "Sat, 01 Aug 2026 10:00:00 GMT", "Sun, 02 Aug 2026 10:00:00 GMT"
	body := harness.Noise(10_000, 81)
	for _, test := range []struct {
		name, whole, part string
		hit               bool
	}{
		{name: "no date", hit: true},
		{name: "one date", whole: yesterday, part: yesterday, hit: true},
		{name: "another date", whole: yesterday, part: today},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				r.HTTP.DisableCompression = false
				origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					h := w.Header()
					h.Set("Cache-Control", "max-age=3600")
					date := test.whole
					h.Set("ETag", `"whole"`)
					if req.Header.Get("Range") != "" {
						date = test.part
						h.Set("ETag", `"part"`)
					}
					if date != "" {
						h.Set("Last-Modified", date)
					}
					if req.Header.Get("Range") != "" {
						h.Set("Content-Range", fmt.Sprintf("bytes 0-9/%d", len(body)))
						w.WriteHeader(206)
						w.Write(body[:10])
						return
					}
					h.Set("Content-Encoding", "gzip")
					z := gzip.NewWriter(w)
					z.Write(body)
					z.Close()
				}))
				defer origin.Close()
				_, got := r.Get(origin.URL)
				harness.WantBody(r, got, body)
				_, got = r.Get(origin.URL, "Range", "bytes=0-9")
				harness.WantBody(r, got, body[:10])
				resp, got := r.Get(origin.URL)
				harness.WantBody(r, got, body)
				if hit := cachetrip.StatusOf(resp).Hit; hit != test.hit {
					r.Errorf("got a hit: %t, want %t", hit, test.hit)
				}
			})
		})
	}
}
