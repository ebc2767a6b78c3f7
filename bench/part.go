package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// The load and what stands in for WeChat and Vault are processes of their own, this
// program started again, so that they can be kept on other CPUs than the proxies.
// They read JSON from stdin and write JSON to stdout, and end when stdin does, so
// that nothing is left behind even where this process is killed.
const (
	partServe = "serve" // stands in for WeChat and Vault
	partLoad  = "load"  // calls
)

// runPart is a part's main, if args say that this process is one.
func runPart(args []string) (isPart bool, err error) {
	if len(args) != 2 {
		return false, nil
	}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	switch args[1] {
	case partServe:
		err = serve(in, out)
	case partLoad:
		err = load(in, out)
	default:
		return false, nil
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return true, err
}

// part is such a process, seen from the one that started it.
type part struct {
	name    string
	command *exec.Cmd
	stdin   io.WriteCloser
	out     *json.Encoder
	in      *json.Decoder
}

func startPart(ctx context.Context, name string, cpus pins) (*part, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	command := cpus.command(ctx, self, name)
	command.Stderr = os.Stderr
	// One that takes less of the machine leaves more to what is measured.
	command.Env = append(os.Environ(), fmt.Sprintf("GOMAXPROCS=%d", max(1, runtime.NumCPU()/2)))
	stdin, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return &part{name, command, stdin, json.NewEncoder(stdin), json.NewDecoder(stdout)}, nil
}

// tell sends an order.
func (p *part) tell(order any) error {
	if err := p.out.Encode(order); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	return nil
}

// hear waits for what it answers.
func (p *part) hear(answer any) error {
	if err := p.in.Decode(answer); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	return nil
}

func (p *part) close() {
	_ = p.stdin.Close()
	_ = p.command.Wait()
}

// patience is how long a process may take to start or to end.
const patience = 10 * time.Second
