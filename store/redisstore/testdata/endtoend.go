// TestEndToEnd of package redisstore adds this file to package harness. The tests of a whole cache then keep on the
// server that REDISSTORE_URL names what they otherwise keep in memory.

package harness

import (
	"context"
	"fmt"
	"iter"
	"os"
	"sync/atomic"
	"time"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/redisstore"
)

var made atomic.Int64

func init() {
	for range cap(lines) {
		lines <- &line{make(chan []*store.Entry), make(chan []*store.Entry), make(chan struct{})}
	}
	go func() {
		for job := range jobs {
			go job()
		}
	}()
	newMemory = func(maxBytes int64) store.Store {
		var s *redisstore.Store
		outside(nil, func(func([]*store.Entry) []*store.Entry) {
			opened, err := redisstore.Open(os.Getenv("REDISSTORE_URL"), redisstore.Options{
				Prefix: fmt.Sprintf("e%d-%d", os.Getpid(), made.Add(1)), MaxBodyBytes: maxBytes / 4,
				LookupTimeout: 2 * time.Minute, WriteTimeout: 2 * time.Minute, // the test is not about time
			})
			if err != nil {
				panic(err)
			}
			s = opened
		})
		return proxy{s}
	}
}

// Within a testing/synctest bubble nothing can talk to a server. So all work of
// a store is done outside the bubble. Goroutines inside wait for it in a way
// that does not advance their clock. Changes are made inside, as they may look
// at the clock.

type line struct {
	ask, answer chan []*store.Entry
	done        chan struct{}
}

var (
	jobs  = make(chan func())
	lines = make(chan *line, 1000)
)

func outside(change func([]*store.Entry) []*store.Entry, job func(change func([]*store.Entry) []*store.Entry)) {
	l := <-lines
	jobs <- func() {
		job(func(current []*store.Entry) []*store.Entry {
			l.ask <- current
			return <-l.answer
		})
		l.done <- struct{}{}
	}
	for {
		select {
		case current := <-l.ask:
			l.answer <- change(current)
		case <-l.done:
			lines <- l
			return
		}
	}
}

type proxy struct{ s *redisstore.Store }

// run has f done outside, with a context that knows of nothing inside.
func run[T any](ctx context.Context, f func(context.Context) (T, error)) (result T, err error) {
	if err := ctx.Err(); err != nil {
		return result, err
	}
	outside(nil, func(func([]*store.Entry) []*store.Entry) { result, err = f(context.Background()) })
	return result, err
}

func (p proxy) Entries(ctx context.Context, key string) ([]*store.Entry, error) {
	return run(ctx, func(ctx context.Context) ([]*store.Entry, error) { return p.s.Entries(ctx, key) })
}

func (p proxy) Update(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	outside(change, func(change func([]*store.Entry) []*store.Entry) {
		err = p.s.Update(context.Background(), key, change)
	})
	return err
}

func (p proxy) Open(ctx context.Context, key string, blob store.Blob) (store.Body, error) {
	return run(ctx, func(ctx context.Context) (store.Body, error) {
		body, err := p.s.Open(ctx, key, blob)
		if err != nil {
			return nil, err
		}
		return proxyBody{body}, nil
	})
}

func (p proxy) Create(ctx context.Context, key string, size int64) (store.Draft, error) {
	return run(ctx, func(ctx context.Context) (store.Draft, error) {
		draft, err := p.s.Create(ctx, key, size)
		if err != nil {
			return nil, err
		}
		return proxyDraft{draft}, nil
	})
}

func (p proxy) All(ctx context.Context, prefix string) iter.Seq2[*store.Entry, error] {
	return func(yield func(*store.Entry, error) bool) {
		all, err := run(ctx, func(ctx context.Context) (all []*store.Entry, err error) {
			for e, err := range p.s.All(ctx, prefix) {
				if err != nil {
					return all, err
				}
				all = append(all, e)
			}
			return all, nil
		})
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

func (p proxy) Secret(ctx context.Context) ([]byte, error) {
	return run(ctx, func(ctx context.Context) ([]byte, error) { return p.s.Secret(ctx) })
}

func (p proxy) Close() error {
	_, err := run(context.Background(), func(context.Context) (struct{}, error) { return struct{}{}, p.s.Close() })
	return err
}

type proxyBody struct{ store.Body }

func (b proxyBody) ReadAt(p []byte, off int64) (int, error) {
	return run(context.Background(), func(context.Context) (int, error) { return b.Body.ReadAt(p, off) })
}

func (b proxyBody) Close() error {
	_, err := run(context.Background(), func(context.Context) (struct{}, error) { return struct{}{}, b.Body.Close() })
	return err
}

type proxyDraft struct{ store.Draft }

func (d proxyDraft) Write(p []byte) (int, error) {
	return run(context.Background(), func(context.Context) (int, error) { return d.Draft.Write(p) })
}

func (d proxyDraft) ReadAt(p []byte, off int64) (int, error) {
	return run(context.Background(), func(context.Context) (int, error) { return d.Draft.ReadAt(p, off) })
}

func (d proxyDraft) Commit() (store.Blob, error) {
	return run(context.Background(), func(context.Context) (store.Blob, error) { return d.Draft.Commit() })
}

func (d proxyDraft) Close() error {
	_, err := run(context.Background(), func(context.Context) (struct{}, error) { return struct{}{}, d.Draft.Close() })
	return err
}
