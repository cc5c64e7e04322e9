package fleet

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

var (
	hostsGauge = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "isthmus_hosts",
		Help: "Hosts by the state of their link.",
	}, []string{"state"})

	requestSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "isthmus_request_duration_seconds",
		Help:    "Time that hosts took to connect and to answer, by transport and outcome.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
	}, []string{"transport", "outcome"})

	jobsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_jobs_total",
		Help: "Jobs by what the host said when they were handed over, or why they were not.",
	}, []string{"outcome"})

	cancelsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_cancellations_total",
		Help: "Requests to cancel a job by what came of them.",
	}, []string{"outcome"})

	stagesTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_stagings_total",
		Help: "Pieces of content for jobs by whether they got onto the host, or why not.",
	}, []string{"outcome"})

	stagedBytes = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "isthmus_staged_bytes_total",
		Help: "Bytes of content for jobs that were read to be put on hosts.",
	})

	observationAge = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "isthmus_observation_age_seconds",
		Help: "Age of the oldest observation among the hosts that answer.",
	}, oldestObservation)
)

// running holds the fleets that are started, for metrics that are made when asked for.
var running sync.Map

func init() {
	metrics.Registry.MustRegister(hostsGauge, requestSeconds, jobsTotal, cancelsTotal, stagesTotal, stagedBytes, observationAge)
}

func countHost(before, after State) {
	if before != "" {
		hostsGauge.WithLabelValues(string(before)).Dec()
	}
	if after != "" {
		hostsGauge.WithLabelValues(string(after)).Inc()
	}
}

func countRequest(transport string, took time.Duration, err error) {
	outcome := "ok"
	if err != nil {
		outcome = judge(err).outcome
	}
	requestSeconds.WithLabelValues(transport, outcome).Observe(took.Seconds())
}

func countJob(outcome string) { jobsTotal.WithLabelValues(outcome).Inc() }

func countCancel(outcome string) { cancelsTotal.WithLabelValues(outcome).Inc() }

func countStaged(n int) { stagedBytes.Add(float64(n)) }

func countStage(err error) {
	var origin *SourceError
	var slow *SlowStageError
	outcome := "ok"
	switch {
	case errors.As(err, &origin):
		outcome = "source"
	case errors.As(err, &slow):
		outcome = "slow"
	case refusedByHost(err):
		outcome = "refused"
	case errors.Is(err, context.Canceled):
		outcome = "aborted"
	case err != nil:
		outcome = judge(err).outcome
	}
	stagesTotal.WithLabelValues(outcome).Inc()
}

func oldestObservation() float64 {
	var oldest time.Duration
	running.Range(func(key, _ any) bool {
		f := key.(*Fleet)
		for _, l := range f.all() {
			status, _ := l.hostStatus()
			if status.State == Connected {
				oldest = max(oldest, f.options.Clock.Since(status.LastSeen))
			}
		}
		return true
	})
	return oldest.Seconds()
}

func transportOf(spec v1alpha1.HostSpec) string {
	switch {
	case spec.SSH != nil:
		return "ssh"
	case spec.WinRM != nil:
		return "winrm"
	}
	return "other"
}
