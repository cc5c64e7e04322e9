package service_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/fleet/fleettest"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/service"
)

var us = machine.Owner{Cluster: "c1", UID: "u1", Object: "shop/orders"}

// rig plans for a model of a host and carries the plans out there.
type rig struct {
	t         *testing.T
	host      *fleettest.Host
	os        v1alpha1.OperatingSystem
	owner     machine.Owner
	inventory []v1alpha1.ManagedThing
	contents  map[string]service.Content
	secrets   map[string][]byte // of variables, by name
	values    map[v1alpha1.KeyReference][]byte
	jobs      int
}

func linux(t *testing.T) *rig {
	return &rig{t: t, host: fleettest.NewLinux(), os: v1alpha1.Linux, owner: us}
}

func windows(t *testing.T) *rig {
	return &rig{t: t, host: fleettest.NewWindows(), os: v1alpha1.Windows, owner: us}
}

func (r *rig) compile(spec v1alpha1.ExternalServiceSpec) *service.Desired {
	r.t.Helper()
	desired, err := service.Compile(service.Source{Spec: &spec, OS: r.os, Owner: r.owner, Contents: r.contents, Environment: r.secrets})
	require.NoError(r.t, err)
	return desired
}

func (r *rig) see(checks []machine.Check) service.Observation {
	answers := map[machine.Check]machine.Answer{}
	for _, check := range checks {
		answers[check] = r.host.Ask(check)
	}
	return service.Observation{Answers: answers, Inventory: r.inventory, Values: r.values}
}

func (r *rig) plan(spec v1alpha1.ExternalServiceSpec) service.Plan {
	r.t.Helper()
	desired := r.compile(spec)
	return service.NewPlan(desired, r.see(service.Checks(desired, r.inventory)))
}

func (r *rig) removal(policy v1alpha1.DeletionPolicy) service.Plan {
	return service.NewRemoval(r.owner, policy, r.see(service.RemovalChecks(r.inventory)))
}

// do carries a plan out, after recording its inventory, as the controller does.
func (r *rig) do(plan service.Plan) machine.JobState {
	r.t.Helper()
	require.NoError(r.t, plan.Refused)
	require.Empty(r.t, plan.Blocked)
	require.Empty(r.t, plan.Unknown)
	r.inventory = plan.Inventory
	if len(plan.Steps) == 0 {
		return machine.JobState{Phase: machine.JobSucceeded}
	}
	m, err := r.host.Connect(context.Background(), fleet.Endpoint{})
	require.NoError(r.t, err)
	r.jobs++
	state, err := m.Start(context.Background(), machine.Job{ID: fmt.Sprintf("j%d", r.jobs), Epoch: 1, Owner: r.owner, Steps: plan.Steps, Timeout: time.Minute})
	require.NoError(r.t, err)
	return state
}

// converge carries a spec out and shows that nothing is left to do.
func (r *rig) converge(spec v1alpha1.ExternalServiceSpec) []string {
	r.t.Helper()
	r.host.ClearJournal()
	state := r.do(r.plan(spec))
	require.Equal(r.t, machine.JobSucceeded, state.Phase, state.Message)
	after := r.plan(spec)
	require.Empty(r.t, after.Steps, "a second plan must find nothing to do")
	require.Empty(r.t, after.Changes)
	r.inventory = after.Inventory
	return r.host.Journal()
}

func pointer[T any](value T) *T { return &value }

const (
	definition = "[Service]\nExecStart=/usr/bin/orders\n[Install]\nWantedBy=multi-user.target\n"
	unit       = "orders.service"
	unitPath   = "/etc/systemd/system/orders.service"
	config     = "/etc/orders.conf"
	program    = `C:\Orders\orders.exe`
)

var (
	ordersUnit    = machine.Service{Manager: machine.Systemd, Name: unit}
	ordersService = machine.Service{Manager: machine.WindowsSCM, Name: "orders"}
)

// ledger is a unit with a configuration file that restarts it.
func ledger() v1alpha1.ExternalServiceSpec {
	return v1alpha1.ExternalServiceSpec{
		Files:   []v1alpha1.File{{Path: config, Content: pointer("port=1\n"), RestartOnChange: true}},
		Systemd: &v1alpha1.Systemd{Unit: unit, Definition: pointer(definition), Enabled: pointer(true)},
		State:   v1alpha1.StateRunning,
	}
}

// orders is a Windows service whose program is delivered.
func orders() v1alpha1.ExternalServiceSpec {
	return v1alpha1.ExternalServiceSpec{
		Files: []v1alpha1.File{{Path: program, Content: pointer("MZ one")}},
		WindowsService: &v1alpha1.WindowsService{
			Name: "Orders", BinaryPath: pointer(`"C:\Orders\orders.exe" --service`), StartMode: "Automatic",
		},
		State: v1alpha1.StateRunning,
	}
}

func (r *rig) connect() machine.Machine {
	r.t.Helper()
	m, err := r.host.Connect(r.t.Context(), fleet.Endpoint{})
	require.NoError(r.t, err)
	return m
}

func digest(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}
