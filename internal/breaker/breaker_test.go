package breaker

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	errDown   = errors.New("down")
	errSealed = errors.New("sealed")
)

// logged returns a breaker and the messages that it has logged.
func logged(every time.Duration) (*Breaker, func() string) {
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == "since" {
				return slog.Attr{}
			}
			return a
		},
	}))
	return New(log, "fails", "works again", NewPace(every)), text.String
}

func enter(t *testing.T, g *Breaker) Try {
	t.Helper()
	try, err := g.Allow()
	require.NoError(t, err)
	return try
}

// passed counts how many of n pass that come every so often and fail.
func passed(g *Breaker, n int, every time.Duration) int {
	count := 0
	for range n {
		if try, err := g.Allow(); err == nil {
			count++
			try.Failure(errDown, 0)
		}
		time.Sleep(every)
	}
	return count
}

func TestEverybodyPassesWhatWorks(t *testing.T) {
	g, log := logged(time.Second)
	for range 100 {
		enter(t, g).Success()
	}
	require.Empty(t, log())
}

func TestOnePassesNowAndThenWhatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := logged(time.Second)
		require.Equal(t, 10, passed(g, 1000, 10*time.Millisecond), "in ten seconds")
		_, err := g.Allow()
		require.NoError(t, err)
		_, err = g.Allow()
		require.Equal(t, errDown, err)
	})
}

func TestOneThatHangsDoesNotLetOthersPassFaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := logged(time.Second)
		enter(t, g).Failure(errDown, 0)
		count := 0
		for range 100 {
			if _, err := g.Allow(); err == nil {
				count++ // and is never heard of again
			}
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(t, 9, count)
	})
}

func TestGatesThatShareAPaceTryTogetherNoMoreOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := NewPace(time.Second)
		var breakers []*Breaker
		for range 20 {
			g := New(slog.New(slog.DiscardHandler), "fails", "works", pace)
			enter(t, g).Failure(errDown, 0)
			breakers = append(breakers, g)
		}
		count := 0
		for range 100 {
			for _, g := range breakers {
				if try, err := g.Allow(); err == nil {
					count++
					try.Failure(errDown, 0)
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(t, 9, count)
	})
}

func TestAGateStaysClosedForTheRestThatItIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := logged(time.Second)
		enter(t, g).Failure(errDown, 30*time.Second)
		require.Zero(t, passed(g, 29, time.Second))
		time.Sleep(2 * time.Second)
		enter(t, g).Success()
		enter(t, g)
		enter(t, g)
	})
}

func TestTheLogHearsOfEachChangeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, log := logged(time.Second)
		passed(g, 10, time.Second)
		enter(t, g).Failure(errSealed, 0)
		time.Sleep(time.Second)
		since, failure := g.State()
		require.Equal(t, errSealed, failure)
		require.Equal(t, 11*time.Second, time.Since(since))
		try := enter(t, g)
		try.Success()
		enter(t, g).Success()
		_, failure = g.State()
		require.NoError(t, failure)
		require.Equal(t, "msg=fails error=down\nmsg=fails error=sealed\nmsg=\"works again\" after=11s\n", log())
	})
}

func TestAnOldFailureDoesNotCloseWhatWorksSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, log := logged(time.Second)
		slow := enter(t, g)
		time.Sleep(time.Second)
		enter(t, g).Success()
		slow.Failure(errDown, 0)
		enter(t, g)
		require.Empty(t, log())
	})
}

func TestAGateMayBeUsedByManyAtOnce(t *testing.T) {
	g, log := logged(time.Hour)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if try, err := g.Allow(); err == nil {
				try.Failure(errDown, 0)
			}
		})
	}
	all.Wait()
	require.Equal(t, 1, strings.Count(log(), "fails"))
}

func TestEachGateThatFailsHasItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := NewPace(time.Second)
		discard := slog.New(slog.DiscardHandler)
		busy, quiet := New(discard, "", "", pace), New(discard, "", "", pace)
		enter(t, busy).Failure(errDown, 0)
		enter(t, quiet).Failure(errDown, 0)
		passes := 0
		for range 1000 { // the busy one comes a hundred times a second, the quiet one once
			for range 100 {
				if try, err := busy.Allow(); err == nil {
					try.Failure(errDown, 0)
				}
				time.Sleep(10 * time.Millisecond)
			}
			if try, err := quiet.Allow(); err == nil {
				passes++
				try.Failure(errDown, 0)
			}
		}
		require.InDelta(t, 500, passes, 20)
	})
}

func TestARestEndsWithSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := logged(time.Second)
		late := enter(t, g)
		time.Sleep(time.Millisecond)
		enter(t, g).Failure(errDown, time.Minute)
		time.Sleep(time.Minute)
		enter(t, g).Success()
		enter(t, g).Failure(errDown, 0)
		time.Sleep(time.Second)
		enter(t, g)
		late.Success()
		_, failure := g.State()
		require.Equal(t, errDown, failure, "an old success says nothing of now")
	})
}

func TestATryThatCannotBeMadeLaterIsLetThrough(t *testing.T) {
	g, _ := logged(time.Hour)
	enter(t, g).Failure(errDown, 0)
	_, err := g.Allow()
	require.Equal(t, errDown, err)
	g.Probe().Success()
	enter(t, g)
}
