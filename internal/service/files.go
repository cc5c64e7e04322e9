package service

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

// planFile brings one file into its desired state.
func (p *planner) planFile(f File) {
	what := "file " + f.Path
	seen, ok := answerTo[machine.FileState](p, machine.File{Path: f.Path}, what)
	if !ok {
		return
	}
	if seen.Kind == machine.FileDirectory || seen.Kind == machine.FileOther {
		p.blocked = append(p.blocked, fmt.Sprintf("%s: there is a %s of that name on the host; remove it or choose another path", what, strings.ToLower(string(seen.Kind))))
		return
	}
	content, attributes := f.differences(seen)
	differs := len(content)+len(attributes) > 0
	p.own(fileSubject(f.Path), what, v1alpha1.ManagedThing{Kind: KindFile, Name: f.Path, Defined: true},
		seen.Kind != machine.FileAbsent, differs)
	if !differs {
		return
	}
	p.plan.Changes = append(p.plan.Changes, content...)
	p.plan.Changes = append(p.plan.Changes, attributes...)
	p.putFile(f)
	if f.Confidential {
		p.plan.Secrets = append(p.plan.Secrets, secretsOf(f.Content)...)
	}
	p.restart = p.restart || f.RestartOnChange && len(content) > 0
}

// putFile delivers a file, or has it fetched.
func (p *planner) putFile(f File) {
	switch {
	case f.Download == nil:
		p.files = append(p.files, machine.PutFile{
			Path: f.Path, Content: f.Content, SHA256: f.SHA256, Mode: f.Mode, Owner: f.Owner, Group: f.Group,
		})
	case f.Download.ByOperator:
		p.files = append(p.files, machine.PlaceFile{
			Path: f.Path, SHA256: f.SHA256, Size: f.Download.MaxSize, Mode: f.Mode, Owner: f.Owner, Group: f.Group,
		})
		p.download(f)
	default:
		p.files = append(p.files, machine.FetchFile{
			Path: f.Path, URL: f.Download.URL, SHA256: f.SHA256, MaxSize: f.Download.MaxSize, Mode: f.Mode, Owner: f.Owner, Group: f.Group,
		})
	}
}

// download has the operator fetch what one or several files take.
func (p *planner) download(f File) {
	sameContent := func(other Blob) bool { return other.SHA256 == f.SHA256 }
	if !slices.ContainsFunc(p.plan.Downloads, sameContent) {
		p.plan.Downloads = append(p.plan.Downloads, Blob{URL: f.Download.URL, SHA256: f.SHA256, MaxSize: f.Download.MaxSize})
	}
}

// differences of content and of attributes; the latter need no restart.
func (f File) differences(seen machine.FileState) (content, attributes []Change) {
	field := "files[" + f.Path + "]"
	if seen.Kind != machine.FileRegular {
		return []Change{{Path: field, Desired: f.wanted(), Observed: strings.ToLower(string(seen.Kind))}}, nil
	}
	if seen.SHA256 != f.SHA256 {
		content = append(content, Change{Path: field + ".content", Desired: f.wanted(), Observed: f.show(seen.SHA256)})
	}
	if f.Mode != 0 && seen.Mode != f.Mode {
		attributes = append(attributes, Change{Path: field + ".mode", Desired: octal(f.Mode), Observed: octal(seen.Mode)})
	}
	if f.Owner != "" && seen.Owner != f.Owner {
		attributes = append(attributes, Change{Path: field + ".owner", Desired: f.Owner, Observed: seen.Owner})
	}
	if f.Group != "" && seen.Group != f.Group {
		attributes = append(attributes, Change{Path: field + ".group", Desired: f.Group, Observed: seen.Group})
	}
	return content, attributes
}

// wanted says what the content should be, and where it comes from.
func (f File) wanted() string {
	if f.Download == nil {
		return f.show(f.SHA256)
	}
	return f.show(f.SHA256) + " from " + withoutQuery(f.Download.URL)
}

// withoutQuery leaves out what may be a signature that lets its bearer in.
func withoutQuery(url string) string {
	if end := strings.IndexAny(url, "?#"); end >= 0 {
		return url[:end] + "?…"
	}
	return url
}

// show prints a digest; not that of a Secret, because a short one could be guessed from it.
func (f File) show(sha256 string) string {
	switch {
	case !f.Confidential:
		return short(sha256)
	case sha256 == f.SHA256:
		return "content of the Secret"
	default:
		return "other content"
	}
}

func octal(mode uint32) string { return fmt.Sprintf("%04o", mode) }

// secretsOf lists what must not be printed of a confidential file: the whole,
// and its lines, because a program that complains prints a line of it.
func secretsOf(content machine.Secret) []machine.Secret {
	const shortest, most = 6, 256
	secrets := []machine.Secret{content}
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if len(line) >= shortest && len(line) < len(content) && len(secrets) < most {
			secrets = append(secrets, machine.Secret(line))
		}
	}
	return secrets
}
