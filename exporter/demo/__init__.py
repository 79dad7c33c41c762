"""What would a small fleet show? Simulated hosts: real checks, runs, verdicts and pages over recorded worlds that move.

Only the world is simulated. A scenario (scenario.py) names hosts, the example of a probe that each check starts from, and
changes over time (changes.py); worlds.py makes the world of one run of it; hosts.py serves, backfill.py writes the past.
"""
