package cachetrip

import (
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/cachetrip/cachetrip/internal/download"
	"github.com/cachetrip/cachetrip/internal/guard"
	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/cachetrip/cachetrip/internal/stored"
	"github.com/cachetrip/cachetrip/store"
)

// Storing the content of a response while callers read it: RFC 9111, section 3.

// recording stores the content of a response while it is read.
type recording struct {
	reply     *originReply
	entry     *store.Entry   // the entry to be stored
	given     *http.Response // the response of Base; its trailer is complete at the end
	brings    span.Span      // the span of the content that the response brings
	isPartial bool           // there is other content around it
	resumable bool           // the beginning can be stored, because the rest can be requested later
	rests     *rests         // the headers of rests, if the transfer breaks

	draft  *guard.Draft
	begins int64        // the position where the content in draft begins
	beside []store.Part // the stored parts beside draft
}

// record stores the content of the response while it is read. e is its entry,
// and brings the span of the content that it has. If held is not nil, the
// response brings the part of the content that held lacks. If it then cannot be
// recorded, callers could not get the content of held. So record returns a zero
// result, and the whole must be requested.
func (a *originReply) record(e *store.Entry, brings span.Span, held *stored.Content) result {
	rec := &recording{reply: a, entry: e, given: givenBy(a.resp), brings: brings}
	rec.isPartial = held != nil || a.resp.StatusCode == http.StatusPartialContent
	o := rec.result(held != nil)
	if held == nil && a.resp.Body == http.NoBody {
		e.Length = 0
		o.detail = a.storeEntry(a.x.lasting(), e, "")
		o.unsaved = o.detail != ""
		a.shared.Hide()
		return o
	}
	if op, err := rec.openDraft(held); err != nil {
		return rec.unrecorded(op, err, held)
	}
	rec.rests = &rests{reply: a, entry: e}
	rec.resumable = o.response.continuable() && (held != nil || a.takesRanges())
	// Readers of a part count from the beginning of the part, so their transfer
	// cannot be continued.
	o.continues = rec.resumable && a.resp.StatusCode != http.StatusPartialContent && a.sent.Method != http.MethodPost
	config := rec.config(held)
	if o.continues {
		config.Again = a.continuation(a.shared.Context(), o.response, brings.End, rec.rests)
	}
	o.download = download.New(config)
	return o
}

// result returns the result for callers, without the download.
func (rec *recording) result(resumes bool) result {
	resp := rec.reply.resp
	o := result{
		resp: resp, entry: rec.entry, sent: rec.reply.sentEvent, arrived: rec.reply.arrivedEvent, brings: rec.brings, resumes: resumes,
		announced: resp.ContentLength, trailer: resp.Trailer.Clone(), given: rec.given,
	}
	if resp.StatusCode == http.StatusPartialContent {
		o.response = newResponse(rec.entry)
		o.response.held = []span.Span{rec.brings}
	} else {
		o.response = asComplete(rec.entry)
	}
	o.audience = rec.reply.noteAudience(&o.response)
	return o
}

// openDraft opens a draft in the store. With an error it returns the operation.
func (rec *recording) openDraft(held *stored.Content) (op string, err error) {
	rec.begins = rec.brings.Start
	length := int64(-1)
	if rec.brings.End >= 0 {
		length = rec.brings.Length()
	}
	if held != nil {
		// A body in very many parts becomes one part before it gets another.
		if len(held.Parts()) >= maxParts && rec.brings.End == rec.entry.Length {
			rec.begins, length = 0, rec.entry.Length
		} else {
			rec.beside = held.Parts()
		}
	}
	if !rec.reply.x.store().Fits(rec.entry) {
		return "store", store.ErrTooLarge
	}
	rec.draft, err = rec.reply.x.store().Create(rec.reply.x.lasting(), rec.reply.x.key, length)
	return "create", err
}

// unrecorded returns the result of a response that the store has no room for.
func (rec *recording) unrecorded(op string, err error, held *stored.Content) result {
	if held == nil {
		return rec.reply.x.unshared(rec.reply.shared, result{resp: rec.reply.resp, detail: rec.reply.failedToStore(op, rec.entry, err)})
	}
	held.Close()
	if !errors.Is(err, store.ErrTooLarge) { // the whole is requested now, and storing it will report the reason
		rec.reply.x.storeFailed(op, err)
	}
	return result{}
}

// config returns the Config of the download, without Again.
func (rec *recording) config(held *stored.Content) download.Config {
	t := rec.reply.x.t
	c := download.Config{
		Source: rec.reply.resp.Body, Draft: rec.draft, Span: rec.brings, Length: rec.entry.Length,
		Endless:  isStream(rec.entry.Header),
		Broken:   transferBroken,
		Lost:     rec.reply.shared.Hide,
		Panicked: t.panicked,
		Finish: func(r download.Result) {
			defer rec.reply.shared.Hide()
			t.shielded(func() { rec.finish(r) }) // a hook that panics must not harm readers
		},
		Received: &t.counters.bytesReceived, Stragglers: &t.stragglers,
	}
	if held != nil {
		c.Held, c.CopyHeld = held, rec.begins < rec.brings.Start
		return c
	}
	// Readers of a part get only the part.
	c.Span = span.Of(0, -1)
	if rec.brings.End >= 0 {
		c.Span.End = rec.brings.Length()
	}
	c.Length = c.Span.End
	return c
}

// finish stores the content that arrived, if it is of use.
func (rec *recording) finish(r download.Result) {
	e, forbidden := rec.rests.joined()
	taken := span.Of(rec.begins, rec.brings.Start+r.Taken)
	switch {
	case rec.reply.x.t.guard.IsShut():
		rec.reply.x.notStored(e.Status, e.Length, "closed", nil)
	case r.Refused == download.ErrAbandoned:
		rec.reply.x.notStored(e.Status, e.Length, "incomplete", nil)
	case r.Refused != nil:
		rec.reply.failedToStore("write", e, r.Refused)
	case r.End == download.ErrLength:
		rec.reply.x.notStored(e.Status, e.Length, "length", nil)
	case forbidden != "": // the rest may not be stored, and the origin no longer sends this response
		rec.reply.x.notStored(e.Status, e.Length, forbidden, nil)
		response := newResponse(e)
		rec.reply.outdateReplaced(&response)
	case r.End == io.EOF:
		all := e.Clone()
		all.Trailer = rec.reply.withoutCookies(rec.given.Trailer).Clone()
		if rec.isPartial {
			withoutContentDigests(all.Trailer)
		}
		if rec.brings.End < 0 {
			all.Length = taken.End
		}
		rec.commit(all, taken)
	case rec.resumable && r.Broken && taken.Length() > 0:
		rec.commit(e.Clone(), taken)
	default:
		rec.reply.x.notStored(e.Status, e.Length, "incomplete", nil)
	}
}

// commit stores e with the stretch of its content that is in the draft.
func (rec *recording) commit(e *store.Entry, taken span.Span) {
	blob, err := rec.draft.Commit()
	if err != nil {
		rec.reply.failedToStore("commit", e, err)
		return
	}
	if rec.beside != nil {
		e.Parts = rec.beside
	}
	if taken.Length() > 0 {
		e.Parts = joinParts(e.Parts, store.Part{Offset: taken.Start, Length: taken.Length(), Blob: blob})
	}
	rec.reply.storeEntry(rec.draft.Waiting(), e, blob.ID)
}

// isStream reports whether content is a stream of events. Its end is not near
// when its reader leaves.
func isStream(h http.Header) bool {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.Trim(kind, " \t"), "text/event-stream")
}

// takesRanges reports whether the origin is known to answer Range requests for the response.
func (a *originReply) takesRanges() bool {
	return a.resp.StatusCode == http.StatusPartialContent ||
		strings.EqualFold(strings.Join(a.resp.Header["Accept-Ranges"], ","), "bytes")
}
