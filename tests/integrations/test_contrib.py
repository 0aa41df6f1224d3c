"""The dashboard and the alert rules use metrics that there are; and a rule fires where rebuilds take the time."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from mvolatile import VolatileCache
from mvolatile.cache.engine import engine_of

pytest.importorskip("prometheus_client", reason="make integrations installs it")

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from mvolatile.integrations.prometheus import register
from mvolatile.metrics import METRICS

CONTRIB = Path(__file__).parents[2] / "contrib"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool: Debian has it in prometheus")


def names() -> set[str]:
    """With what a histogram and a counter add."""
    registry = CollectorRegistry()
    register(registry)
    text = generate_latest(registry).decode()
    found = set(re.findall(r"# TYPE (\w+)", text))
    return found | {f"{name}_bucket" for name in re.findall(r"# TYPE (\w+) histogram", text)}


FILES = [CONTRIB / name for name in ("grafana-dashboard.json", "alerts.yml", "alerts_test.yml")]


@pytest.mark.parametrize(
    "file", [*FILES, CONTRIB.parent / "docs/howto/watching.md"], ids=lambda file: file.name
)
def test_the_names_are_those_that_there_are(file: Path) -> None:
    used = set(re.findall(r"\bmvolatile_\w+[a-z]\b", file.read_text()))
    assert used
    assert used <= names()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_labels_are_those_that_there_are(file: Path) -> None:
    labels = {
        metric.name: {"cache", "kind", "job", "instance", "le", *(label for label, _ in metric.labels)}
        for metric in METRICS
    }
    labels["lost_ages"] = {*labels["lost_age_seconds"], "at_most"}
    selected = re.findall(r"mvolatile_(?:shared_)?cache_(\w+)\{([^}]*)\}", file.read_text())
    assert selected or file.name == "alerts.yml"
    for name, matchers in selected:
        known = labels[name.removesuffix("_total").removesuffix("_bucket")]
        assert set(re.findall(r"(\w+)\s*=", matchers)) <= known, (name, matchers)


def test_the_dashboard_shows_every_metric() -> None:
    text = (CONTRIB / "grafana-dashboard.json").read_text()
    json.loads(text)
    shown = {name.removesuffix("_bucket") for name in re.findall(r"\bmvolatile_\w+", text)}
    assert {name.removesuffix("_bucket") for name in names()} == shown


@needs_promtool
def test_the_metrics_are_named_as_prometheus_has_it() -> None:
    """And whatever a cache is called, both forms of the text can be read."""
    registry = CollectorRegistry()
    register(registry)
    with VolatileCache[int, bytes](name='a "name"\nof two lines') as cache:
        cache.get_or_set(1, lambda: b"x")
        text = generate_latest(registry)
        read = {family.name for family in text_string_to_metric_families(openmetrics(registry).decode())}
    done = subprocess.run([PROMTOOL or "", "check", "metrics"], input=text, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b""), done
    assert {name.removesuffix("_total").removesuffix("_bucket") for name in names()} == read


@needs_promtool
def test_what_the_dashboard_asks_is_answered(tmp_path: Path) -> None:
    """Each of its expressions, by Prometheus, of figures that grow; and of ages the median is where it must be."""
    dashboard = json.loads((CONTRIB / "grafana-dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    for name, value in (("$job", ".*"), ("$cache", ".*"), ("$__rate_interval", "5m")):
        asked = [expression.replace(name, value) for expression in asked]
    series = {
        f"{name.removesuffix('_bucket')}_bucket" if name.endswith("lost_age_seconds") else name
        for name in names()
    }
    more = {"lost_age_seconds_bucket": "le", "shared_cache_lost_ages": "at_most"}
    inputs = []
    for name in series:
        label = next((label for ending, label in more.items() if name.endswith(ending)), None)
        own = 'job="app", cache="c", result="hit", reason="lost", window="10s"'
        for bound, grows in (("10.0", 5), ("60.0", 15), ("+Inf", 15)) if label else (("", 15),):
            at = f', {label}="{bound}"' if label else ""
            inputs.append({"series": f"{name}{{{own}{at}}}", "values": f"0+{grows}x20"})
    tests = [
        {
            "expr": f"count({expression}) > 0" if "quantile" not in expression else f"floor({expression})",
            "eval_time": "10m",
            "exp_samples": [
                {"labels": '{cache="c"}', "value": 22}
                if "quantile" in expression
                else {"labels": "{}", "value": 1}
            ],
        }
        for expression in asked
        if '"300s"' not in expression
    ]
    test = {
        "rule_files": [],
        "tests": [{"interval": "1m", "input_series": inputs, "promql_expr_test": tests}],
    }
    (tmp_path / "test.yml").write_text(json.dumps(test))
    done = subprocess.run(
        [PROMTOOL or "", "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_the_rules_are_rules_and_fire() -> None:
    for what in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run([PROMTOOL or "", *what], cwd=CONTRIB, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_a_rule_fires_on_a_cache_that_thrashes(tmp_path: Path) -> None:
    """What a real cache told before and after it was purged again and again, as Prometheus sees it over ten minutes."""
    with VolatileCache[int, bytes](name="thrashed") as cache:
        engine, registry = engine_of(cache), CollectorRegistry()
        register(registry)
        until = time.monotonic() + 0.5
        told: list[float] = []
        while time.monotonic() < until:
            for key in range(20):
                cache.get_or_set(key, lambda: time.sleep(0.001) or b"x" * 1000)
            engine.change(engine.store.seal_all)
            cache.purge()
            cache.cache_info()
            told.append(
                registry.get_sample_value(
                    "mvolatile_cache_rebuild_seconds_total", {"cache": "thrashed", "kind": "volatile"}
                )
                or 0.0
            )
    assert told[-1] > 0.2
    busy = told[-1] / 0.5 * 60
    (tmp_path / "alerts.yml").write_text((CONTRIB / "alerts.yml").read_text())
    (tmp_path / "test.yml").write_text(f"""
rule_files: [alerts.yml]
tests:
  - interval: 1m
    input_series:
      - series: 'mvolatile_cache_rebuild_seconds_total{{job="app", instance="a", cache="thrashed", kind="volatile"}}'
        values: "0+{busy}x15"
    promql_expr_test:
      - expr: count(ALERTS{{alertname="VolatileCacheRebuilds", alertstate="firing", cache="thrashed"}})
        eval_time: 12m
        exp_samples: [{{labels: "{{}}", value: 1}}]
""")
    done = subprocess.run(
        [PROMTOOL or "", "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
