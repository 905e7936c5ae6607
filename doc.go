/*
Package cachetrip is a caching [http.RoundTripper]: a private HTTP cache (RFC 9111) for the inside of
a program, kept on disk or in memory.

	cache, err := cachetrip.Open(dir)
	if err != nil {
		return err
	}
	defer cache.Close()
	resp, err := cache.Client().Get("https://example.com/")

A request is answered from the cache where RFC 9111 allows that, and by [Transport.Base] otherwise.
What fails within the cache costs a request to the origin: RoundTrip returns no error that it would not
have returned without a cache, and no byte is handed out that the origin did not send. "Errors", below,
has the one case in which more than that is felt.

# Keys and identity

Stored responses are found by their primary key (RFC 9111, section 2): the target URI and the
identity on whose behalf the request is made. The URI is normalised as far as no origin can tell the
difference: the letter case of scheme and host, the default port, an empty path. User information and
fragment are no part of it. A [http.Request.Host] that differs from the URL's is, beside
the URL's: what one server says in the name of another is kept apart from what that other says, and only
an unsafe request with the same two invalidates it. GET and HEAD share a key. The names of fields mean the
same in any letter case, also in the map that an [http.Header] is.

The identity is what [Transport.Identity] returns or, without that, the request's Authorization and
Proxy-Authorization values. Each identity has, in effect, a private cache of its own. Credentials are
never stored; keyed digests stand for them. Credentials that a transport below the cache adds are not
part of what the cache is given to see: put the cache below the transport that adds them. A response
whose request turns out to have been sent with other credentials than the cache saw is never reused
without asking the origin, unless Identity says whose it is; and then only if it is sent with the same
ones again. If Identity names whose a request is, its tokens may change: where the origin's Vary names
Authorization, what was stored for the last token is validated, and is then stored for the new one.

Cookies do not identify: a response that depends on them has to say so by Vary. Nor do client
certificates, which are between Base and the origin. Programs that act for several users, and tell them
apart by either, set Identity to a name for each, or use a Transport with a store of its own for each.

What that protects from, and what it does not, is in SECURITY.md.

# Variants

The responses of one key that have a Vary field are told apart by the request fields that it names
(section 4.1), and are kept side by side. Field values that mean the same, such as lists with other
spacing, select the same response. A response in a content coding is given only to who asks for that
coding; what net/http decodes for those who ask for none is stored decoded. Values of fields that may hold a secret are kept as digests.

# What is stored

Responses to GET and HEAD, and to a POST whose answer says that it is the content of its own target
(RFC 9110, section 9.3.3), unless the request or the response has no-store, and only if they could be
of use later: by a lifetime, a validator, or as a stale answer that is allowed. An error (401, 403,
407, 408, 429, and 5xx but 501) is stored only if it states its lifetime or is marked public, and never
takes the place of a response that is none. A private cache stores what is marked private and ignores
s-maxage. Section 3 has the rules.

A body is stored as the caller reads it. If the caller closes it early, what remains is read if that is
little ([Transport.DrainBytes]). One that breaks off is never taken for a complete one. If it has a
strong validator and the origin accepts byte ranges, the rest is asked for with Range and If-Range
while the caller reads on, up to three times without progress; failing that, the caller gets the error
as it came, what has come is kept, and the next request asks for the rest only.

# Freshness

A stored response is fresh while its age (section 4.2.3) is less than its lifetime (section 4.2.1):
max-age, or else Expires, or else, where a status allows it and Last-Modified is there, a tenth of the
time since then. The request's own directives (section 5.2.1) narrow or widen that. For an API whose
header cannot be reached, [WithCacheControl] puts them into the context. A fresh response is served
without a request to the origin; what an origin forgot to allow can be added in
[Transport.ModifyResponse].

A page that says that it is good for a day is not asked about for a day, whatever becomes of it, and one
that says nothing may be given a lifetime by that rule of a tenth. Who wants to know what is there now, as
a crawler may, has to ask for it, by Cache-Control: max-age=0 in the request or by [WithCacheControl]:
what has not changed then costs a 304.

# Validation

A response that is no longer fresh is validated (section 4.3): the request is sent with If-None-Match,
naming the entity tags of all that is stored under the key but was not selected by another user's
secret, or with If-Modified-Since.

A 304 says which stored response is still good. Its header fields then replace the stored ones, except
those that describe the stored bytes, and the caller is given that response. Nothing of the body is
transferred or rewritten. The fields are stored while the caller reads: by the end of the body, or when
it is closed, or the cache is. A program that exits before has the same validated again next time.
A 304 that matches nothing stored is no answer: the request is repeated without conditions. A 304 to
conditions that the caller set goes to the caller. Any other answer takes the place of what was stored,
if it may be stored itself.

# Stale on purpose

A stale response is served where the request (max-stale) or the response (stale-while-revalidate,
stale-if-error, RFC 5861) allows it, or [Transport.StaleIfError] does, after the origin failed: by an
error, a deadline or a status of 500, 502, 503 or 504, and for the latter any of 500 or more. Never one with must-revalidate or no-cache. After
stale-while-revalidate the origin is asked in the background, for as long as that takes and not as long
as the caller waits; [Transport.Close] waits for it, but 3 s at most for what is not answered yet. At most 32
are under way at once, and 8 to one origin. After one has failed, the next one for the same response begins 1 s
later at the earliest; the pause doubles with each failure, up to 1 min.

# Invalidation

A successful answer to a method that is not known to be safe invalidates the stored responses of its
target, and of what Location and Content-Location name on the same origin (section 4.4). They stay
stored and are validated before the next use, as after [Transport.Invalidate], and as after a newer answer
that would have taken their place, but is not stored. [Transport.Purge] removes them.

# What happened

Each response carries its story in Cache-Status (RFC 9211), which [StatusOf] reads, and X-From-Cache
if its body came from the cache. [http.Response.TLS] is nil then, as no connection brought it: who needs the
certificate has to ask past the cache, with no-store. [Transport.Stats] counts. A [Trace] is called, and a Logger told, when
a request is answered and when a response is stored or not, with the reason. [Transport.Explain] says
what would be done with a request, and why, without doing it.

# Concurrency

A Transport is safe for concurrent use; its fields must not be changed once it is in use. Any number
of Transports, in any number of processes, may use the same directory at the same time.

Concurrent requests for the same thing, or the same range of it, share one request to the origin, if nobody
can tell the difference. A waiting request is given the response to another one in two cases. Either the store
could serve the response to it at that moment. Or the response only lacks a lifetime, and the two requests have
the same values in all fields but those that trace a request. Then must-revalidate and no-cache forbid it. A
response that sets cookies and is not public is never shared. HEAD requests, requests for several ranges,
and those with no-cache or max-age=0 wait for nobody. Requests with preconditions wait only if they validate what
is stored as well, because a 304 to a caller's own preconditions is no response for others.

A request waits for at most a quarter of the time that its own deadline leaves, and at most
[Transport.ShareTimeout]. Then it asks the origin itself, and so do those that come after it. If a shared body
stalls or breaks off, its readers ask for the rest themselves. Errors are never shared. Where responses cannot be
shared, that is remembered for 10 s, and requests do not wait. After a failure those that waited ask the origin
4 at a time.

# Errors

RoundTrip returns the error of Base, of ModifyResponse or of the request's context, and while a body
is read those of the connection. A store that cannot be read is a miss and one that cannot be written
stores nothing; both are counted in [Stats] by cause, and logged at warn level, each cause once a
minute at most. Damage on disk is found by
checksums before a byte is handed out. A large body is verified piece by piece as it is read, so that
damage found after the first piece ends the read with an error; the next request fetches it anew. A
request with only-if-cached that nothing stored can answer is answered 504 (section 5.2.1.7), also where
the cache has no part in it otherwise: without a Store or after Close, or with a method that is safe and
is not cached. Methods that are not safe are forwarded whatever the request says (section 4).
*/
package cachetrip
