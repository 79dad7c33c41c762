"""Which exceptions do the dashboards' rules have? Each with its reason; a reviewer reads this file."""

from __future__ import annotations

from dashboards.rest import LEFT_OUT

# Series of other programs. Their job and instance are not the exporter's, so no variable selects them.
FOREIGN = {
    "up": "written by Prometheus for every target",
    "ALERTS": "written by Prometheus for every alert; ours carry job and instance",
    "ALERTS_FOR_STATE": "since when an alert is active, written by Prometheus",
    "scrape_duration_seconds": "written by Prometheus for every scrape",
    "scrape_samples_scraped": "written by Prometheus for every scrape",
    "process_cpu_seconds_total": "of every exporter, by prometheus_client",
    "process_resident_memory_bytes": "of every exporter, by prometheus_client",
    "process_start_time_seconds": "of every exporter, by prometheus_client",
    "process_open_fds": "of every exporter, by prometheus_client",
    "prometheus_rule_evaluation_failures_total": "of Prometheus itself",
    "prometheus_notifications_dropped_total": "of Prometheus itself",
    "prometheus_notifications_errors_total": "of Prometheus itself",
    "prometheus_notifications_sent_total": "of Prometheus itself",
    "alertmanager_notifications_total": "of Alertmanager itself",
    "alertmanager_notifications_failed_total": "of Alertmanager itself",
}

# Made at scrape time, from runs in progress (exporter/live.py); a test holds them against that module.
LIVE = ("gpucanary_check_progress_ratio", "gpucanary_check_eta_seconds")

# Selectors without `job=~"$job",instance=~"$instance"`: the beginning of a metric's name, or a whole selector.
UNSELECTED = {
    "prometheus_": "Prometheus has a job of its own",
    "alertmanager_": "Alertmanager has a job of its own",
    'ALERTS{alertname="GpuCanaryWatchdog",alertstate="firing"}': "it is about the rules, and has no job",
}

# Counters shown as they are, outside rate() and increase().
BARE: dict[str, str] = {
    "gpucanary_gpu_ecc_errors_total": "the count over a card's life is what its maker asks for",
    "gpucanary_gpu_ecc_volatile_errors_total": "the count since the driver was loaded tells which errors are new",
}

# Our series that no panel shows; of those that a probe measures, the builders must know it too.
UNSHOWN: dict[str, str] = {
    "gpucanary_check_duration_seconds_count": "the buckets say the same, and more",
    "gpucanary_check_duration_seconds_sum": "the buckets say the same, and more",
    **LEFT_OUT,
    "gpucanary_cleanup_runs_total": "a count of looks; what it is for is the next one",
    "gpucanary_cleanup_removed_bytes_total": "nothing, unless an exporter was killed in the middle of a benchmark",
}

# Panels whose colours begin at an alert's number: the numbers must be in that alert's expression.
PAIRED = {
    ("gpucanary-overview", "Freshness"): "GpuCanaryCheckOverdue",
    ("gpucanary-canary", "CPU, worst host"): "GpuCanaryOverhead",
    ("gpucanary-canary", "Memory, worst host"): "GpuCanaryOverhead",
    ("gpucanary-canary", "CPU of the exporters"): "GpuCanaryOverhead",
    ("gpucanary-canary", "Memory of the exporters"): "GpuCanaryOverhead",
    ("gpucanary-canary", "What the check `host` measured of the exporter"): "GpuCanaryOverhead",
    ("gpucanary-environment", "Disks"): "GpuCanaryDiskFillsSoon",
    ("gpucanary-hardware", "Machines"): "GpuCanaryHostMemoryHigh",
    ("gpucanary-benchmarks", "Runs"): "GpuCanaryCheckOverdue",
    ("gpucanary-services", "Burn of the objective"): "GpuCanaryObjectiveBurn",
    ("gpucanary-canary", "Scheduler lag"): "GpuCanarySchedulerLate",
    ("gpucanary-canary", "Scheduler lag, worst host"): "GpuCanarySchedulerLate",
}
# Panels whose colours begin at a number that no alert has: the reason why.
SPREAD = "5 % off its best is a benchmark's usual spread: a hint, nobody is called for it"
UNPAIRED = {
    ("gpucanary-hardware", "Left until it slows down"): "the alert begins at 0 degrees left; 5 before that is a hint",
    ("gpucanary-services", "Answers"): "14 days is the check's `minimum_validity`; the alert follows the rule it fires",
    ("gpucanary-services", "Objectives"): "a quarter of the month's allowance is left: a hint, nobody is called for it",
    (
        "gpucanary-benchmarks",
        "Against what such a card reaches",
    ): "the rule `below-expected` begins there, which tells why",
    ("gpucanary-benchmarks", "Matrix product: newest against target and best"): SPREAD,
    ("gpucanary-benchmarks", "Attention: newest against target and best"): SPREAD,
    ("gpucanary-benchmarks", "Convolution: newest against target and best"): SPREAD,
    ("gpucanary-benchmarks", "Memory: newest against target and best"): SPREAD,
    ("gpucanary-benchmarks", "Bus: newest against target and best"): SPREAD,
    ("gpucanary-benchmarks", "Between cards: newest against target and best"): SPREAD,
}

RETENTION_DAYS = 30  # the longest range a panel may look back; docker-compose.yml says how long Prometheus keeps
