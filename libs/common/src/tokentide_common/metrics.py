"""Every Prometheus metric of every service, in one typed list, and the object that records them.

Names are `tokentide_<part>_<thing>_<unit>`. Labels have few values each: no organisation, person, project or
free text, so that the number of series stays bounded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from itertools import accumulate
from typing import Final, Literal

import msgspec
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

CounterName = Literal[
    "tokentide_aggregator_boundaries_obeyed_total",
    "tokentide_aggregator_events_total",
    "tokentide_aggregator_lookups_total",
    "tokentide_broker_publish_failures_total",
    "tokentide_dlq_events_total",
    "tokentide_ingest_events_total",
    "tokentide_ingest_forward_requests_total",
    "tokentide_ingest_requests_total",
    "tokentide_proxy_events_dropped_total",
    "tokentide_proxy_requests_total",
    "tokentide_proxy_upstream_repeats_total",
    "tokentide_proxy_usage_unread_total",
    "tokentide_query_alert_deliveries_total",
    "tokentide_query_answers_total",
    "tokentide_query_rate_limits_alone_total",
    "tokentide_query_requests_total",
    "tokentide_rank_recomputed_total",
    "tokentide_ranker_lease_changes_total",
    "tokentide_tag_values_dropped_total",
]
GaugeName = Literal[
    "tokentide_aggregator_filter_bytes",
    "tokentide_aggregator_partitions_stopped",
    "tokentide_build_info",
    "tokentide_ingest_bytes_in_flight",
    "tokentide_ingest_forward_queue_bytes",
    "tokentide_ingest_forward_queue_requests",
    "tokentide_ingest_requests_waiting",
    "tokentide_kafka_consumer_lag_records",
    "tokentide_proxy_events_buffered",
    "tokentide_proxy_spool_bytes",
    "tokentide_proxy_streams_in_flight",
    "tokentide_proxy_upstream_connections",
    "tokentide_rank_last_success_timestamp_seconds",
    "tokentide_ranker_active",
    "tokentide_ranker_fence",
]
HistogramName = Literal[
    "tokentide_aggregator_block_records",
    "tokentide_aggregator_stage_duration_seconds",
    "tokentide_broker_publish_duration_seconds",
    "tokentide_clickhouse_insert_rows",
    "tokentide_event_end_to_end_latency_seconds",
    "tokentide_ingest_request_duration_seconds",
    "tokentide_proxy_overhead_seconds",
    "tokentide_query_request_duration_seconds",
    "tokentide_rank_recompute_duration_seconds",
]
MetricName = CounterName | GaugeName | HistogramName

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SHORT: Final = (2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0)
_ROWS: Final = (1.0, 10.0, 100.0, 1e3, 5e3, 1e4, 5e4, 1e5, 5e5)


class Metric(msgspec.Struct, frozen=True):
    """One metric: its name, kind, help text, labels and, for a histogram, its bounds."""

    name: MetricName
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


def _counter(name: CounterName, text: str, *labels: str) -> Metric:
    return Metric(name, "counter", text, labels)


def _gauge(name: GaugeName, text: str, *labels: str) -> Metric:
    return Metric(name, "gauge", text, labels)


def _histogram(name: HistogramName, buckets: tuple[float, ...], text: str, *labels: str) -> Metric:
    return Metric(name, "histogram", text, labels, buckets)


METRICS: Final = (
    _gauge("tokentide_build_info", "Always 1; the label says which version runs.", "version"),
    # ingest
    _counter(
        "tokentide_ingest_events_total",
        "Events received; outcome is accepted or rejected.",
        "source",
        "outcome",
    ),
    _counter("tokentide_ingest_requests_total", "Requests answered, by route and status.", "route", "status"),
    _histogram(
        "tokentide_ingest_request_duration_seconds",
        _SECONDS,
        "Time from the first byte of a request to its answer.",
        "route",
    ),
    _gauge("tokentide_ingest_bytes_in_flight", "Decompressed bytes of the requests in work."),
    _gauge("tokentide_ingest_requests_waiting", "Requests that wait until their events are stored."),
    _counter(
        "tokentide_ingest_forward_requests_total",
        "Copies for the collector behind us (queue mirror), our copies of what it answers (aside), and its "
        "answers (relay); outcome is delivered, retried, or the loss: refused, too_old, queue_full, "
        "disk_error, damaged.",
        "queue",
        "outcome",
    ),
    _gauge("tokentide_ingest_forward_queue_bytes", "Disk that waiting copies take.", "queue"),
    _gauge("tokentide_ingest_forward_queue_requests", "Copies that wait on disk.", "queue"),
    # proxy
    _counter(
        "tokentide_proxy_requests_total",
        "Requests by what the client was answered; status 0: it left before.",
        "upstream",
        "status",
    ),
    _histogram(
        "tokentide_proxy_overhead_seconds",
        _SHORT,
        "Time that the proxy adds: until a request is handed over, and for the first byte of its answer.",
    ),
    _counter(
        "tokentide_proxy_usage_unread_total",
        "Answers of models whose usage could not be read: an encoding or a form that is not known.",
        "upstream",
    ),
    _counter(
        "tokentide_proxy_upstream_repeats_total",
        "Requests sent once more over another connection, since the provider had closed the one at rest.",
        "upstream",
    ),
    _gauge("tokentide_proxy_streams_in_flight", "Requests that are being answered."),
    _gauge(
        "tokentide_proxy_upstream_connections",
        "Open connections to providers; state is idle (at rest, to be used again) or in_use.",
        "state",
    ),
    _counter(
        "tokentide_tag_values_dropped_total",
        "Tags left out of events and facts because an organisation has too many different ones; source is "
        "cli, otlp or proxy.",
        "source",
    ),
    _counter(
        "tokentide_proxy_events_dropped_total",
        "Usage events lost, never a call: buffer_full, spool_full, disk_error, invalid (not to be sent), "
        "stopped (came after the end), damaged (places on disk, each one event or more).",
        "reason",
    ),
    _gauge("tokentide_proxy_events_buffered", "Usage events in memory, on their way to the broker or disk."),
    _gauge("tokentide_proxy_spool_bytes", "Disk that usage events take which wait for the broker."),
    # broker
    _histogram(
        "tokentide_broker_publish_duration_seconds",
        _SECONDS,
        "Time until the broker has a batch safely.",
        "topic",
    ),
    _counter("tokentide_broker_publish_failures_total", "Batches that the broker did not take.", "topic"),
    _gauge(
        "tokentide_kafka_consumer_lag_records",
        "Records that a consumer group has not yet committed.",
        "group",
        "topic",
        "partition",
    ),
    _counter("tokentide_dlq_events_total", "Records sent to the dead letters, by reason.", "reason"),
    # aggregator
    _counter(
        "tokentide_aggregator_events_total",
        "Events consumed; outcome is counted, upgraded, duplicate or rejected.",
        "topic",
        "outcome",
    ),
    _histogram("tokentide_aggregator_block_records", _ROWS, "Records folded into one block."),
    _histogram(
        "tokentide_aggregator_stage_duration_seconds",
        _SECONDS,
        "Time of one stage of a block: claim, fold, lookup, merge, insert, feed (live views are told), seen, "
        "links.",
        "stage",
    ),
    _counter(
        "tokentide_aggregator_boundaries_obeyed_total", "Blocks whose end another claim had fixed: replays."
    ),
    _counter(
        "tokentide_aggregator_lookups_total",
        "Calls that the filter in memory could not rule out; result is known or unknown.",
        "result",
    ),
    _gauge("tokentide_aggregator_filter_bytes", "Memory of the filter.", "topic"),
    _gauge(
        "tokentide_aggregator_partitions_stopped",
        "Partitions stopped by the brake: too many bad records.",
        "topic",
    ),
    _histogram(
        "tokentide_event_end_to_end_latency_seconds",
        _SECONDS,
        "Time from the arrival of an event to its visibility.",
    ),
    # store
    _histogram("tokentide_clickhouse_insert_rows", _ROWS, "Rows of one insert.", "table"),
    # ranker
    _gauge("tokentide_ranker_active", "1 in the ranker that holds the lease, 0 in those that stand by."),
    _gauge("tokentide_ranker_fence", "The fencing token of the lease that this ranker holds."),
    _counter(
        "tokentide_ranker_lease_changes_total",
        "Leases won and lost; change is acquired, lost or released.",
        "change",
    ),
    _counter("tokentide_rank_recomputed_total", "Rankings computed anew, by kind of period.", "period"),
    _histogram(
        "tokentide_rank_recompute_duration_seconds", _SECONDS, "Time to compute a ranking anew.", "period"
    ),
    _gauge("tokentide_rank_last_success_timestamp_seconds", "Unix time of the last ranking written."),
    # query API
    _counter("tokentide_query_requests_total", "Requests answered, by route and status.", "route", "status"),
    _counter(
        "tokentide_query_alert_deliveries_total",
        "Attempts to deliver a budget's alert to a webhook or the topic; outcome is delivered, refused (it "
        "is tried again) or given_up (it is not).",
        "outcome",
    ),
    _counter(
        "tokentide_query_rate_limits_alone_total",
        "Requests counted by this replica alone, since the database that replicas count in was away.",
    ),
    _counter(
        "tokentide_query_answers_total",
        "Questions to the store: read, kept, or read since its parts are unseen.",
        "how",
    ),
    _histogram("tokentide_query_request_duration_seconds", _SECONDS, "Time to answer a request.", "route"),
)
_BY_NAME: Final = {metric.name: metric for metric in METRICS}


class Tally(Collector):
    """A histogram that one thread alone fills: as the library's own, at a fifth of the cost of a value."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._counts = [0] * (len(metric.buckets) + 1)
        self._sum = 0.0

    def observe_all(self, amounts: Iterable[float]) -> None:
        """Count values."""
        counts, bounds = self._counts, self._metric.buckets
        for amount in amounts:
            counts[bisect_left(bounds, amount)] += 1
            self._sum += amount

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Give what was counted, for the registry."""
        bounds = [*map(floatToGoString, self._metric.buckets), "+Inf"]
        buckets = list(zip(bounds, accumulate(map(float, self._counts)), strict=True))
        yield HistogramMetricFamily(self._metric.name, self._metric.help, buckets, self._sum)


class Metrics:
    """The metrics of one app, in a registry of its own: several apps may share a process.

    A metric appears in the output once it was asked for.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        # A second series for each metric, which no dashboard of ours reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves it untyped
        if registry is None:
            registry = CollectorRegistry()
            ProcessCollector(registry=registry)
            GCCollector(registry=registry)
        self._registry = registry
        self._counters: dict[CounterName, Counter] = {}
        self._gauges: dict[GaugeName, Gauge] = {}
        self._histograms: dict[HistogramName, Histogram] = {}
        self.gauge("tokentide_build_info", version=version("tokentide-common")).set(1)

    def counter(self, name: CounterName, **labels: str) -> Counter:
        """Return a counter with these labels; keep it where it is used often."""
        counter = self._counters.get(name)
        if counter is None:
            metric = _BY_NAME[name]
            counter = self._counters[name] = Counter(
                name, metric.help, metric.labels, registry=self._registry
            )
        return counter.labels(**labels) if labels else counter

    def gauge(self, name: GaugeName, **labels: str) -> Gauge:
        """Return a gauge with these labels."""
        gauge = self._gauges.get(name)
        if gauge is None:
            metric = _BY_NAME[name]
            gauge = self._gauges[name] = Gauge(name, metric.help, metric.labels, registry=self._registry)
        return gauge.labels(**labels) if labels else gauge

    def histogram(self, name: HistogramName, **labels: str) -> Histogram:
        """Return a histogram with these labels."""
        histogram = self._histograms.get(name)
        if histogram is None:
            metric = _BY_NAME[name]
            histogram = self._histograms[name] = Histogram(
                name, metric.help, metric.labels, registry=self._registry, buckets=metric.buckets
            )
        return histogram.labels(**labels) if labels else histogram

    def tally(self, name: HistogramName) -> Tally:
        """Return a histogram without labels that one thread alone fills; to be asked for once."""
        tally = Tally(_BY_NAME[name])
        self._registry.register(tally)
        return tally

    def render(self) -> bytes:
        """Return everything in the Prometheus text format (`CONTENT_TYPE`)."""
        return generate_latest(self._registry)
