package broker

import (
	"github.com/prometheus/client_golang/prometheus"
)

// sample is one value at the time of a scrape.
type sample struct {
	value  float64
	labels []string
}

// family is a metric whose values are read off the packages' own counters when
// a scrape asks, so that nothing is counted twice.
type family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func() []sample
}

// collector gathers all families of a broker.
type collector []family

func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, f := range c {
		out <- f.desc
	}
}

func (c collector) Collect(out chan<- prometheus.Metric) {
	for _, f := range c {
		for _, s := range f.read() {
			out <- prometheus.MustNewConstMetric(f.desc, f.kind, s.value, s.labels...)
		}
	}
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("tidewater_"+name, help, labels, nil)
}

// gauge and counter are families of one value.
func gauge(name, help string, read func() float64) family {
	return family{describe(name, help), prometheus.GaugeValue, func() []sample { return []sample{{value: read()}} }}
}

func counter(name, help string, read func() float64) family {
	return family{describe(name, help), prometheus.CounterValue, func() []sample { return []sample{{value: read()}} }}
}

// counters is a family with one label.
func counters(name, help, label string, read func() []sample) family {
	return family{describe(name, help, label), prometheus.CounterValue, read}
}

// gauges is a family with labels, of values that go up and down.
func gauges(name, help string, labels []string, read func() []sample) family {
	return family{describe(name, help, labels...), prometheus.GaugeValue, read}
}
