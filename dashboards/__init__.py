"""Which picture answers which question? One builder and one generated JSON for each dashboard (`make dashboards`)."""
