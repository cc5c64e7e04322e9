package service_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/fleet/fleettest"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/service"
)

func TestWhatExistsIsRefusedOrAdopted(t *testing.T) {
	cases := map[string]struct {
		rig   func(*testing.T) *rig
		spec  func() v1alpha1.ExternalServiceSpec
		there func(*fleettest.Host)
		names string
	}{
		"file": {linux, ledger, func(h *fleettest.Host) { h.Put(config, fleettest.File{Content: []byte("mine")}) }, "file /etc/orders.conf"},
		"unit file": {linux, ledger, func(h *fleettest.Host) { h.Put(unitPath, fleettest.File{Content: []byte("mine")}) },
			"unit orders.service"},
		"packaged unit": {linux, ledger, func(h *fleettest.Host) { h.AddUnit(unit, "mine") }, "unit orders.service"},
		"service": {windows, orders, func(h *fleettest.Host) {
			h.AddWindowsService(machine.CreateWindowsService{Name: "Orders", BinaryPath: `C:\other.exe`, StartMode: "Manual"})
		}, "service Orders"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := c.rig(t)
			c.there(r.host)
			spec := c.spec()
			plan := r.plan(spec)
			var notOurs *service.NotOursError
			require.True(t, errors.As(plan.Refused, &notOurs))
			require.Contains(t, plan.Refused.Error(), c.names)
			require.Contains(t, plan.Refused.Error(), "spec.adoption to Adopt")
			require.Empty(t, plan.Steps, "refused as a whole")

			spec.Adoption = v1alpha1.AdoptionAdopt
			require.NotEmpty(t, r.plan(spec).Notices)
			r.converge(spec)
			require.Contains(t, fmt.Sprint(r.inventory), "true", "it is recorded as adopted")
		})
	}
}

func TestIdenticalThingsAreAdoptedSilently(t *testing.T) {
	r := linux(t)
	r.host.Put(config, fleettest.File{Content: []byte("port=1\n")})
	r.host.Put(unitPath, fleettest.File{Content: []byte(definition)})
	r.host.Run(ordersUnit)
	spec := ledger()
	spec.Systemd.Enabled = nil
	require.Equal(t, []string{"claim file//etc/orders.conf", "claim systemd/orders.service"}, r.converge(spec))
	mark := r.host.Ask(machine.Mark{Subject: ordersUnit.Subject()}).(machine.MarkState)
	require.True(t, mark.Adopted)
	require.Equal(t, r.compile(spec).StartHash, mark.Started, "its start is recorded, and nothing is restarted")
}

func TestOthersAreNeverTakenOver(t *testing.T) {
	others := map[string]machine.Owner{
		"another object":  {Cluster: "c1", UID: "u2", Object: "shop/other"},
		"another cluster": {Cluster: "c2", UID: "u1", Object: "shop/orders"},
	}
	for name, owner := range others {
		for _, subject := range []machine.Subject{"file//etc/orders.conf", "systemd/orders.service"} {
			r := linux(t)
			r.host.SetMark(subject, machine.MarkState{Exists: true, Owner: owner})
			spec := ledger()
			spec.Adoption = v1alpha1.AdoptionAdopt
			plan := r.plan(spec)
			require.ErrorContains(t, plan.Refused, owner.Object, name)
			require.Empty(t, plan.Steps, name)
		}
	}
}

func TestPredecessorOfTheSameName(t *testing.T) {
	r := linux(t)
	r.converge(ledger())
	r.owner, r.inventory = machine.Owner{Cluster: "c1", UID: "u9", Object: "shop/orders"}, nil
	spec := ledger()
	require.ErrorContains(t, r.plan(spec).Refused, "deleted ExternalService of the same name")
	spec.Adoption = v1alpha1.AdoptionAdopt
	r.converge(spec)
	require.Zero(t, r.host.Effects("restart"), "taking over restarts nothing")
	require.Equal(t, r.owner, r.host.Ask(machine.Mark{Subject: ordersUnit.Subject()}).(machine.MarkState).Owner)
}

func TestRemovedFromTheSpec(t *testing.T) {
	r := linux(t)
	spec := ledger()
	spec.Files = append(spec.Files, v1alpha1.File{Path: "/etc/motd", Content: pointer("a")})
	r.converge(spec)
	require.Len(t, r.inventory, 3)
	spec.Files = spec.Files[:1]
	require.Equal(t, []string{"remove /etc/motd", "release file//etc/motd"}, r.converge(spec))
	require.Len(t, r.inventory, 2)

	spec.Systemd.Unit = "bills.service"
	require.Equal(t, []string{
		"stop systemd/orders.service", "disable orders.service", "remove /etc/systemd/system/orders.service", "reload units",
		"claim systemd/bills.service", "put /etc/systemd/system/bills.service", "reload units", "enable bills.service",
		"start systemd/bills.service", "release systemd/orders.service",
	}, r.converge(spec))
}

func TestOnlyWhatIsMarkedAsOursIsRemoved(t *testing.T) {
	other := machine.Owner{Cluster: "c1", UID: "u2", Object: "shop/other"}
	for name, mark := range map[string]machine.MarkState{"unmarked": {}, "another's": {Exists: true, Owner: other}} {
		r := linux(t)
		spec := ledger()
		spec.Files = append(spec.Files, v1alpha1.File{Path: "/etc/motd", Content: pointer("a")})
		r.converge(spec)
		r.host.SetMark("file//etc/motd", mark)
		spec.Files = spec.Files[:1]
		plan := r.plan(spec)
		require.Empty(t, plan.Steps, name)
		require.Contains(t, fmt.Sprint(plan.Notices), "left alone", name)
		require.Len(t, plan.Inventory, 2, name)
	}
}

func TestRemoval(t *testing.T) {
	cases := []struct {
		rig    func(*testing.T) *rig
		spec   func() v1alpha1.ExternalServiceSpec
		policy v1alpha1.DeletionPolicy
		want   []string
	}{
		{linux, ledger, v1alpha1.DeletionDelete, []string{
			"stop systemd/orders.service", "disable orders.service", "remove /etc/systemd/system/orders.service", "reload units",
			"release systemd/orders.service", "remove /etc/orders.conf", "release file//etc/orders.conf",
		}},
		{linux, ledger, v1alpha1.DeletionStop, []string{"stop systemd/orders.service", "release systemd/orders.service", "release file//etc/orders.conf"}},
		{linux, ledger, v1alpha1.DeletionOrphan, []string{"release systemd/orders.service", "release file//etc/orders.conf"}},
		{windows, orders, v1alpha1.DeletionDelete, []string{
			"stop windowsservice/orders", "delete windowsservice/Orders", "release windowsservice/orders",
			`remove C:\Orders\orders.exe`, `release file/c:\orders\orders.exe`,
		}},
		{windows, orders, v1alpha1.DeletionStop, []string{"stop windowsservice/orders", "release windowsservice/orders", `release file/c:\orders\orders.exe`}},
	}
	for _, c := range cases {
		r := c.rig(t)
		r.converge(c.spec())
		r.host.ClearJournal()
		r.do(r.removal(c.policy))
		require.Equal(t, c.want, r.host.Journal(), c.policy)
		require.Empty(t, r.removal(c.policy).Steps, "done is done")
	}
}

func TestRemovalGoesOnWhereItEnded(t *testing.T) {
	for _, step := range []string{"StopService", "DisableUnit", "RemoveFile", "ReloadUnits", "Release"} {
		r := linux(t)
		r.converge(ledger())
		r.host.FailStep(step, "no")
		require.Equal(t, machine.JobFailed, r.do(r.removal(v1alpha1.DeletionDelete)).Phase, step)
		require.Equal(t, machine.JobSucceeded, r.do(r.removal(v1alpha1.DeletionDelete)).Phase, step)
		require.Empty(t, r.removal(v1alpha1.DeletionDelete).Steps, step)
		_, there := r.host.Content(config)
		require.False(t, there, step)
		require.Equal(t, 1, r.host.Effects("stop"), step)
	}
}

func TestRemovalOfAdoptedThingsSaysSo(t *testing.T) {
	r := linux(t)
	r.host.Put(config, fleettest.File{Content: []byte("port=1\n")})
	r.converge(ledger())
	plan := r.removal(v1alpha1.DeletionDelete)
	require.Contains(t, fmt.Sprint(plan.Notices), "file /etc/orders.conf is removed although it was on the host before")
	r.do(plan)
	_, there := r.host.Content(config)
	require.False(t, there)
}

func TestUnmanagedStateOfOthersIsNotStopped(t *testing.T) {
	r := linux(t)
	r.host.AddUnit(unit, "[Service]\n")
	r.host.Run(ordersUnit)
	r.converge(v1alpha1.ExternalServiceSpec{Systemd: &v1alpha1.Systemd{Unit: unit}, State: v1alpha1.StateUnmanaged})
	r.host.ClearJournal()
	r.do(r.removal(v1alpha1.DeletionDelete))
	require.Equal(t, []string{"release systemd/orders.service"}, r.host.Journal())
}

func TestSecretsStayInSteps(t *testing.T) {
	r := linux(t)
	const password = "correct horse battery staple"
	r.contents = map[string]service.Content{config: {Data: []byte("user=orders\npassword=" + password + "\n"), Confidential: true}}
	spec := ledger()
	spec.Files[0].Content, spec.Files[0].ContentFrom = nil, &v1alpha1.ContentSource{SecretKeyRef: &v1alpha1.KeyReference{Name: "s", Key: "k"}}
	r.host.Put(config, fleettest.File{Content: []byte("other")})
	spec.Adoption = v1alpha1.AdoptionAdopt
	plan := r.plan(spec)
	printed := fmt.Sprintf("%v %+v %#v", plan, plan, plan)
	encoded, err := json.Marshal(plan)
	require.NoError(t, err)
	digest := r.compile(spec).Files[0].SHA256
	for _, text := range []string{printed, string(encoded)} {
		require.NotContains(t, text, "horse")
	}
	require.NotContains(t, fmt.Sprint(plan.Changes), digest[:8], "nor the digest, from which a short secret could be guessed")
	require.NotEmpty(t, plan.Changes)
	var known []string
	for _, secret := range plan.Secrets {
		known = append(known, string([]byte(secret)))
	}
	require.Contains(t, known, "password="+password, "a line of it is a secret as well")
	require.Equal(t, r.plan(spec).Steps, plan.Steps)

	r.contents[config] = service.Content{Data: []byte("password=other"), Confidential: true}
	require.NotEqual(t, service.DigestSteps(plan.Steps), service.DigestSteps(r.plan(spec).Steps))
}
