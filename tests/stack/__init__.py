"""The stack for real: Debian's Prometheus and Alertmanager with our files, our exporter, a webhook."""
