"""What does history say to SQLite? Its tables, and the statements that are more than a line."""

from __future__ import annotations

from collections.abc import Mapping

SCHEMA_VERSION = 1
MIGRATIONS: Mapping[int, str] = {}  # version -> the statements that lead to version + 1
SCHEMA = """
CREATE TABLE latest (name TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, record TEXT NOT NULL) STRICT;
CREATE TABLE runs (id INTEGER PRIMARY KEY, name TEXT NOT NULL, started REAL NOT NULL, outcome TEXT NOT NULL,
                   duration REAL NOT NULL, record TEXT NOT NULL) STRICT;
CREATE INDEX runs_by_name ON runs (name, started);
CREATE INDEX runs_by_time ON runs (started);
"""
# In the order in which they were written: a clock that was wrong for a day, and then set right, changes no order.
RUNS = """SELECT record FROM (SELECT id, record FROM runs WHERE name = ? AND started > ?
          AND (? OR outcome IN ('ok', 'degraded', 'failed')) ORDER BY started DESC LIMIT ?) ORDER BY id"""
INSERT = "INSERT INTO runs (name, started, outcome, duration, record) VALUES (?, ?, ?, ?, ?)"
# The oldest first, but of no check the newest runs that a baseline is made of while others have more.
PRUNE = """DELETE FROM runs WHERE id IN (SELECT id FROM
            (SELECT id, started, row_number() OVER (PARTITION BY name ORDER BY started DESC) AS place FROM runs)
            ORDER BY place <= ?, started LIMIT max(1, (SELECT count(*) FROM runs) / 10))"""
