// Package oauthtest tests cachetrip together with golang.org/x/oauth2, in a
// module of its own so that the library need not depend on that.
package oauthtest
