// Package expression evaluates ${...} templates: text with CEL expressions in it.
//
// It owns the syntax (where an expression begins and ends, "$${" for a literal
// "${"), the functions that an expression may use (those of Kubernetes itself),
// and the translation between CEL values and JSON. A template that is exactly
// one expression keeps the type of its value; any other gives a string.
//
//	t, err := expression.Parse("http://${service.dnsName}:${service.ports.http}")
//	env, err := expression.NewEnvironment("service")
//	value, err := t.Evaluate(env, map[string]any{"service": ...})
//
// It promises that every error says where: the line and column within the text
// that was parsed. An expression over a field that is not there yet fails with
// an error for which IsNotYetKnown is true, so that callers wait instead of
// giving up. Component names with a dash may be written as they are:
// components.my-db.status is components["my-db"].status, because subtracting
// from an object means nothing.
//
// It is pure: no expression can do I/O, and each evaluation has a cost limit.
package expression
