# Every target is a command one could type. `make run` and `make test` set up what they need first.
.DEFAULT_GOAL := help
.PHONY: help run demo test setup lint types suite containers golden dashboards previews bench bench-gpu docs constraints
BIN := .venv/bin

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile

run: ## start the exporter (ARGS='--config.file FILE'; TORCH=0: never install torch)
	@deploy/setup.sh run
	@exec $(BIN)/gpu-canary serve $(ARGS)

demo: ## serve a simulated fleet with one sick host (ARGS='--scenario=sick'; docs/demo.md)
	@deploy/setup.sh run
	@exec $(BIN)/gpu-canary demo $(ARGS)

test: lint types suite containers ## everything CI runs (STRICT=1: what could not run is a failure)

setup: # what the targets below need; does nothing when nothing changed
	@deploy/setup.sh test

lint: setup ## style, spelling, directions of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/lint-imports

types: setup ## mypy, strict
	$(BIN)/mypy

suite: setup ## the tests (ARGS='-k disk')
	@$(BIN)/pytest -n 2 --dist loadfile --ignore=tests/test_containers.py $(ARGS)

containers: setup ## the tests that need podman: alone, because networks that come and go disturb the browser
	@$(BIN)/pytest tests/test_containers.py

golden: setup ## rewrite tests/golden/; review the diff
	GOLDEN=1 $(BIN)/pytest -q tests/test_golden.py

dashboards: setup ## write dashboards/json/ anew; a test finds any drift
	$(BIN)/python -m dashboards

previews: setup ## draw the dashboards of the demo into docs/images/ (minutes; a preview, not Grafana)
	$(BIN)/python -m tests.stack.pictures

bench: setup ## the budgets, measured against blackbox_exporter and prometheus_client on this machine (minutes)
	$(BIN)/python -m tests.performance $(ARGS)

bench-gpu: setup ## each benchmark against its card's own ceiling, ten runs, into docs/measurements/ (needs a GPU)
	$(BIN)/python -m tests.performance.device $(ARGS)

docs: setup ## write docs/reference.md and docs/commands.md anew
	$(BIN)/python docs/build.py

constraints: ## pin anew what pip resolves today
	deploy/setup.sh constraints
