package payment

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestABoundedContextEndsInTimeForThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ctx := until(t.Context(), time.Now().Add(time.Second))
		defer ctx.release()
		require.NoError(t, ctx.Err())
		<-ctx.Done()
		require.Equal(t, time.Second, time.Since(began))
		require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
	})
}

func TestABoundedContextEndsInTimeThoughNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := until(t.Context(), time.Now().Add(time.Second))
		defer ctx.release()
		time.Sleep(time.Second - time.Nanosecond)
		require.NoError(t, ctx.Err())
		time.Sleep(time.Nanosecond)
		require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
		<-ctx.Done()
	})
}

func TestABoundedContextOutlivesItsParent(t *testing.T) {
	parent, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	cancel()
	ctx := until(parent, time.Now().Add(time.Minute))
	defer ctx.release()
	require.Equal(t, "value", ctx.Value(key{}))
	select {
	case <-ctx.Done():
		t.Fatal("it ended with its parent")
	default:
	}
	require.NoError(t, ctx.Err())
}

func TestWhoeverWaitsForAReleasedContextGoesOn(t *testing.T) {
	waitedFor := until(t.Context(), time.Now().Add(time.Minute))
	done := waitedFor.Done()
	waitedFor.release()
	<-done
	require.ErrorIs(t, waitedFor.Err(), context.Canceled)

	unused := until(t.Context(), time.Now().Add(time.Minute))
	unused.release()
	<-unused.Done()
	require.ErrorIs(t, unused.Err(), context.Canceled)
}

func TestAPartOfABoundedContextEndsWithItAtTheLatest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := until(t.Context(), time.Now().Add(time.Second))
		defer ctx.release()
		for part, want := range map[time.Duration]time.Duration{time.Minute: time.Second, time.Millisecond: time.Millisecond} {
			part, cancel := ctx.part(part)
			defer cancel()
			end, ok := part.Deadline()
			require.True(t, ok)
			require.Equal(t, want, time.Until(end))
		}
	})
}

type key struct{}
