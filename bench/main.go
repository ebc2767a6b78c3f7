// Bench shows what the sidecar costs next to what people would use instead: plain
// Caddy, nginx, and nginx that signs in Lua. It starts and stops everything itself:
//
//	go run ./bench
//
// Times differ from machine to machine, so all that counts is ratios within one run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

func main() {
	if isPart, err := runPart(os.Args); isPart {
		exit(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := bench(ctx, os.Args[1:], os.Stderr)
	if ctx.Err() != nil {
		err = context.Cause(ctx) // whatever else was said, that is why
	}
	stop()
	exit(err)
}

func exit(err error) {
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// options say how long to measure what.
type options struct {
	rounds    int
	seconds   time.Duration // one measurement
	rate      int           // payments a second in the open loop
	family    string        // of the API
	only      *regexp.Regexp
	withScale bool
	sizes     sizes
	pin       bool   // the proxies to CPUs of their own
	profile   string // where it is kept, "" for nowhere
	before    string // the top of one that was made before
	out       string
	command   string // as it was typed, for the result
}

func readOptions(args []string, stderr io.Writer) (options, error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	rounds := flags.Int("rounds", 5, "how often everything is measured")
	seconds := flags.Float64("seconds", 2, "how long one measurement takes")
	rate := flags.Int("rate", 1000, "payments a second in the open loop")
	family := flags.String("family", "v1", "the API that is called: v1, or v2, which new games must use")
	only := flags.String("only", "", "regexp of the contenders to measure (caddy and direct are always)")
	scale := flags.Bool("scale", true, "also measure many connections, sessions and apps")
	pin := flags.Bool("pin", false, "keep the proxy on one half of the CPUs and all else on the other; without it they share, as a game server and its sidecar do")
	quick := flags.Bool("quick", false, "one short round of everything, to see that it works: the figures mean nothing")
	profile := flags.String("profile", "", "where to keep the sidecar's CPU profile")
	before := flags.String("before", filepath.Join("bench", "before.txt"), "the top of an earlier profile, to be shown beside the new one")
	out := flags.String("out", filepath.Join("bench", "RESULTS.md"), "where the result goes; the chart goes beside it")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	pattern, err := regexp.Compile(*only)
	if err != nil {
		return options{}, fmt.Errorf("-only: %w", err)
	}
	if flags.NArg() > 0 || *rounds < 1 || *seconds <= 0 || *rate < 1 {
		return options{}, errors.New("-rounds, -seconds and -rate must be positive, and nothing may follow the flags")
	}
	if familyOf(*family).name != *family {
		return options{}, errors.New("-family must be v1 or v2")
	}
	o := options{
		rounds: *rounds, seconds: time.Duration(*seconds * float64(time.Second)), rate: *rate, family: *family,
		only: pattern, withScale: *scale, sizes: allSizes, pin: *pin, profile: *profile, before: *before, out: *out,
		command: strings.Join(append([]string{"go run ./bench"}, args...), " "),
	}
	if *quick {
		o.rounds, o.seconds, o.sizes = 1, 100*time.Millisecond, quickSizes
	}
	return o, nil
}

// bench measures everything and writes the result.
func bench(ctx context.Context, args []string, stderr io.Writer) error {
	o, err := readOptions(args, stderr)
	if err != nil {
		return err
	}
	l, err := newLab(ctx, o.pin, familyOf(o.family).name, stderr)
	if err != nil {
		return err
	}
	defer l.close()

	r := report{options: o, lab: l, started: time.Now()}
	if r.results, err = l.compare(ctx, o); err != nil {
		return err
	}
	if o.withScale {
		if r.curves, err = l.scale(ctx, o); err != nil {
			return err
		}
	}
	if r.top, err = l.profile(ctx, o); err != nil {
		return err
	}
	if err := r.write(); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	fmt.Fprintln(stderr, "Written:", o.out)
	if len(l.failures) > 0 {
		return fmt.Errorf("payments failed: %s", strings.Join(l.failures, "; "))
	}
	return nil
}
