/*
Package cachetrip is a caching [http.RoundTripper]: a private HTTP cache (RFC
9111) inside a program, kept on disk or in memory.

	cache, err := cachetrip.Open(dir)
	if err != nil {
		return err
	}
	defer cache.Close()
	resp, err := cache.Client().Get("https://example.com/")

The cache answers a request where RFC 9111 allows that. [Transport.Base] makes
all other requests. A failure within the cache costs a request to the origin:
RoundTrip returns no error that it would not have returned without a cache, and
the caller gets no byte that the origin did not send. The section "Errors" names
the one exception. Section numbers below are those of RFC 9111.

# Keys and identity

A stored response is found by its primary key: the target URI and the identity
on whose behalf the request is made (section 2).

The URI is normalised only where no origin can tell the difference: the letter
case of scheme and host, the default port, an empty path. User information and
fragment are not part of it. If [http.Request.Host] differs from the URL's host,
both are part of the key. So the cache keeps apart what one server answers in
the name of another. Only an unsafe request with the same two hosts invalidates
it. GET and HEAD share a key. The key of a QUERY, or of a POST with
[Policy.CacheContent], also has the method, the content, and the fields that
describe the content (RFC 10008). [Policy.URL] can take the place of the URI.
Field names mean the same in any letter case, also in the
map that an [http.Header] is.

The identity is what [Transport.Identity] returns. Without that, it is the
values of Authorization and Proxy-Authorization. Each identity has, in effect, a
private cache of its own. Credentials are never stored; keyed digests stand for
them.

Put the cache below a transport that adds credentials, because the cache cannot
see credentials that are added below it. It may find out afterwards that a
request was sent with other credentials. Then it asks the origin before each
reuse of the response, and reuses it only if the request is sent with the same
credentials again. Identity lifts that, because it says whose the response is.
Under one identity, tokens may change: if the origin's Vary names Authorization,
what was stored for the last token is validated and then stored for the new one.

Cookies and client certificates do not identify. A response that depends on
cookies must say so in Vary. A program that acts for several users, and tells
them apart by either, sets Identity or uses a Transport with its own store for
each user.

SECURITY.md says what this protects from, and what it does not.

# Variants

If a response has a Vary field, the request fields that it names tell the
responses of one key apart (section 4.1). They are kept side by side. Field
values that mean the same, such as lists with other spacing, select the same
response. A compressed response is served only to requests that accept that
encoding. If net/http decodes a response for a request that asked for no
encoding, the decoded bytes are stored. Values of fields that may hold a secret
are kept as digests.

# What is stored

The cache stores responses to GET, HEAD and QUERY, and to a POST with
[Policy.CacheContent]. It also stores the response to a
POST that says that it is the content of its own target (RFC 9110, section
9.3.3). Nothing is stored if the request or the response has no-store. A
response is stored only if it can be of use later: it has a lifetime or a
validator, or it may be served stale. Errors are 401, 403, 407, 408 and 5xx.
An error never replaces a response that is not an error. Except for 501, it is
stored only if it states its lifetime or is marked public. The statuses 226, 428,
429, 431 and 511 are never stored, whatever the response says. A private cache
stores what is marked private and ignores s-maxage (section 3).

A body is stored while the caller reads it. If the caller closes it early, the
remaining bytes are read if they are few ([Transport.DrainBytes]). A truncated
body is never taken for a complete one. If the response has a strong validator
and the origin accepts byte ranges, the rest is requested with Range and
If-Range while the caller reads on, up to three times without progress. If that
fails, the caller gets the original error, the received part is kept, and the
next request asks only for the rest.

If a response has Content-Digest or Repr-Digest (RFC 9530) with sha-256 or
sha-512, its body is hashed while the caller reads it. A body that does not match
is given to its caller as it came, and is not stored. If the cache has joined the
body from parts, it ends in an error instead of io.EOF, and is dropped. Bodies
that net/http has decoded are not checked, and digests in a trailer are ignored.

# Freshness

A stored response is fresh while its age (section 4.2.3) is less than its
lifetime (section 4.2.1). The lifetime is max-age, or else Expires. Without
both, it is a tenth of the time since Last-Modified, where the status allows
that. Directives of the request (section 5.2.1) narrow or widen it.
[WithCacheControl] puts directives into a context, for a client library whose
header cannot be reached. A fresh response is served without a request to the
origin. [Policy.TTL] puts a lifetime of the program in the place of that of the
origin, and [Policy.Mode] chooses one of the cache modes of the Fetch standard.

If you need the current version, as a crawler does, send Cache-Control:
max-age=0 in the request or by [WithCacheControl]. Otherwise a page that says
that it is fresh for a day is served for a day, whatever happens to it. If
nothing has changed, max-age=0 costs a 304.

# Validation

A response that is no longer fresh is validated (section 4.3). The request then
carries If-None-Match, with the entity tags of every variant of the key, except
variants stored for a different secret. If there is no entity tag, it carries
If-Modified-Since.

A 304 tells which stored response is still good. Its header fields replace the
stored ones, except those that describe the stored bytes, and the caller gets
that response. Nothing of the body is transferred or rewritten. The fields are
stored while the caller reads: at the end of the body, or when the body or the
cache is closed. If the program exits before, the next run validates the
response again.

A 304 that matches nothing stored is disregarded, and the request is repeated
without conditions. A 304 to the caller's own conditions goes to the caller. Any
other response replaces what was stored, if it may be stored itself.

# Stale on purpose

A stale response is served in two cases. The request (max-stale) or the response
(stale-while-revalidate, stale-if-error, RFC 5861) allows it. Or
[Transport.StaleIfError] allows it, after the origin failed. A failure is an
error, an expired deadline, or a status of 500, 502, 503 or 504; for
[Transport.StaleIfError], any status of 500 or more, and a used-up rate limit
(429, or a 403 that says so). A response with
must-revalidate or no-cache is never served stale.

After stale-while-revalidate, the origin is asked in the background,
independently of the caller's context. At most 32 of these requests run at once,
and at most 8 to one origin. After a failure, the next one for the same response
starts 1 s later at the earliest. The pause doubles with each failure, up to 1
min. [Transport.Close] waits for them, but at most 3 s for a response that has
not begun.

# Invalidation

A successful response to a method that is not known to be safe invalidates
stored responses (section 4.4): those of its target, and those of the URLs in
Location and Content-Location, if they are on the same origin. They stay stored
and are validated before the next use. The same happens after
[Transport.Invalidate], and after a newer response that would have replaced them
but is not stored. [Transport.Purge] removes them.

A response with Cache-Groups belongs to groups of its origin (RFC 9875). The
Cache-Group-Invalidation of a response to an unsafe method, whatever its status,
invalidates all responses of the origin that belong to one of the named groups,
for every identity and in every process.

A response with No-Vary-Search also answers requests for URLs that differ from
its own only in parameters that the field names, or in their order (Internet
draft draft-ietf-httpbis-no-vary-search). An exact match comes first. All that
invalidates or purges one of these URLs concerns the responses of all.

# What happened

Each response tells in Cache-Status (RFC 9211) how it was obtained. [StatusOf]
reads that field. A response whose body came from the cache has X-From-Cache,
and no [http.Response.TLS], because no connection brought it. If you need the
certificate, send no-store. [Transport.Stats] counts. A [Trace] and a Logger
hear of each answered request, and of each response that is stored or not, with
the reason. [Transport.Explain] tells what would be done with a request, and
why, without doing it.

# Concurrency

A Transport is safe for concurrent use. Its fields must not be changed once it
is in use. Any number of Transports, in any number of processes, may use the
same directory at the same time.

Concurrent requests for the same thing, or the same range of it, share one
request to the origin, if nobody can tell the difference. A waiting request gets
the response to another request in two cases. Either the store could serve the
response to it at that moment. Or the response only lacks a lifetime, and has
neither must-revalidate nor no-cache, and the two requests have the same values
in all fields except those that trace a request. A response that sets cookies
and is not public is never shared. These requests wait for nobody: HEAD, several
ranges, no-cache, and max-age=0. A request with preconditions waits only if it
also validates a stored response, because a 304 to a caller's own preconditions
is no response for others.

A request waits for at most a quarter of the time that its own deadline leaves,
and at most [Transport.ShareTimeout]. Then it asks the origin itself, and so do
later requests. If a shared body stalls or breaks off, its readers ask for the
rest themselves. Errors are never shared. If a response cannot be shared, this
is remembered for 10 s, and requests do not wait. After a failure, the waiting
requests ask the origin 4 at a time.

# Errors

RoundTrip returns the error of Base, of ModifyResponse or of the request's
context. Reading a body returns the errors of the connection. If the store
cannot be read, that is a miss; if it cannot be written, nothing is stored.
[Stats] counts both by cause, and the Logger hears of each cause at warn level,
at most once a minute.

Checksums find damage on disk before a damaged byte is served. A large body is
verified piece by piece while it is read. So damage after the first piece ends
the read with an error, if the rest cannot be had from the origin; the next
request fetches the response anew.

A request with only-if-cached that no stored response can answer gets a 504
(section 5.2.1.7). [Status] tells it from a 504 of the origin. This also holds
where the cache has no part in the request: without a Store, after Close, or with
a safe method that is not cached. Unsafe methods are forwarded whatever the
request says (section 4).

# Compatibility

There is no release yet, and until v1.0.0 a minor version (v0.x) may break
anything below. CHANGELOG.md then says so under "Changed" and tells what to do.
From v1.0.0 on these promises hold within a major version:

  - API. A program that compiles goes on compiling, and its calls keep their documented
    meaning. This covers the exported names of this module's public packages. Structs may
    get fields, so name the fields in composite literals. Interfaces that you implement
    ([store.Store], its Body and Draft) do not get methods; new abilities are optional
    interfaces. Packages under internal, and the wording of errors, log records and
    explanations, are not covered.
  - Disk format. A version of the format has a directory of its own (v1). A program reads
    what another program with the same format version has written. A change that older
    programs would misread or remove gets a new directory, and the cache starts empty. The
    old one stays as it is for programs that still use it. It is removed when nobody has
    used it for eight days. A new format may come in a minor version, because a cache can be
    filled again. Nothing else on disk is an interface.
  - Cache-Status words. The parameters are those of RFC 9211. The words of fwd and detail,
    which [Status] and [StoreInfo] also carry, keep their meaning; new words may be added
    in a minor version. A program must accept words that it does not know.
  - Behaviour. The choice of responses to store, and for how long each is used, follows the
    RFCs. It may change in a minor version where it was wrong, or where the change saves a
    request without anybody noticing. Default limits and time budgets may change in a minor
    version.
    Security fixes may change anything.
  - Go. The go directive in go.mod names the oldest release of Go that works. Raising
    it is a minor version.
*/
package cachetrip
