"""The web: /metrics, the status page, the JSON API and health, on Starlette."""
