"""Which numbers describe the host, and what we cost it? The metrics of the probe `host`."""

from __future__ import annotations

from probes.api import Metric

CPU = Metric("cpu_seconds_total", "CPU time since boot, over all cores, by mode.", ("mode",), kind="counter")
CPU_BUSY = Metric("cpu_utilization_ratio", "Share of CPU time not idle since the last look (at first: since boot).")
CPUS = Metric("cpus", "Logical processors.")
MEMORY = Metric("memory_total_bytes", "Physical memory.")
MEMORY_USED = Metric("memory_used_bytes", "Memory that cannot be had without swapping.")
MEMORY_BUSY = Metric("memory_utilization_ratio", "Share of memory that cannot be had without swapping.")
SWAP = Metric("swap_total_bytes", "Swap space.")
SWAP_USED = Metric("swap_used_bytes", "Swap space in use.")
LOAD = Metric("load_averages", "Tasks running or waiting for a disk, averaged over a window.", ("window",))
BOOT = Metric("boot_timestamp_seconds", "When the machine started, in Unix time.")
READ = Metric("disk_read_bytes_total", "Bytes read from a disk since boot.", ("device",), kind="counter")
WRITTEN = Metric("disk_written_bytes_total", "Bytes written to a disk since boot.", ("device",), kind="counter")
RECEIVED = Metric("network_received_bytes_total", "Bytes received since boot.", ("device",), kind="counter")
SENT = Metric("network_sent_bytes_total", "Bytes sent since boot.", ("device",), kind="counter")
LIMIT = Metric("container_memory_limit_bytes", "Memory that this container may use.")
LIMIT_USED = Metric("container_memory_used_bytes", "Memory that this container uses and cannot give back.")
CPU_LIMIT = Metric("container_cpus", "Processors' worth of time that this container may use.")
SELF_CPU = Metric("self_cpu_ratio", "Our own CPU seconds a second since the last look.", better="lower")
SELF_MEMORY = Metric("self_resident_bytes", "Our own resident memory.", better="lower")
METRICS = (
    CPU,
    CPU_BUSY,
    CPUS,
    MEMORY,
    MEMORY_USED,
    MEMORY_BUSY,
    SWAP,
    SWAP_USED,
    LOAD,
    BOOT,
    READ,
    WRITTEN,
    RECEIVED,
    SENT,
    LIMIT,
    LIMIT_USED,
    CPU_LIMIT,
    SELF_CPU,
    SELF_MEMORY,
)
