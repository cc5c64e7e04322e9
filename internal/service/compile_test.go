package service_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/service"
)

func TestInvalidSpecsNameTheFieldAndTheWayOut(t *testing.T) {
	file := func(f v1alpha1.File) v1alpha1.ExternalServiceSpec {
		f.Content = pointer("x")
		return v1alpha1.ExternalServiceSpec{Files: []v1alpha1.File{f}}
	}
	twice := v1alpha1.ExternalServiceSpec{Files: []v1alpha1.File{{Path: `C:\a\b`, Content: pointer("")}, {Path: `c:\A\B`, Content: pointer("")}}}
	unitFile := ledger()
	unitFile.Files = append(unitFile.Files, v1alpha1.File{Path: unitPath, Content: pointer("")})
	noInstall := ledger()
	noInstall.Systemd.Definition = pointer("[Service]\n")
	disabled := orders()
	disabled.WindowsService.StartMode = "Disabled"
	cases := []struct {
		name string
		os   v1alpha1.OperatingSystem
		spec v1alpha1.ExternalServiceSpec
		want []string
	}{
		{"windows path on linux", v1alpha1.Linux, file(v1alpha1.File{Path: `C:\a\b`}), []string{`spec.files[C:\a\b]`, "absolute path such as /etc"}},
		{"linux path on windows", v1alpha1.Windows, file(v1alpha1.File{Path: "/etc/x"}), []string{"spec.files[/etc/x]", `C:\Orders`}},
		{"unclean path", v1alpha1.Linux, file(v1alpha1.File{Path: "/etc//x"}), []string{"write the path as /etc/x"}},
		{"trailing slash", v1alpha1.Linux, file(v1alpha1.File{Path: "/etc/x/"}), []string{"write the path as /etc/x"}},
		{"stream", v1alpha1.Windows, file(v1alpha1.File{Path: `C:\a\b:hidden`}), []string{"must not hold"}},
		{"slash on windows", v1alpha1.Windows, file(v1alpha1.File{Path: `C:\a/b`}), []string{"must not hold"}},
		{"trailing dot", v1alpha1.Windows, file(v1alpha1.File{Path: `C:\a\b.`}), []string{"end in a dot"}},
		{"mode on windows", v1alpha1.Windows, file(v1alpha1.File{Path: `C:\a\b`, Mode: "0640"}), []string{"mode, owner and group", "remove them"}},
		{"owner on windows", v1alpha1.Windows, file(v1alpha1.File{Path: `C:\a\b`, Owner: "x"}), []string{"mode, owner and group"}},
		{"mode zero", v1alpha1.Linux, file(v1alpha1.File{Path: "/x", Mode: "0000"}), []string{"spec.files[/x].mode"}},
		{"one file twice", v1alpha1.Windows, twice, []string{"listed twice"}},
		{"systemd on windows", v1alpha1.Windows, v1alpha1.ExternalServiceSpec{Systemd: &v1alpha1.Systemd{Unit: unit}}, []string{"spec.systemd", "spec.windowsService"}},
		{"windows service on linux", v1alpha1.Linux, v1alpha1.ExternalServiceSpec{WindowsService: &v1alpha1.WindowsService{Name: "x"}}, []string{"spec.windowsService", "use spec.systemd"}},
		{"unit file as a file", v1alpha1.Linux, unitFile, []string{"spec.systemd.definition"}},
		{"template", v1alpha1.Linux, v1alpha1.ExternalServiceSpec{Systemd: &v1alpha1.Systemd{Unit: "getty@.service"}}, []string{"spec.systemd.unit", "such as getty@1.service"}},
		{"cannot be enabled", v1alpha1.Linux, noInstall, []string{"spec.systemd.enabled", "[Install]"}},
		{"disabled and running", v1alpha1.Windows, disabled, []string{"spec.windowsService.startMode", "Stopped"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := service.Compile(service.Source{Spec: &c.spec, OS: c.os, Owner: us})
			var invalid *service.InvalidError
			require.ErrorAs(t, err, &invalid)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

func TestDigestsFollowWhatTheyStandFor(t *testing.T) {
	r := linux(t)
	base := r.compile(ledger())
	changed := func(change func(*v1alpha1.ExternalServiceSpec)) *service.Desired {
		spec := ledger()
		change(&spec)
		return r.compile(spec)
	}
	require.Equal(t, base.Digest, r.compile(ledger()).Digest)
	require.Equal(t, base.Digest, changed(func(s *v1alpha1.ExternalServiceSpec) { s.Adoption = v1alpha1.AdoptionAdopt }).Digest)
	content := changed(func(s *v1alpha1.ExternalServiceSpec) { s.Files[0].Content = pointer("port=2\n") })
	require.NotEqual(t, base.Digest, content.Digest)
	require.NotEqual(t, base.StartHash, content.StartHash)
	mode := changed(func(s *v1alpha1.ExternalServiceSpec) { s.Files[0].Mode = "0600" })
	require.NotEqual(t, base.Digest, mode.Digest)
	require.Equal(t, base.StartHash, mode.StartHash)
	text := changed(func(s *v1alpha1.ExternalServiceSpec) { s.Systemd.Definition = pointer(definition + "#") })
	require.NotEqual(t, base.StartHash, text.StartHash)
	stopped := changed(func(s *v1alpha1.ExternalServiceSpec) { s.State = v1alpha1.StateStopped })
	require.NotEqual(t, base.Digest, stopped.Digest)
	require.Equal(t, base.StartHash, stopped.StartHash)
}
