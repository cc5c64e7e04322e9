package operator

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/client-go/rest"
)

// metrics reads the operator's metrics endpoint.
type metrics struct {
	address string
	token   string
	client  *http.Client
}

func newMetrics(token string) (*metrics, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	// The certificate is one that the operator made for itself, and both ends are this machine.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	return &metrics{address: address, token: token, client: &http.Client{Transport: transport}}, nil
}

func (m *metrics) read(ctx context.Context) (map[string]*dto.MetricFamily, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+m.address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+m.token)
	response, err := m.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close() //nolint:errcheck // only read
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the operator's metrics: %s", response.Status)
	}
	return parse(response.Body)
}

func parse(text io.Reader) (map[string]*dto.MetricFamily, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(text)
}

// requests counts the requests to hosts that were answered, and those that were not.
func (m *metrics) requests(ctx context.Context) (answered, failed uint64, err error) {
	families, err := m.read(ctx)
	if err != nil {
		return 0, 0, err
	}
	for _, metric := range families["isthmus_request_duration_seconds"].GetMetric() {
		count := metric.GetHistogram().GetSampleCount()
		if label(metric, "outcome") == "ok" {
			answered += count
		} else {
			failed += count
		}
	}
	return answered, failed, nil
}

func label(metric *dto.Metric, name string) string {
	for _, pair := range metric.GetLabel() {
		if pair.GetName() == name {
			return pair.GetValue()
		}
	}
	return ""
}

// Writes counts the requests that changed something in the API server, by resource. What
// the API server and leaders write to say that they are there (Leases) counts under "leases".
func (c *Cluster) Writes(ctx context.Context) (map[string]int, error) {
	families, err := c.serverMetrics(ctx)
	if err != nil {
		return nil, err
	}
	writes := map[string]int{}
	for _, metric := range families["apiserver_request_total"].GetMetric() {
		switch label(metric, "verb") {
		case "POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION":
			resource := strings.Trim(label(metric, "resource")+"/"+label(metric, "subresource"), "/")
			writes[resource] += int(metric.GetCounter().GetValue())
		}
	}
	return writes, nil
}

func (c *Cluster) serverMetrics(ctx context.Context) (map[string]*dto.MetricFamily, error) {
	admin, err := rest.HTTPClientFor(c.plane.AdminConfig())
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.plane.URL()+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := admin.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close() //nolint:errcheck // only read
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the API server's metrics: %s", response.Status)
	}
	return parse(response.Body)
}
