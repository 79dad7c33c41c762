"""What makes a dashboard wrong? Our linter for its JSON and its PromQL, and what it needs to know."""
