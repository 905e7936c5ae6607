package redisstore

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestBudget: in a process that is not busy, a budget is a time limit.
func TestBudget(t *testing.T) {
	for _, limit := range []time.Duration{1, time.Millisecond, DefaultLookupTimeout, DefaultWriteTimeout, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			b := newBudget(limit)
			defer b.end()
			<-b.done
			if took := time.Since(began); took != limit {
				t.Errorf("the budget ends after %v, want %v", took, limit)
			}
		})
	}
}

// TestBudgetEndsEarly: nothing goes on after an operation is over.
func TestBudgetEndsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(time.Second)
		time.Sleep(time.Second / 3)
		b.end()
		<-b.done
		if b.timer.Stop() {
			t.Error("its timer still runs")
		}
	})
}

// TestBudgetOfBusyProcess: turns that come late count little, and there are enough of them.
func TestBudgetOfBusyProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(time.Second)
		defer b.end()
		b.timer.Stop()
		turns := 0
		for !b.over.Load() {
			time.Sleep(time.Minute) // the process gets no processor
			b.tick()
			b.timer.Stop()
			turns++
		}
		if turns < budgetTurns/2 || turns > budgetTurns {
			t.Errorf("the budget ends after %d turns, want between %d and %d", turns, budgetTurns/2, budgetTurns)
		}
	})
}
