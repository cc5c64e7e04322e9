package expression

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func environment(t testing.TB) *Environment {
	t.Helper()
	env, err := NewEnvironment(Components, "self", "service")
	require.NoError(t, err)
	return env
}

func values() map[string]any {
	return map[string]any{
		"service": map[string]any{"dnsName": "orders.shop.svc", "ports": map[string]any{"http": int64(80)}},
		"self":    map[string]any{"status": map[string]any{"readyReplicas": int64(2)}},
		Components: map[string]any{
			"db":     map[string]any{"metadata": map[string]any{"namespace": "shop"}, "status": map[string]any{"port": int64(5432), "list": []any{"a", map[string]any{"b": int64(1)}}}},
			"my-db":  map[string]any{"status": map[string]any{"url": "http://x", "ratio": 0.5, "on": true}},
			"import": map[string]any{"status": map[string]any{"url": "reserved"}},
		},
	}
}

func TestEvaluate(t *testing.T) {
	cases := map[string]struct {
		text string
		want any
	}{
		"literal":                {"plain $5 text", "plain $5 text"},
		"empty":                  {"", ""},
		"escaped":                {"echo $${HOME} $$${x}", "echo ${HOME} $${x}"},
		"number keeps its type":  {"${components.db.status.port}", int64(5432)},
		"number inside text":     {"port=${components.db.status.port};", "port=5432;"},
		"two expressions":        {"http://${service.dnsName}:${service.ports.http}", "http://orders.shop.svc:80"},
		"dash":                   {"${components.my-db.status.url}/x", "http://x/x"},
		"dash by index":          {`${components["my-db"].status.url}`, "http://x"},
		"dash by index, quoted":  {`${components['my-db'].status.url}`, "http://x"},
		"reserved word as name":  {"${components.import.status.url}", "reserved"},
		"reserved word as field": {"${components.db.metadata.namespace}", "shop"},
		"dash in a string":       {`${"components.my-db.status"}`, "components.my-db.status"},
		"subtraction":            {"${components.db.status.port -1}", int64(5431)},
		"braces in a map":        {`${{"a": {"b": 1}}}`, map[string]any{"a": map[string]any{"b": int64(1)}}},
		"brace in a string":      {`${"}" + '{' + r"\"}x`, `}{\x`},
		"brace in long string":   {`${"""a"}"b"""}`, `a"}"b`},
		"comment":                {"${1 // not the end }\n + 2}", int64(3)},
		"list":                   {"${components.db.status.list}", []any{"a", map[string]any{"b": int64(1)}}},
		"bool":                   {"${components.my-db.status.on}", true},
		"double inside text":     {"${components.my-db.status.ratio}x", "0.5x"},
		"null":                   {"${null}", nil},
		"has":                    {"${has(components.my-db.status.nothing) ? 1 : 2}", int64(2)},
		"has by index":           {`${has(components["my-db"].status.url)}`, true},
		"strings library":        {"${'a,b'.split(',')}", []any{"a", "b"}},
		"kubernetes quantity":    {"${quantity('1Gi').isGreaterThan(quantity('1Mi'))}", true},
		"kubernetes url":         {"${url('http://h:80/p').getHostname()}", "h"},
		"optional":               {"${components.db.?status.?nothing.orValue('none')}", "none"},
		"macro":                  {"${components.db.status.list.filter(x, type(x) == string)}", []any{"a"}},
		"duration":               {"${duration('90s')}", "1m30s"},
		"bytes":                  {"${b'hi'}", "aGk="},
	}
	env := environment(t)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			template, err := Parse(c.text)
			require.NoError(t, err)
			got, err := template.Evaluate(env, values())
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestErrorsSayWhere(t *testing.T) {
	cases := map[string]struct {
		text         string
		line, column int
		message      string
	}{
		"no end":             {"a ${b", 1, 3, "no closing brace"},
		"no end in string":   {`a ${"b}`, 1, 3, "no closing brace"},
		"empty":              {"x${ }", 1, 2, "is empty"},
		"syntax":             {"http://${service.}", 1, 18, "Syntax error"},
		"unknown variable":   {"ab ${HOME}", 1, 6, "write $${"},
		"unknown second":     {"${service.dnsName} ${nope}", 1, 22, "unknown variable or function 'nope'"},
		"characters":         {"ünï ${nope}", 1, 7, "nope"},
		"several lines":      {"first\nsecond ${nope}", 2, 10, "nope"},
		"lines inside":       {"${service.dnsName +\n nope}", 2, 2, "nope"},
		"after quoted names": {"${components.my-db.x + nope}", 1, 24, "nope"},
		"list in a text":     {"x ${[1]}", 1, 5, "a list cannot stand inside a text"},
		"type error":         {"${1 + 'a'}", 1, 5, "no matching overload"},
		"bad literal":        {"${duration('x')}", 1, 12, "invalid duration"},
		"division":           {"${1/(service.ports.http-80)}", 1, 3, "divi"},
	}
	env := environment(t)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			template, err := Parse(c.text)
			if err == nil {
				_, err = template.Evaluate(env, values())
			}
			require.Error(t, err)
			require.False(t, IsNotYetKnown(err))
			var at *Error
			require.True(t, errors.As(err, &at), "%T", err)
			require.Contains(t, at.Message, c.message)
			require.Equal(t, []int{c.line, c.column}, []int{at.Line, at.Column}, err.Error())
			require.Equal(t, c.line > 1 || strings.Contains(c.text, "\n"), strings.HasPrefix(err.Error(), "line "))
		})
	}
}

func TestWhatIsMissingIsNotYetKnown(t *testing.T) {
	env := environment(t)
	for _, text := range []string{
		"${components.db.status.nothing}",
		"${components.absent.status.x}",
		`${components["absent"].status.x}`,
		"${components.db.status.list[7]}",
		"a ${components.db.status.nothing.deeper} b",
		"${components.db.?status.?nothing}",
		"${self.status.conditions.exists(c, c.type == 'Ready')}",
		"${components.db.status.nothing + 1}",
		"${components.db.status.list[1].c}",
		"${[].first().value()}",
	} {
		template, err := Parse(text)
		require.NoError(t, err)
		_, err = template.Evaluate(env, values())
		require.True(t, IsNotYetKnown(err), "%s: %v", text, err)
		var at *Error
		require.True(t, errors.As(err, &at))
	}
}

func TestLeave(t *testing.T) {
	env := environment(t)
	template, err := Parse("$${a} ${service.dnsName} ${components.db.status.port}")
	require.NoError(t, err)
	partly, err := template.Leave(func(x Expression) bool { return strings.HasPrefix(x.Text, "service") }).Evaluate(env, values())
	require.NoError(t, err)
	require.Equal(t, "$${a} ${service.dnsName} 5432", partly)
	rest, err := Parse(partly.(string))
	require.NoError(t, err)
	all, err := rest.Evaluate(env, values())
	require.NoError(t, err)
	require.Equal(t, "${a} orders.shop.svc 5432", all)
}

// A value that looks like an expression stays a value, however often it is parsed.
func TestLeaveKeepsValuesFromBecomingExpressions(t *testing.T) {
	env := environment(t)
	vars := map[string]any{"components": map[string]any{"db": map[string]any{"x": "${service.dnsName}"}}, "service": values()["service"]}
	for text, want := range map[string]string{"${components.db.x}": "${service.dnsName}", "a ${components.db.x}": "a ${service.dnsName}"} {
		template, err := Parse(text)
		require.NoError(t, err)
		partly, err := template.Leave(func(Expression) bool { return false }).Evaluate(env, vars)
		require.NoError(t, err)
		rest, err := Parse(partly.(string))
		require.NoError(t, err)
		all, err := rest.Evaluate(env, vars)
		require.NoError(t, err)
		require.Equal(t, want, all)
	}
}

func TestCostIsLimited(t *testing.T) {
	env := environment(t)
	template, err := Parse("${service.l.map(a, service.l.map(b, service.l.map(c, service.l.map(d, 1))))}")
	require.NoError(t, err)
	long := make([]any, 200)
	for i := range long {
		long[i] = int64(i)
	}
	_, err = template.Evaluate(env, map[string]any{"service": map[string]any{"l": long}})
	require.ErrorContains(t, err, "cost limit")
	require.False(t, IsNotYetKnown(err))
}

func TestHolds(t *testing.T) {
	env := environment(t)
	holds, err := env.Holds(Condition("self.status.readyReplicas > 0"), values())
	require.NoError(t, err)
	require.True(t, holds)
	_, err = env.Holds(Condition("self.status.readyReplicas"), values())
	require.ErrorContains(t, err, "column 1: the expression gives a number, not true or false")
}

func TestReferences(t *testing.T) {
	cases := map[string]struct {
		text string
		want []string
	}{
		"none":             {"${service.dnsName}", nil},
		"plain":            {"${components.db.status.port}", []string{"db:status.port@3"}},
		"dash":             {"${components.my-db.status.url}", []string{"my-db:status.url@3"}},
		"index":            {`${components["my-db"].status.list[0].x}`, []string{"my-db:status.list.0.x@3"}},
		"two":              {"${components.a.x + components.b.y}", []string{"a:x@3", "b:y@20"}},
		"in a macro":       {"${[1].map(i, components.a.list[i])}", []string{"a:list@14"}},
		"computed":         {"${components.a.m[components.b.key].z}", []string{"a:m@3", "b:key@18"}},
		"has":              {"${has(components.a.x)}", []string{"a:x@7"}},
		"optional":         {"${components.a.?status.?x}", []string{"a:status.x@3"}},
		"in a map":         {`${{"k": components.a.x}}`, []string{"a:x@9"}},
		"in a string":      {`${"components.a.x"}`, nil},
		"a field so named": {"${service.components.a}", nil},
		"whole component":  {"${components.a}", []string{"a:@3"}},
	}
	env := environment(t)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			template, err := Parse(c.text)
			require.NoError(t, err)
			var got []string
			for _, x := range template.Expressions() {
				refs, err := env.References(x)
				require.NoError(t, err)
				for _, r := range refs {
					require.Equal(t, 1, r.At.Line)
					got = append(got, r.Name+":"+strings.Join(r.Path, ".")+"@"+itoa(r.At.Column))
				}
			}
			require.Equal(t, c.want, got)
		})
	}
}

func itoa(n int) string {
	text, _ := asText(int64(n))
	return text
}

func TestReferencesMustBeWrittenOut(t *testing.T) {
	env := environment(t)
	for _, text := range []string{"${components}", "${components[service.dnsName].x}", "${components.map(k, k)}"} {
		template, err := Parse(text)
		require.NoError(t, err)
		_, err = env.References(template.Expressions()[0])
		require.ErrorContains(t, err, "followed by the name", text)
	}
}

// FuzzParse holds that parsing ends, never panics, loses no text, and that what
// it accepts can be checked without a panic and with every error inside the text.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "a", "${a}", "$${", "$$${x}", "${", "${'}'}", "${r'\\'}", "${\"\"\"}\"\"\"}", "${components.a-b.c}",
		"${components.a-b.`c-d`}", "ü${components.ä}", "${{}}", "${//\n1}", "${components[`a`]}", "${a\nb}", "\xff${\xff}"} {
		f.Add(seed)
	}
	env := environment(f)
	f.Fuzz(func(t *testing.T, text string) {
		template, err := Parse(text)
		if err != nil {
			requireInside(t, text, err)
			return
		}
		var rebuilt strings.Builder
		for _, p := range template.parts {
			if p.expression != nil {
				rebuilt.WriteString("${" + p.expression.Text + "}")
				continue
			}
			rebuilt.WriteString(strings.ReplaceAll(p.literal, "${", "$${"))
		}
		require.Equal(t, text, rebuilt.String())
		for _, x := range template.Expressions() {
			if _, err := env.Check(x); err != nil {
				requireInside(t, text, err)
			}
			_, _ = env.References(x)
		}
	})
}

func requireInside(t *testing.T, text string, err error) {
	t.Helper()
	var at *Error
	require.True(t, errors.As(err, &at), "%T %v", err, err)
	lines := strings.Split(text, "\n")
	require.True(t, at.Line >= 1 && at.Line <= len(lines), "%v", err)
	require.LessOrEqual(t, at.Column, len([]rune(lines[at.Line-1]))+1, "%v", err)
}

func BenchmarkEvaluate(b *testing.B) {
	env := environment(b)
	template, _ := Parse("http://${service.dnsName}:${components.my-db.status.url}")
	vars := values()
	for b.Loop() {
		if _, err := template.Evaluate(env, vars); err != nil {
			b.Fatal(err)
		}
	}
}

// TestCostIsLimitedBeforehand: CEL counts a call when it is over. One line could
// take all the memory of the operator, or a worker for ever, before that.
func TestCostIsLimitedBeforehand(t *testing.T) {
	env := environment(t)
	bomb := "1"
	for range 40 {
		bomb = "[" + bomb + "].map(a, [a, a])[0]"
	}
	long := map[string]any{"service": map[string]any{"text": strings.Repeat("a", 1<<20), "list": make([]any, 20_000)}}
	for name, text := range map[string]string{
		"result":     bomb,
		"equality":   "[" + bomb + "].all(b, b == b)",
		"inequality": "[" + bomb + "].all(b, b != b)",
		"membership": "[" + bomb + "].all(b, b in [b])",
		"search":     "[" + bomb + "].all(b, [b].indexOf(b) == 0)",
		"sum":        "[" + bomb + "].all(b, dyn(b).max() == 1)",
		"scalar":     "[" + bomb + "].all(b, [dyn(b)].lastIndexOf(dyn(1)) == 0)",
		"format":     "'%s'.format([" + bomb + "])",
		"replace":    "service.text.replace('a', service.text)",
		"some":       "service.text.replace('a', service.text, 1000)",
		"join":       "service.list.map(i, 'a').join(service.text)",
		"distinct":   "lists.range(1000000).distinct()",
		"sets":       "sets.equivalent(lists.range(1000000), lists.range(1000000))",
		"contains":   "sets.contains(service.list, service.list)",
		"intersects": "sets.intersects([" + bomb + "], [" + bomb + "])",
	} {
		_, err := env.Evaluate(Condition(text), long)
		require.ErrorContains(t, err, "cost limit", name)
		require.False(t, IsNotYetKnown(err), name)
	}
	for text, want := range map[string]any{
		"'a-b'.replace('-', '+')":                                "a+b",
		"'a-b-c'.replace('-', '+', 1)":                           "a+b-c",
		"['a', 'b'].join()":                                      "ab",
		"service.list.map(i, 'a').join(',').size()":              int64(39_999),
		"'%s of %d'.format([['a'], 2])":                          `["a"] of 2`,
		"[1, 2, 1].distinct()":                                   []any{int64(1), int64(2)},
		"sets.contains([1, 2], [2]) && !sets.contains([1], [2])": true,
		"[[1], [2]].indexOf([2])":                                int64(1),
		"'abc'.indexOf('c')":                                     int64(2),
		"service.list == service.list":                           true,
		"service.list != service.list || dyn(1) == 1.0":          true,
		"[1] in [[1]] && 'text' in service":                      true,
		"dyn('a') in ['a', 'b']":                                 true,
	} {
		value, err := env.Evaluate(Condition(text), long)
		require.NoError(t, err, text)
		require.Equal(t, want, value, text)
	}
}
