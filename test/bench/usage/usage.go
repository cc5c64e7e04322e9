// Package usage reads what processes have used, from the kernel's own books (proc(5)).
package usage

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of times in /proc: USER_HZ is 100 on every architecture that Go runs on under Linux.
const tick = 10 * time.Millisecond

// Usage is what something cost.
type Usage struct {
	CPU     time.Duration // user and system
	PeakRSS int64         // bytes, of the largest single process
}

// CPU is the time that a process has used until now, without its children.
func CPU(pid int) (time.Duration, error) {
	fields, err := stat(pid)
	if err != nil {
		return 0, err
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the times of process %d: %w", pid, err)
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the times of process %d: %w", pid, err)
	}
	return time.Duration(user+system) * tick, nil
}

// AllCPU is the sum of CPU over processes.
func AllCPU(pids []int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		cpu, err := CPU(pid)
		if err != nil {
			return 0, err
		}
		sum += cpu
	}
	return sum, nil
}

// Self is the time that this process has used until now, without its children.
func Self() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0 // it fails for bad arguments only (getrusage(2))
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// Of is what an ended command cost, with all children that were waited for.
func Of(cmd *exec.Cmd) Usage {
	ended := cmd.ProcessState
	used := Usage{CPU: ended.UserTime() + ended.SystemTime()}
	if rusage, ok := ended.SysUsage().(*syscall.Rusage); ok {
		used.PeakRSS = rusage.Maxrss << 10 // kilobytes (getrusage(2))
	}
	return used
}

// RSS and PeakRSS are the resident memory of a process in bytes.
func RSS(pid int) (int64, error) { return memory(pid, "VmRSS:") }

// PeakRSS is the most that RSS has been.
func PeakRSS(pid int) (int64, error) { return memory(pid, "VmHWM:") }

func memory(pid int, name string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(status)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) >= 2 && fields[0] == name {
			kibibytes, err := strconv.ParseInt(fields[1], 10, 64)
			return kibibytes << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no %s", pid, name)
}

// Children are the children of this process that run a program of that name.
func Children(program string) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		fields, err := stat(pid)
		if err != nil || fields[1] != strconv.Itoa(os.Getpid()) {
			continue
		}
		if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil && strings.TrimSpace(string(name)) == program {
			found = append(found, pid)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no child of this process runs %s", program)
	}
	return found, nil
}

// Load is the number of processes that wanted to run during the last minute.
func Load() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	load, _ := strconv.ParseFloat(first, 64)
	return load
}

// stat is /proc/PID/stat from the third field on: the command name, field 2, may hold blanks.
func stat(pid int) ([]string, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:]))
	if len(fields) < 13 {
		return nil, errors.New("short line in /proc/PID/stat")
	}
	return fields, nil
}

// Dials tells whether a process has a TCP connection to a port of this machine, made or being made.
func Dials(pid, port int) (bool, error) {
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	if err != nil {
		return false, err
	}
	inodes := map[string]bool{}
	for lines := bufio.NewScanner(bytes.NewReader(table)); lines.Scan(); {
		// sl, local, remote, state, ...; the tenth is the socket's inode.
		fields := strings.Fields(lines.Text())
		if len(fields) > 9 && strings.HasSuffix(fields[2], fmt.Sprintf(":%04X", port)) {
			inodes["socket:["+fields[9]+"]"] = true
		}
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return false, err
	}
	for _, file := range files {
		if name, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, file.Name())); err == nil && inodes[name] {
			return true, nil
		}
	}
	return false, nil
}
