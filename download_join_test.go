package cachetrip

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cachetrip/cachetrip/internal/straggler"
	"github.com/cachetrip/cachetrip/store"
)

// testDraft is a draft without a store.
type testDraft struct {
	store.Draft
	atOnce bool
}

func (d testDraft) ReadAtWithin(_ context.Context, p []byte, offset int64) (int, error) {
	return d.ReadAt(p, offset)
}
func (testDraft) Context() context.Context   { return context.Background() }
func (d testDraft) AtOnce() bool             { return d.atOnce }
func (testDraft) IsShut() bool               { return false }
func (testDraft) SetWaiting(context.Context) {}
func (testDraft) Waiting() context.Context   { return context.Background() }

// refusing is a draft that takes nothing.
type refusing struct{ store.Draft }

func (refusing) Write([]byte) (int, error)         { return 0, errors.New("full") }
func (refusing) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }
func (refusing) Close() error                      { return nil }

// TestJoinAfterLoss: who asks for all of a content whose beginning is gone is not let in, and who was
// let in before has it, whether they read before or after that.
func TestJoinAfterLoss(t *testing.T) {
	draft := testDraft{refusing{}, false}
	d := newDownload(io.NopCloser(strings.NewReader("content")), draft, -1)
	d.received, d.stragglers = new(atomic.Int64), new(straggler.Counter)
	var lost, finished, left int
	d.lost = func() { lost++ }
	d.finish = func(draft bodyDraft, taken int64, end error) {
		if finished++; draft != nil || taken != 0 || end != io.EOF {
			t.Errorf("finished with %v, %d, %v", draft, taken, end)
		}
	}
	leave := func(bool) { left++ }
	early := d.join(context.Background(), leave, nil)
	if n, err := early.Read(make([]byte, 7)); n != 7 || err != nil {
		t.Fatalf("got %d, %v", n, err)
	}
	if r := d.join(context.Background(), leave, nil); r != nil {
		t.Error("let in, and the beginning is gone")
	}
	for i, r := range []*reader{d.take(context.Background(), leave, nil), early} {
		if got, err := io.ReadAll(r); string(got) != [...]string{"content", ""}[i] || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if r := d.join(context.Background(), leave, nil); r != nil {
		t.Error("let in after the end")
	}
	d.close(func() {})
	if lost != 1 || finished != 1 || left != 2 {
		t.Errorf("lost %d, finished %d, left %d, want 1, 1, 2", lost, finished, left)
	}
}

// forgetting is a draft that takes all, and gives nothing back.
type forgetting struct{ store.Draft }

func (forgetting) Write(p []byte) (int, error)       { return len(p), nil }
func (forgetting) ReadAt([]byte, int64) (int, error) { return 0, errors.New("input/output error") }
func (forgetting) Close() error                      { return nil }

// TestDraftThatForgets: who keeps up with the network reads nothing back, whatever the store, and whether there is anybody
// to ask for the rest or not.
func TestDraftThatForgets(t *testing.T) {
	for name, atOnce := range map[string]bool{"in memory": true, "another": false} {
		t.Run(name, func(t *testing.T) {
			draft := testDraft{forgetting{}, atOnce}
			content := strings.Repeat("content ", pieceSize)
			d := newDownload(io.NopCloser(strings.NewReader(content)), draft, -1)
			d.received, d.stragglers = new(atomic.Int64), new(straggler.Counter)
			var taken int64
			d.finish = func(draft bodyDraft, all int64, end error) { taken = all }
			r := d.take(context.Background(), func(bool) {}, nil)
			if got, err := io.ReadAll(r); string(got) != content || err != nil {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			d.close(func() {})
			if int(taken) != len(content) {
				t.Errorf("%d bytes were taken", taken)
			}
		})
	}
}
