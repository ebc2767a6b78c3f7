package main

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// pins are the CPUs that a process is kept on, none for all of them.
type pins []int

// splitCPUs returns the CPUs for the proxies, and for all else. Where nothing can be
// pinned, both are empty and why says so.
func splitCPUs() (proxies, others pins, why string) {
	all := allowedCPUs()
	if len(all) < 2 {
		return nil, nil, "there are not two CPUs to tell apart"
	}
	if _, err := exec.LookPath("taskset"); err != nil {
		return nil, nil, "taskset is not installed"
	}
	half := len(all) / 2
	return all[half:], all[:half], ""
}

// allowedCPUs asks Linux which CPUs this process may use.
func allowedCPUs() (cpus []int) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil
	}
	_, list, _ := strings.Cut(string(status), "Cpus_allowed_list:")
	list, _, _ = strings.Cut(list, "\n")
	for span := range strings.SplitSeq(strings.TrimSpace(list), ",") {
		from, to, isSpan := strings.Cut(span, "-")
		if !isSpan {
			to = from
		}
		first, err1 := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil {
			return nil
		}
		for cpu := first; cpu <= last; cpu++ {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}

func (p pins) String() string {
	var texts []string
	for _, cpu := range p {
		texts = append(texts, strconv.Itoa(cpu))
	}
	return strings.Join(texts, ",")
}

// command is a program that runs on these CPUs and ends with ctx.
func (p pins) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	if len(p) > 0 {
		args = append([]string{"-c", p.String(), program}, args...)
		program = "taskset"
	}
	command := exec.CommandContext(ctx, program, args...) //nolint:gosec // starting programs is what this one is for
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = patience
	return command
}
