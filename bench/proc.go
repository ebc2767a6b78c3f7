package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU time in /proc, on all of Linux.
const tick = 10 * time.Millisecond

// process is what /proc tells of one.
type process struct {
	pid, parent int
	cpu         time.Duration
}

func readProcess(pid int) (process, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	// The name, in brackets, may hold anything; proc(5) counts what follows from 3.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return process{}, fmt.Errorf("/proc/%d/stat: cut off", pid)
	}
	number := func(field int) int {
		n, _ := strconv.Atoi(fields[field-3])
		return n
	}
	return process{pid: pid, parent: number(4), cpu: time.Duration(number(14)+number(15)) * tick}, nil
}

// family returns a process and its children: nginx is a master and its workers.
func family(pid int) (family []process) {
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		id, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if p, err := readProcess(id); err == nil && (p.pid == pid || p.parent == pid) {
			family = append(family, p)
		}
	}
	return family
}

// cpuOf returns the CPU time that a process and its children have taken.
func cpuOf(pid int) (sum time.Duration) {
	for _, p := range family(pid) {
		sum += p.cpu
	}
	return sum
}

// rssOf returns the memory of a process and its children in MB. What nginx's
// processes share is counted for each.
func rssOf(pid int) (megabytes float64) {
	for _, p := range family(pid) {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
		_, rest, _ := strings.Cut(string(status), "VmRSS:")
		if fields := strings.Fields(rest); len(fields) > 0 {
			kilobytes, _ := strconv.ParseFloat(fields[0], 64)
			megabytes += kilobytes / 1024
		}
	}
	return megabytes
}
