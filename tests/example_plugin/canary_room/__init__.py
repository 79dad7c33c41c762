"""Probes of a third party."""
