package service_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/fleet/fleettest"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/service"
)

const component = "/srv/component"

// schema is a component whose state is the content of a file: VERSION.
func schema() v1alpha1.ExternalServiceSpec {
	return v1alpha1.ExternalServiceSpec{Script: &v1alpha1.Script{
		Observe: "observe", Apply: "apply", Remove: "remove",
		Environment: []v1alpha1.EnvironmentVariable{
			{Name: "VERSION", Value: pointer("7")},
			{Name: "TOKEN", SecretKeyRef: &v1alpha1.KeyReference{Name: "db", Key: "token"}},
		},
	}}
}

// scripted is a host on which the scripts of schema do what they say.
func scripted(t *testing.T) *rig {
	r := linux(t)
	r.secrets = map[string][]byte{"TOKEN": []byte("hunter-two")}
	r.values = map[v1alpha1.KeyReference][]byte{{Name: "db", Key: "token"}: []byte("hunter-two")}
	r.host.SetScript("observe", func(run *fleettest.ScriptRun) (int, string) {
		found, _ := run.Read(component)
		if found == run.Environment["VERSION"] {
			return 0, "looking\nversion " + found + "\n\n"
		}
		return 1, fmt.Sprintf("with %s\nversion is %q\r\n", run.Environment["TOKEN"], found)
	})
	r.host.SetScript("apply", func(run *fleettest.ScriptRun) (int, string) {
		run.Write(component, run.Environment["VERSION"])
		return 0, ""
	})
	r.host.SetScript("remove", func(run *fleettest.ScriptRun) (int, string) {
		if run.Environment["TOKEN"] != "hunter-two" {
			return 3, "wrong token"
		}
		run.Remove(component)
		return 0, ""
	})
	return r
}

const (
	claimed  = "claim script/shop/orders"
	released = "release script/shop/orders"
)

func TestAScriptIsRunWhenObserveSaysSo(t *testing.T) {
	r := scripted(t)
	plan := r.plan(schema())
	require.Equal(t, []service.Change{{Path: "script", Desired: "InSync", Observed: `Differs (version is "")`}}, plan.Changes)
	require.Equal(t, []string{"write down who manages script/shop/orders", "run spec.script.apply"}, plan.Names())
	require.True(t, plan.Applies)
	require.NotContains(t, fmt.Sprintf("%+v", plan), "hunter")
	require.Contains(t, plan.Secrets, machine.Secret("hunter-two"))

	require.Equal(t, []string{claimed, "run apply"}, r.converge(schema()))
	recorded := r.inventory[0]
	require.Equal(t, v1alpha1.ManagedThing{Kind: "Script", Name: "shop/orders", Defined: true, Script: &v1alpha1.RecordedScript{
		Remove: "remove", Environment: schema().Script.Environment,
	}}, recorded)

	By(t, "not for a new apply or a new value that observe does not mind")
	spec := schema()
	spec.Script.Apply = "apply in another way"
	r.secrets["TOKEN"] = []byte("hunter-three")
	require.NotEqual(t, r.compile(schema()).Digest, r.compile(spec).Digest)
	require.Empty(t, r.converge(spec))

	By(t, "for drift")
	r.host.Put(component, fleettest.File{Content: []byte("6")})
	require.Equal(t, []string{"run apply"}, r.converge(schema()))

	By(t, "for a new value that it does mind")
	spec = schema()
	spec.Script.Environment[0].Value = pointer("8")
	require.Equal(t, []string{"run apply"}, r.converge(spec))
}

// By names a part of a test in its output.
func By(t *testing.T, what string) { t.Helper(); t.Log(what) }

func TestWhatObserveDoesNotSayIsUnknown(t *testing.T) {
	cases := map[string]struct {
		answer machine.Answer
		want   string
	}{
		"another code": {machine.ScriptState{ExitCode: 2, Output: "a\nno such database\n"}, "exit code 2 (0: as it should be, 1: differs): no such database"},
		"a signal":     {machine.ScriptState{ExitCode: 137}, "exit code 137"},
		"out of time":  {machine.Problem{Reason: "Failed", Message: "it ran out of time"}, "spec.script.observe does not say how things are: it ran out of time"},
		"not yet":      {nil, "has not been run yet"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := scripted(t)
			desired := r.compile(schema())
			seen := r.see(service.Checks(desired, nil))
			for check := range seen.Answers {
				if _, ok := check.(machine.Script); ok {
					delete(seen.Answers, check)
					if c.answer != nil {
						seen.Answers[check] = c.answer
					}
				}
			}
			plan := service.NewPlan(desired, seen)
			require.Contains(t, plan.Unknown, c.want)
			require.Empty(t, plan.Steps)
			require.Nil(t, service.Observe(desired, seen.Answers))
			health, _ := service.Health(desired, seen.Answers)
			require.Equal(t, service.HealthUnknown, health)
		})
	}
}

func TestAScriptSaysHowItIs(t *testing.T) {
	r := scripted(t)
	look := func() (*v1alpha1.ObservedService, service.HealthState) {
		desired := r.compile(schema())
		answers := r.see(service.Checks(desired, nil)).Answers
		health, _ := service.Health(desired, answers)
		return service.Observe(desired, answers), health
	}
	seen, health := look()
	require.Equal(t, &v1alpha1.ObservedService{State: "Differs", Message: `version is ""`}, seen)
	require.Equal(t, service.Unhealthy, health)
	r.converge(schema())
	seen, health = look()
	require.Equal(t, &v1alpha1.ObservedService{State: "InSync", Message: "version 7"}, seen)
	require.Equal(t, service.Healthy, health)
}

func TestWithoutApplyDriftIsOnlyNamed(t *testing.T) {
	r := scripted(t)
	spec := schema()
	spec.Script.Apply = ""
	plan := r.plan(spec)
	require.Empty(t, plan.Steps)
	require.Empty(t, plan.Changes)
	require.Len(t, plan.Unhandled, 1)
	require.Empty(t, plan.Inventory, "nothing is put on the host")

	By(t, "and what was applied before is still removed")
	r.converge(schema())
	require.Empty(t, r.converge(spec))
	require.Len(t, r.inventory, 1)
	require.Equal(t, "remove", r.inventory[0].Script.Remove)
}

func withFile(content string) v1alpha1.ExternalServiceSpec {
	spec := schema()
	spec.Files = []v1alpha1.File{{Path: config, Content: pointer(content), RestartOnChange: true}}
	return spec
}

const (
	due  = "claim script/shop/orders/due"
	done = "release script/shop/orders/due"
	put  = "put /etc/orders.conf"
)

func TestApplyIsRunOnceForAChangedFile(t *testing.T) {
	r := scripted(t)
	require.Equal(t, []string{"claim file//etc/orders.conf", claimed, due, put, "run apply", done}, r.converge(withFile("1")))
	require.Equal(t, []string{due, put, "run apply", done}, r.converge(withFile("2")))
	require.Empty(t, r.converge(withFile("2")))
	spec := withFile("2")
	spec.Files[0].Mode = "0600"
	require.Equal(t, []string{put}, r.converge(spec), "attributes need no apply")
	spec.Files[0].RestartOnChange, spec.Files[0].Content = false, pointer("3")
	require.Equal(t, []string{put}, r.converge(spec))
}

func TestApplyThatIsOwedIsNotLost(t *testing.T) {
	for step := 1; step <= 4; step++ {
		t.Run(fmt.Sprintf("the job ends after step %d", step), func(t *testing.T) {
			r := scripted(t)
			r.converge(withFile("1"))
			r.host.ClearJournal()
			r.host.RebootDuringNextJob(step)
			plan := r.plan(withFile("2"))
			require.Len(t, plan.Steps, 4)
			m := r.connect()
			_, _ = m.Start(t.Context(), machine.Job{ID: "lost", Epoch: 1, Owner: us, Steps: plan.Steps, Timeout: time.Minute})
			r.host.Resume()
			before := r.host.Journal()
			after := r.converge(withFile("2"))
			all := append(before, after...)
			require.Contains(t, all, put)
			require.Contains(t, all, "run apply")
			if step < 3 {
				require.Equal(t, 1, strings.Count(strings.Join(all, "\n"), "run apply"))
			}
		})
	}
	t.Run("the spec goes back", func(t *testing.T) {
		r := scripted(t)
		r.converge(withFile("1"))
		r.host.SetScript("apply", func(*fleettest.ScriptRun) (int, string) { return 5, "no" })
		require.Equal(t, machine.JobFailed, r.do(r.plan(withFile("2"))).Phase)
		r.host.SetScript("apply", func(*fleettest.ScriptRun) (int, string) { return 0, "" })
		require.Equal(t, []string{put, "run apply", done}, r.converge(withFile("1")))
	})
}

func TestAScriptRemovesWhatItApplied(t *testing.T) {
	r := scripted(t)
	r.converge(schema())
	r.host.ClearJournal()
	plan := r.removal(v1alpha1.DeletionDelete)
	require.Equal(t, "run the recorded remove script", plan.Names()[0])
	require.False(t, plan.Idempotent())
	require.Contains(t, plan.Secrets, machine.Secret("hunter-two"))
	require.Equal(t, machine.JobSucceeded, r.do(plan).Phase)
	require.Equal(t, []string{"run remove", released}, r.host.Journal())
	require.Empty(t, r.removal(v1alpha1.DeletionDelete).Steps)

	By(t, "when it is no longer declared")
	r = scripted(t)
	r.converge(withFile("1"))
	files := withFile("1")
	files.Script = nil
	require.Equal(t, []string{"run remove", released}, r.converge(files))

	By(t, "not when it is to stay")
	for _, policy := range []v1alpha1.DeletionPolicy{v1alpha1.DeletionStop, v1alpha1.DeletionOrphan} {
		r = scripted(t)
		r.converge(schema())
		r.host.ClearJournal()
		r.do(r.removal(policy))
		require.Equal(t, []string{released}, r.host.Journal(), string(policy))
	}

	By(t, "by what was recorded, not by what is declared")
	r = scripted(t)
	r.converge(schema())
	r.values = nil
	plan = r.removal(v1alpha1.DeletionDelete)
	require.Contains(t, plan.Missing, `the recorded remove script of script shop/orders needs key "token" of Secret db for TOKEN: it is not there`)
	require.Empty(t, plan.Steps)
	r.values = map[v1alpha1.KeyReference][]byte{{Name: "db", Key: "token"}: []byte("a\x00b")}
	require.Contains(t, r.removal(v1alpha1.DeletionDelete).Missing, "NUL")
	r.values = nil
	require.NotEmpty(t, r.removal(v1alpha1.DeletionOrphan).Steps, "which needs no script")
	require.Equal(t, []v1alpha1.KeyReference{{Name: "db", Key: "token"}}, service.RemovalSecrets(r.inventory))
}

func TestWithoutARemoveScriptTheComponentIsLeftBehind(t *testing.T) {
	r := scripted(t)
	spec := schema()
	spec.Script.Remove = ""
	r.converge(spec)
	require.Empty(t, r.inventory[0].Script.Environment, "nothing is recorded that nobody will read")
	r.host.ClearJournal()
	plan := r.removal(v1alpha1.DeletionDelete)
	require.Contains(t, plan.Notices[0], "left behind")
	require.Contains(t, plan.Changes[0].String(), "left behind, because no spec.script.remove was declared")
	r.do(plan)
	require.Equal(t, []string{released}, r.host.Journal())
}

func TestScriptsOfOthersAreLeftAlone(t *testing.T) {
	r := scripted(t)
	theirs := machine.Owner{Cluster: "c2", UID: "u9", Object: us.Object}
	r.host.SetMark("script/shop/orders", machine.MarkState{Exists: true, Owner: theirs})
	require.ErrorContains(t, r.plan(schema()).Refused, "of another cluster (c2)")

	By(t, "and those of a predecessor are taken over when told so, with what it owed")
	r = scripted(t)
	before := machine.Owner{Cluster: us.Cluster, UID: "u0", Object: us.Object}
	r.host.SetMark("script/shop/orders", machine.MarkState{Exists: true, Owner: before})
	r.host.SetMark("script/shop/orders/due", machine.MarkState{Exists: true, Owner: before})
	spec := withFile("1")
	require.ErrorContains(t, r.plan(spec).Refused, "spec.adoption to Adopt")
	spec.Adoption = v1alpha1.AdoptionAdopt
	r.converge(spec)
}

func TestIdempotenceIsTheAuthorsWord(t *testing.T) {
	r := scripted(t)
	require.False(t, r.plan(schema()).Idempotent())
	spec := schema()
	spec.Script.Idempotent = true
	require.True(t, r.plan(spec).Idempotent())
	require.True(t, r.plan(ledger()).Idempotent())
}

func TestInvalidScriptsNameTheFieldAndTheWayOut(t *testing.T) {
	change := func(change func(*v1alpha1.ExternalServiceSpec)) v1alpha1.ExternalServiceSpec {
		spec := schema()
		change(&spec)
		return spec
	}
	variable := func(name string, value string) func(*v1alpha1.ExternalServiceSpec) {
		return func(s *v1alpha1.ExternalServiceSpec) {
			s.Script.Environment = append(s.Script.Environment, v1alpha1.EnvironmentVariable{Name: name, Value: &value})
		}
	}
	cases := map[string]struct {
		os   v1alpha1.OperatingSystem
		spec v1alpha1.ExternalServiceSpec
		want []string
	}{
		"a state":                 {v1alpha1.Linux, change(func(s *v1alpha1.ExternalServiceSpec) { s.State = v1alpha1.StateStopped }), []string{"spec.state", "could be Stopped", "remove spec.state"}},
		"NUL in a script":         {v1alpha1.Linux, change(func(s *v1alpha1.ExternalServiceSpec) { s.Script.Apply = "a\x00" }), []string{"spec.script.apply", "NUL"}},
		"windows interpreter":     {v1alpha1.Linux, change(func(s *v1alpha1.ExternalServiceSpec) { s.Script.Interpreter = `C:\a\b` }), []string{"spec.script.interpreter", "/bin/bash"}},
		"linux interpreter":       {v1alpha1.Windows, change(func(s *v1alpha1.ExternalServiceSpec) { s.Script.Interpreter = "/bin/sh" }), []string{"spec.script.interpreter", "cmd.exe"}},
		"NUL in a value":          {v1alpha1.Linux, change(variable("X", "a\x00")), []string{"spec.script.environment[X]: the value holds a NUL"}},
		"a large value":           {v1alpha1.Linux, change(variable("X", strings.Repeat("x", 8193))), []string{"spec.script.environment[X]", "8193 bytes, and at most 8192", "spec.files"}},
		"a name twice":            {v1alpha1.Linux, change(variable("VERSION", "")), []string{"spec.script.environment[VERSION] is listed twice"}},
		"a name twice on windows": {v1alpha1.Windows, change(variable("Version", "")), []string{"spec.script.environment[Version] is listed twice: Windows"}},
		"too much": {v1alpha1.Linux, change(func(s *v1alpha1.ExternalServiceSpec) {
			for i := range 5 {
				variable(fmt.Sprintf("X%d", i), strings.Repeat("x", 8000))(s)
			}
		}), []string{"spec.script.environment: 40", "at most 32768"}},
		"nobody to tell": {v1alpha1.Linux, change(func(s *v1alpha1.ExternalServiceSpec) {
			s.Script.Apply = ""
			s.Files = withFile("1").Files
		}), []string{"spec.files[/etc/orders.conf].restartOnChange", "no spec.script.apply"}},
		"no size": {v1alpha1.Linux, change(func(s *v1alpha1.ExternalServiceSpec) {
			none := resource.MustParse("0")
			s.Files = []v1alpha1.File{{Path: config, Source: &v1alpha1.FileSource{URL: "https://x/y", MaxSize: &none}}}
		}), []string{"spec.files[/etc/orders.conf].source.maxSize: 0 admits no file"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := service.Compile(service.Source{Spec: &c.spec, OS: c.os, Owner: us, Environment: map[string][]byte{"TOKEN": []byte("t")}})
			var invalid *service.InvalidError
			require.ErrorAs(t, err, &invalid)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
	t.Run("a large secret is named, not shown", func(t *testing.T) {
		spec := schema()
		_, err := service.Compile(service.Source{Spec: &spec, OS: v1alpha1.Linux, Owner: us, Environment: map[string][]byte{"TOKEN": []byte(strings.Repeat("hunter", 2000))}})
		require.ErrorContains(t, err, `spec.script.environment[TOKEN] (key "token" of Secret db): the value has 12000 bytes`)
		require.NotContains(t, err.Error(), "hunter")
	})
}

const url = "https://files.example/orders.tgz?signature=hunter2"

func downloaded(via string) v1alpha1.ExternalServiceSpec {
	return v1alpha1.ExternalServiceSpec{Files: []v1alpha1.File{{Path: config, Source: &v1alpha1.FileSource{URL: url, SHA256: digest("big"), Via: via}}}}
}

func TestDownloads(t *testing.T) {
	r := linux(t)
	r.host.Serve(url, "big")
	plan := r.plan(downloaded("Host"))
	require.Equal(t, []machine.Step{
		machine.Claim{Subject: "file//etc/orders.conf", Owner: us},
		machine.FetchFile{Path: config, URL: url, SHA256: digest("big"), MaxSize: 1 << 30},
	}, plan.Steps)
	require.Contains(t, plan.Changes[0].String(), "from https://files.example/orders.tgz?…")
	require.NotContains(t, fmt.Sprint(plan.Names(), plan.Changes), "hunter2")
	r.converge(downloaded("Host"))
	require.Empty(t, r.converge(downloaded("Operator")), "what the host has is not downloaded")

	r = linux(t)
	plan = r.plan(downloaded("Operator"))
	require.Equal(t, []service.Blob{{URL: url, SHA256: digest("big"), MaxSize: 1 << 30}}, plan.Downloads)
	require.Equal(t, machine.PlaceFile{Path: config, SHA256: digest("big"), Size: 1 << 30}, plan.Steps[1])
	require.Equal(t, machine.JobFailed, r.do(plan).Phase, "it was not staged")

	By(t, "what two files take is fetched once")
	r = linux(t)
	twice := downloaded("Operator")
	twice.Files = append(twice.Files, twice.Files[0])
	twice.Files[1].Path = "/etc/other.conf"
	require.Len(t, r.plan(twice).Downloads, 1)

	By(t, "a program that is downloaded is replaced while it does not run")
	r = windows(t)
	r.converge(orders())
	spec := orders()
	spec.Files[0].Content, spec.Files[0].Source = nil, &v1alpha1.FileSource{URL: url, SHA256: digest("MZ two")}
	r.host.Serve(url, "MZ two")
	require.Equal(t, []string{"stop windowsservice/orders", `put C:\Orders\orders.exe`, "start windowsservice/orders"}, r.converge(spec))
}

func TestScriptsOnWindows(t *testing.T) {
	r := scripted(t)
	r.os = v1alpha1.Windows
	spec := schema()
	spec.Script.Interpreter = `C:\Windows\System32\cmd.exe`
	spec.Script.ObserveTimeout = &metav1.Duration{Duration: time.Second}
	require.Equal(t, []string{claimed, "run apply"}, r.converge(spec))
}

// FuzzCompileScript: whatever is declared compiles or is refused by a message, and
// values survive their encoding.
func FuzzCompileScript(f *testing.F) {
	f.Add("true", "false", "", "A", "1", "secret", "/bin/sh", true)
	f.Add("\x00", "", "x", "a-b", "\x00", "a\nb=c", `C:\x\y`, false)
	f.Fuzz(func(t *testing.T, observe, apply, remove, name, value, secret, interpreter string, linux bool) {
		os := v1alpha1.Windows
		if linux {
			os = v1alpha1.Linux
		}
		spec := v1alpha1.ExternalServiceSpec{Script: &v1alpha1.Script{
			Observe: observe, Apply: apply, Remove: remove, Interpreter: interpreter,
			Environment: []v1alpha1.EnvironmentVariable{
				{Name: "N" + name, Value: &value},
				{Name: "SECRET", SecretKeyRef: &v1alpha1.KeyReference{Name: "s", Key: "k"}},
			},
		}}
		desired, err := service.Compile(service.Source{Spec: &spec, OS: os, Owner: us, Environment: map[string][]byte{"SECRET": []byte(secret)}})
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		require.NotContains(t, observe+apply+remove+value+secret, "\x00")
		encoded := machine.EncodeEnvironment(desired.Script.Environment)
		if !strings.ContainsAny(name, "=\x00") {
			require.Equal(t, desired.Script.Environment, machine.DecodeEnvironment(encoded))
		}
		plan := service.NewPlan(desired, service.Observation{})
		require.Empty(t, plan.Steps, "nothing is done about what was not looked at")
		require.NotEmpty(t, plan.Unknown)
	})
}
