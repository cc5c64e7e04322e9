package cim

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// journalPath is where effects are written down. The sc.exe of the machine knows it too.
const journalPath = `C:\windows\system32\LogFiles\effects.log`

// Sources of effects.
const (
	FromCIM     = "cim"     // a method of a CIM class
	FromSC      = "sc"      // sc.exe
	FromConsole = "console" // somebody at the machine
)

// Verbs of effects. A process that is created is named by its command line.
const (
	Create        = "create"
	Change        = "change"
	Start         = "start"
	Stop          = "stop"
	Delete        = "delete"
	CreateProcess = "create-process"
)

// Event is one effect.
type Event struct {
	Time   time.Time
	Source string
	Verb   string
	Name   string
}

// Journal is the record of what has been done to a machine, kept on its drive.
type Journal struct {
	machine Machine
	mu      sync.Mutex
}

// record adds an effect that has just been had.
func (j *Journal) record(source, verb, name string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	path, err := j.machine.Path(journalPath)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	_, err = fmt.Fprintf(file, "%d %s %s %s\n", fileTime(time.Now()), source, verb, url.QueryEscape(name))
	return errors.Join(err, file.Close())
}

// Console records what somebody at the machine has done.
func (j *Journal) Console(verb, service string) error { return j.record(FromConsole, verb, service) }

// Events reads all effects, oldest first.
func (j *Journal) Events() ([]Event, error) {
	path, err := j.machine.Path(journalPath)
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	var events []Event
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) != 4 {
			return nil, fmt.Errorf("read the journal: malformed line %q", line)
		}
		ticks, err := strconv.ParseUint(fields[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read the journal: %w", err)
		}
		name, err := url.QueryUnescape(fields[3])
		if err != nil {
			return nil, fmt.Errorf("read the journal: %w", err)
		}
		events = append(events, Event{Time: fromFileTime(ticks), Source: fields[1], Verb: fields[2], Name: name})
	}
	return events, nil
}

// epochDifference is the time between 1601 and 1970 in units of 100 ns.
const epochDifference = 116444736000000000

func fileTime(t time.Time) uint64 { return uint64(t.UnixNano()/100) + epochDifference }

func fromFileTime(ticks uint64) time.Time {
	return time.Unix(0, (int64(ticks)-epochDifference)*100).UTC()
}
