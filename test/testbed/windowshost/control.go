package windowshost

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/cim"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/wine"
)

// ControlVerb is what somebody at the console does to a service.
type ControlVerb string

// The verbs of Control.
const (
	StartService ControlVerb = "start"
	StopService  ControlVerb = "stop"
	// KillService ends the process of a service, as the Task Manager does.
	KillService ControlVerb = "kill"
)

// settleTime is how long Control and Reboot wait for a service.
const settleTime = 30 * time.Second

// Service is a service as the service manager knows it.
type Service struct {
	Name  string
	State uint32 // 1 stopped, 2 start pending, 3 stop pending, 4 running
	PID   uint32 // 0 when stopped
}

// done is nil if the provider has answered, and with success.
func done(answer wine.Answer, err error) error {
	if err == nil && answer.Code != 0 {
		return fmt.Errorf("win32 code %d", answer.Code)
	}
	return err
}

// Services lists the services.
func (h *Host) Services(ctx context.Context) ([]Service, error) { return h.services(ctx) }

// services lists the services that are named, or all.
func (h *Host) services(ctx context.Context, names ...string) ([]Service, error) {
	answer, err := h.machine.Provider().Call(ctx, "services", names...)
	if err := done(answer, err); err != nil {
		return nil, fmt.Errorf("list services: %w", err)
	}
	var services []Service
	for _, record := range answer.Records {
		state, stateErr := strconv.ParseUint(record[9], 10, 32)
		pid, pidErr := strconv.ParseUint(record[15], 10, 32)
		if err := errors.Join(stateErr, pidErr); err != nil {
			return nil, fmt.Errorf("list services: %w", err)
		}
		services = append(services, Service{Name: record[0], State: uint32(state), PID: uint32(pid)})
	}
	return services, nil
}

// service finds one service.
func (h *Host) service(ctx context.Context, name string) (Service, error) {
	services, err := h.services(ctx, name)
	if err != nil {
		return Service{}, err
	}
	if len(services) == 0 {
		return Service{}, fmt.Errorf("there is no service %s", name)
	}
	return services[0], nil
}

// Control does something to a service behind everybody's back, and waits until it is
// done. The journal has it, with console as its source.
func (h *Host) Control(ctx context.Context, verb ControlVerb, name string) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	s, err := h.service(ctx, name)
	if err != nil {
		return err
	}
	request, words, want, event := "service-start", []string{name}, uint32(4), cim.Start
	switch verb {
	case StopService:
		request, words, want, event = "service-control", []string{name, "1"}, 1, cim.Stop
	case KillService:
		request, words, want, event = "process-terminate", []string{strconv.Itoa(int(s.PID)), "1"}, 1, cim.Stop
	}
	answer, err := h.machine.Provider().Call(ctx, request, words...)
	if err := done(answer, err); err != nil {
		return fmt.Errorf("%s service %s: %w", verb, name, err)
	}
	if err := h.repository.Journal().Console(event, name); err != nil {
		return err
	}
	return h.awaitState(ctx, name, want)
}

// awaitState waits until a service is in a state.
func (h *Host) awaitState(ctx context.Context, name string, state uint32) error {
	for {
		s, err := h.service(ctx, name)
		if err != nil || s.State == state {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for service %s to be in state %d: it is in %d: %w", name, state, s.State, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Reboot drops all connections, stops the services, ends all processes, and starts
// the machine again, at the same address and ports. It returns when the host can be
// reached; services that start by themselves may still be starting.
func (h *Host) Reboot(ctx context.Context) error {
	err := h.server.Close()
	if h.plain != nil {
		err = errors.Join(err, h.plain.Close())
	}
	if err := errors.Join(err, h.stopServices(ctx), h.machine.Shutdown(ctx)); err != nil {
		return fmt.Errorf("shut down %s: %w", h.options.Name, err)
	}
	if err := h.machine.Start(ctx); err != nil {
		return fmt.Errorf("start %s again: %w", h.options.Name, err)
	}
	h.mu.Lock()
	h.booted = time.Now()
	h.mu.Unlock()
	return h.listen()
}

// stopServices asks every running service to stop, and waits a little, as Windows does
// before it turns itself off.
func (h *Host) stopServices(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	services, err := h.Services(ctx)
	if err != nil {
		return err
	}
	for _, s := range services {
		if s.State != 4 {
			continue
		}
		answer, err := h.machine.Provider().Call(ctx, "service-control", s.Name, "1")
		if err == nil && answer.Code == 0 {
			_ = h.awaitState(ctx, s.Name, 1) // it is ended all the same
		}
	}
	return nil
}

// CommandLines lists the processes whose command line holds a text.
func (h *Host) CommandLines(ctx context.Context, text string) ([]string, error) {
	answer, err := h.machine.Provider().Call(ctx, "processes")
	if err := done(answer, err); err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []string
	for _, record := range answer.Records {
		if strings.Contains(record[6], text) {
			found = append(found, record[6])
		}
	}
	return found, nil
}
