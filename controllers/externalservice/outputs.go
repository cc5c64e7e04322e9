package externalservice

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/expression"
)

// outputVariables are what an output may speak of.
var outputVariables = sync.OnceValues(func() (*expression.Environment, error) {
	return expression.NewEnvironment("host", "service", "observed", "spec")
})

// evaluateOutputs writes status.outputs. What is not known yet is left out until it is.
func (p *pass) evaluateOutputs(context.Context) (next, error) {
	if len(p.object.Spec.Outputs) == 0 {
		p.object.Status.Outputs = nil
		return onwards, nil
	}
	environment, err := outputVariables()
	if err != nil {
		return finished, err
	}
	variables, err := p.variables()
	if err != nil {
		return finished, err
	}
	outputs := map[string]string{}
	for _, output := range p.object.Spec.Outputs {
		value, err := evaluate(environment, output.Value, variables)
		switch {
		case expression.IsNotYetKnown(err):
		case err != nil:
			p.problems = append(p.problems, problem{v1alpha1.ReasonInvalid, fmt.Sprintf("spec.outputs[%s]: %v", output.Name, err)})
		default:
			outputs[output.Name] = value
		}
	}
	p.object.Status.Outputs = outputs
	return onwards, nil
}

func evaluate(environment *expression.Environment, text string, variables map[string]any) (string, error) {
	template, err := expression.Parse(text)
	if err != nil {
		return "", err
	}
	value, err := template.Evaluate(environment, variables)
	if err != nil {
		return "", err
	}
	if text, ok := value.(string); ok {
		return text, nil
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return "", fmt.Errorf("encode the value: %w", err)
	}
	return string(encoded), nil
}

// variables of outputs; what is not known is left out of them.
func (p *pass) variables() (map[string]any, error) {
	spec, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&p.object.Spec)
	if err != nil {
		return nil, fmt.Errorf("convert spec: %w", err)
	}
	observed := map[string]any{}
	if p.object.Status.Observed != nil {
		if observed, err = runtime.DefaultUnstructuredConverter.ToUnstructured(p.object.Status.Observed); err != nil {
			return nil, fmt.Errorf("convert status.observed: %w", err)
		}
	}
	return map[string]any{"host": p.hostVariables(), "service": p.serviceVariables(), "observed": observed, "spec": spec}, nil
}

func (p *pass) hostVariables() map[string]any {
	host := map[string]any{"name": p.host.Name, "address": p.host.Spec.Address}
	if facts := p.view.Host.Facts; facts != nil {
		host["facts"] = map[string]any{
			"osName": facts.OSName, "osVersion": facts.OSVersion, "kernel": facts.Kernel,
			"architecture": facts.Architecture, "hostname": facts.Hostname, "initSystem": facts.InitSystem,
			"cpus": int64(facts.CPUs), "memory": facts.MemoryBytes,
		}
	}
	return host
}

func (p *pass) serviceVariables() map[string]any {
	service := map[string]any{}
	ports := map[string]any{}
	for _, port := range p.object.Spec.Ports {
		ports[port.Name] = int64(port.Port)
	}
	service["ports"] = ports
	if endpoint := p.object.Status.Endpoint; endpoint != nil {
		service["name"] = endpoint.ServiceName
		service["namespace"] = p.object.Namespace
		service["dnsName"] = endpoint.ServiceName + "." + p.object.Namespace + ".svc"
		if endpoint.ClusterIP != "" {
			service["clusterIP"] = endpoint.ClusterIP
		}
	}
	return service
}
