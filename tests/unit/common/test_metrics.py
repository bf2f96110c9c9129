"""Metrics: one list, typed names, bounded labels, and a registry per app."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from tokentide_common.metrics import METRICS, CounterName, GaugeName, HistogramName, Metrics

ROOT = Path(__file__).parents[3]
NAMES = {"counter": CounterName, "gauge": GaugeName, "histogram": HistogramName}
OVERHEAD = "tokentide_proxy_overhead_seconds"


@pytest.mark.parametrize("kind", NAMES)
def test_the_typed_names_of_a_kind_are_exactly_the_listed_metrics_of_that_kind(kind):
    listed = sorted(metric.name for metric in METRICS if metric.kind == kind)
    assert listed == sorted(get_args(NAMES[kind]))


def test_names_follow_the_convention_and_none_is_listed_twice():
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))
    for metric in METRICS:
        assert re.fullmatch(r"tokentide(_[a-z]+)+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert metric.help.endswith(".")


def test_no_label_can_name_an_organisation_a_person_or_free_text():
    unbounded = {
        "org",
        "org_id",
        "user",
        "user_id",
        "machine",
        "machine_id",
        "project",
        "model",
        "key",
        "path",
    }
    assert [metric.name for metric in METRICS if unbounded & set(metric.labels)] == []


def test_every_listed_metric_is_recorded_by_some_service():
    sources = [*ROOT.glob("services/*/src/**/*.py"), *ROOT.glob("libs/common/src/**/*.py")]
    text = "\n".join(path.read_text("utf-8") for path in sources)
    calls = set(re.findall(r"\.(?:counter|gauge|histogram|tally)\(\s*\"(\w+)\"", text))
    assert [metric.name for metric in METRICS if metric.name not in calls] == []


def test_every_listed_metric_can_be_recorded_and_is_rendered():
    metrics = Metrics()
    for metric in METRICS:
        labels = dict.fromkeys(metric.labels, "x")
        if metric.kind == "counter":
            metrics.counter(metric.name, **labels).inc()
        elif metric.kind == "gauge":
            metrics.gauge(metric.name, **labels).set(1)
        else:
            metrics.histogram(metric.name, **labels).observe(1)
    families = {family.name for family in text_string_to_metric_families(metrics.render().decode())}
    assert {metric.name.removesuffix("_total") for metric in METRICS} <= families
    assert "process_resident_memory_bytes" in families


def test_two_apps_in_one_process_count_apart():
    one, other = Metrics(), Metrics()
    one.counter("tokentide_ingest_events_total", source="cli", outcome="accepted").inc(3)
    assert b'outcome="accepted"' in one.render()
    assert b"tokentide_ingest_events_total" not in other.render()


def test_asking_twice_gives_the_same_metric():
    metrics = Metrics()
    metrics.gauge("tokentide_ranker_active").set(1)
    metrics.gauge("tokentide_ranker_active").inc()
    assert b"tokentide_ranker_active 2.0" in metrics.render()


def test_a_label_that_the_list_does_not_have_is_refused():
    with pytest.raises(ValueError, match="label"):
        Metrics().counter("tokentide_dlq_events_total", organisation="acme")


def test_a_tally_says_what_the_librarys_histogram_says():
    slow, fast = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    histogram, tally = slow.histogram(OVERHEAD), fast.tally(OVERHEAD)
    for amount in (0, 2e-5, 3e-5, 0.7, 1.0, 5):
        histogram.observe(amount)
        tally.observe_all([amount])
    assert fast.render() == slow.render()
