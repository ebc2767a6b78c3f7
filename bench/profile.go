package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// topOf is how many functions of a profile are shown.
const topOf = 10

// profile shows where the CPU of the first sidecar that is wanted goes while 16 connections
// pay: the functions at the top. It keeps the profile in file, if that is not "".
func (l *lab) profile(ctx context.Context, o options) (top string, err error) {
	c, ok := o.firstSidecar()
	if !ok {
		return "", nil
	}
	file := o.profile
	if file == "" {
		file = filepath.Join(l.dir, "profile")
	}
	fmt.Fprintf(l.log, "Profile: %s.\n", c.name)
	c.admin = true
	p, err := l.start(ctx, c, 1, players)
	if err != nil {
		return "", err
	}
	defer p.stop()
	if err := l.warm(ctx, p, 0, players, players); err != nil {
		return "", err
	}
	seconds := max(1, int(o.seconds.Seconds()))
	fetched := make(chan error, 1)
	go func() {
		fetched <- fetch(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", p.admin, seconds), file)
	}()
	m, err := l.do(ctx, p, job{Connections: 16, Players: players, Measure: time.Duration(seconds) * time.Second}, manner{Verify: true})
	if err != nil {
		return "", err
	}
	l.judge("profile", m)
	if err := <-fetched; err != nil {
		return "", fmt.Errorf("fetching the profile: %w", err)
	}
	said, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", fmt.Sprintf("-nodecount=%d", topOf), l.programs[c.command], file).Output() //nolint:gosec // nothing of it comes from outside
	if err != nil {
		return "", fmt.Errorf("reading the profile: %w", err)
	}
	_, table, _ := strings.Cut(string(said), "nodes out of")
	_, table, _ = strings.Cut(table, "\n")
	return strings.TrimRight(table, "\n"), nil
}

// fetch gets a file.
func fetch(ctx context.Context, url, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil) //nolint:gosec // of a proxy that was started here
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req) //nolint:gosec // the same
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %.200s", res.StatusCode, body)
	}
	return os.WriteFile(file, body, 0o600)
}
