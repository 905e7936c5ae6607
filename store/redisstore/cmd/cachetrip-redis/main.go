// Command cachetrip-redis is the command cachetrip with access to caches on
// Redis and Valkey. Its subcommands ls, show, explain, stats and purge accept
//
//	--store redis://user:password@host:6379/0?prefix=cachetrip
//
// or the environment variable CACHETRIP_STORE. The parameter prefix is that of
// the application, as in redisstore.Options. All other parameters are those of
// redisstore.Open.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/cachetrip/cachetrip/internal/command"
	"github.com/cachetrip/cachetrip/store/redisstore"
)

func main() { command.Main(open) }

// patience is the time limit for an answer of the server. The command can do
// nothing without it.
const patience = 10 * time.Second

func open(ctx context.Context, rawURL string) (command.Store, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("--store: not a URL")
	}
	query := u.Query()
	prefix := query.Get("prefix")
	query.Del("prefix")
	u.RawQuery = query.Encode()
	s, err := redisstore.Open(u.String(), redisstore.Options{
		Prefix: prefix, LookupTimeout: patience, WriteTimeout: patience,
		MemoryBytes: -1, // each value is read only once
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := s.Ping(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("%s: %w", u.Redacted(), err)
	}
	return s, nil
}
