package cachetrip

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip/internal/digest"
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
	saves  *checkpoints  // nil if there are none
	begins int64         // the position where the content in draft begins
	beside []store.Part  // the stored parts beside draft
	held   []store.Part  // the stored parts that the content is joined with
	check  *digest.Check // the digests of the content; nil if there are none
	ofRest bool          // check is that of the response alone, and not of the stored parts
}

// record stores the content of the response while it is read. e is its entry,
// and brings the span of the content that it has. If held is not nil, the
// response brings the part of the content that held lacks. If it then cannot be
// recorded, callers could not get the content of held. So record returns a zero
// result, and the whole must be requested. check has the digests of the
// content, or ofRest says that it has only those of the part that the response
// brings.
func (a *originReply) record(e *store.Entry, brings span.Span, held *stored.Content, check *digest.Check, ofRest bool) result {
	rec := &recording{reply: a, entry: e, given: givenBy(a.resp), brings: brings, check: check, ofRest: ofRest}
	a.cover(e.Header)
	rec.isPartial = held != nil || a.resp.StatusCode == http.StatusPartialContent
	o := rec.result(held != nil)
	if held == nil && a.resp.Body == http.NoBody {
		e.Length = 0
		if wrong := check.Wrong(0); wrong != nil {
			a.x.notStored(e.Status, 0, "digest", wrong)
			return a.x.unshared(a.shared, result{resp: a.resp, detail: "digest"})
		}
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
		o.response = rec.reply.x.rules.policy.of(asComplete(rec.entry, rec.reply.like))
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
		rec.held = held.Parts()
		// A body in very many parts becomes one part before it gets another. So
		// does the beginning of a file that has room for all.
		if (len(held.Parts()) >= maxParts || hasRoom(held.Parts())) && rec.brings.End == rec.entry.Length {
			rec.begins, length = 0, rec.entry.Length
		} else {
			rec.beside = held.Parts()
		}
	}
	limit := rec.reply.x.rules.policy.MaxBodyBytes
	if limit > 0 && max(length, rec.entry.Length) > limit {
		return "store", store.ErrTooLarge
	}
	rec.draft, err = rec.reply.x.store().Create(rec.reply.x.lasting(), rec.reply.x.key, length, rec.entry)
	return "create", err
}

// hasRoom reports whether a part is the beginning of a blob that a checkpoint
// made: the file of the blob counts with its full size.
func hasRoom(parts []store.Part) bool {
	return slices.ContainsFunc(parts, func(p store.Part) bool {
		return p.Skip == 0 && p.Blob.Inline == nil && p.Blob.Size-p.Length >= checkpointBytes
	})
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
		Source: rec.reply.resp.Body, Draft: rec.limited(), Span: rec.brings, Length: rec.entry.Length,
		Check:    rec.check,
		OfRest:   rec.ofRest,
		Endless:  isStream(rec.entry.Header),
		Broken:   transferBroken,
		Lost:     rec.reply.shared.Hide,
		Panicked: t.panicked,
		Finish: func(r download.Result) {
			defer rec.reply.shared.Hide()
			t.shielded(func() { rec.finish(r) }) // a hook that panics must not harm readers
		},
		Received: &t.counters.bytesReceived, Served: &t.counters.bytesServed, Stragglers: &t.stragglers,
	}
	if held != nil {
		c.Held, c.CopyHeld = held, rec.begins < rec.brings.Start
		c.Mismatched = func(wrong error) { t.shielded(func() { rec.reply.x.dropWrong(rec.held, wrong) }) }
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

// limited returns the draft, with the limit of the policy for content of
// unknown length, or with checkpoints for long content.
func (rec *recording) limited() download.Draft {
	if rec.resumable && rec.brings.End >= 0 && rec.brings.Length() >= 2*checkpointBytes {
		rec.saves = &checkpoints{
			Draft: rec.draft, reply: rec.reply, rests: rec.rests, beside: rec.beside, begins: rec.begins, last: time.Now(),
		}
		return rec.saves
	}
	if limit := rec.reply.x.rules.policy.MaxBodyBytes; limit > 0 && rec.brings.End < 0 {
		return &limitedDraft{rec.draft, limit - rec.begins}
	}
	return rec.draft
}

// limitedDraft is a draft that takes no more than a number of bytes.
type limitedDraft struct {
	*guard.Draft
	left int64
}

// Write implements [download.Draft].
func (d *limitedDraft) Write(p []byte) (int, error) {
	if d.left -= int64(len(p)); d.left < 0 {
		return 0, store.ErrTooLarge
	}
	return d.Draft.Write(p)
}

// finish stores the content that arrived, if it is of use.
func (rec *recording) finish(r download.Result) {
	e, forbidden := rec.rests.joined()
	taken := span.Of(rec.begins, rec.brings.Start+r.Taken)
	wrong, _ := errors.AsType[*digest.Mismatch](r.End)
	switch {
	case rec.reply.x.t.guard.IsShut():
		rec.reply.x.notStored(e.Status, e.Length, "closed", nil)
	case wrong != nil:
		rec.saves.forget()
		rec.reply.x.notStored(e.Status, e.Length, "digest", wrong)
		rec.reply.x.noteAudience(nobody) // others may get a better body by themselves
		if rec.held != nil {
			rec.reply.x.dropWrong(rec.held, wrong)
		}
	case r.Refused == download.ErrAbandoned:
		rec.reply.x.notStored(e.Status, e.Length, "incomplete", nil)
	case r.Refused != nil:
		rec.reply.failedToStore("write", e, r.Refused)
	case r.End == download.ErrLength:
		rec.saves.forget()
		rec.reply.x.notStored(e.Status, e.Length, "length", nil)
	case forbidden != "": // the rest may not be stored, and the origin no longer sends this response
		rec.saves.forget()
		rec.reply.x.notStored(e.Status, e.Length, forbidden, nil)
		response := newResponse(e)
		rec.reply.outdateReplaced(&response)
	case r.End == io.EOF:
		all := new(store.Entry)
		*all = *e // the shared parts never change
		all.Trailer = rec.reply.withoutCookies(rec.given.Trailer).Clone()
		if rec.isPartial {
			withoutContentDigests(all.Trailer)
		}
		if rec.brings.End < 0 {
			all.Length = taken.End
		}
		if rec.held != nil && r.Checked {
			noteChecked(all)
		}
		rec.commit(all, taken)
	case rec.resumable && r.Broken && taken.Length() > 0:
		// Policy.TTL governs complete responses only.
		if part := newResponse(e); part.mustNotStore() {
			rec.saves.forget()
			rec.reply.x.notStored(e.Status, e.Length, "no-store", nil)
			return
		}
		rec.commit(e.Clone(), taken)
	default:
		rec.saves.forget()
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

// takesRanges reports whether the origin is known to answer Range requests for
// the response.
func (a *originReply) takesRanges() bool {
	return a.resp.StatusCode == http.StatusPartialContent ||
		strings.EqualFold(strings.Join(a.resp.Header["Accept-Ranges"], ","), "bytes")
}
