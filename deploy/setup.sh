#!/bin/sh
# What does a fresh machine need before `make run` and `make test` can work?
#
#   deploy/setup.sh run          .venv with the exporter
#   deploy/setup.sh test         .venv with what tests need, .venv-torch, .venv-grafana; as root, Debian packages they use
#   deploy/setup.sh constraints  constraints.txt, from what pip resolves today
#
# Nothing is done twice: .venv/.installed names the files it was made from. Where Python is missing or too old, the one
# command to type is printed. Python's own pip is preferred to uv because it knows the index this machine is set up for.
set -eu
cd "$(dirname "$0")/.."

say() { echo "setup: $*" >&2; }

sudo_if_needed() { [ "$(id -u)" = 0 ] || echo "sudo "; }

# Python 3.11 to 3.14, newest first; PYTHON=... decides otherwise.
find_python() {
    for python in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3}; do
        if "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    return 1
}

# The one command that brings a usable Python to this machine. $1: a Python that only lacks the venv module, or nothing.
command_to_type() {
    sudo=$(sudo_if_needed)
    if command -v apt-get >/dev/null; then
        if [ "$1" ]; then
            echo "${sudo}apt-get install $("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
            return
        fi
        for version in 3.14 3.13 3.12 3.11; do
            if apt-cache show "python$version-venv" >/dev/null 2>&1; then
                echo "${sudo}apt-get install python$version-venv"
                return
            fi
        done
    elif command -v dnf >/dev/null; then
        echo "${sudo}dnf install python3.12"
        return
    elif command -v pacman >/dev/null; then
        echo "${sudo}pacman -S python"
        return
    elif command -v zypper >/dev/null; then
        echo "${sudo}zypper install python312"
        return
    elif command -v apk >/dev/null; then
        echo "${sudo}apk add python3"
        return
    elif command -v brew >/dev/null; then
        echo "brew install python@3.13"
        return
    fi
    echo "curl -LsSf https://astral.sh/uv/install.sh | sh"
}

give_up() {
    say "gpu-canary needs Python 3.11 to 3.14 with its venv module, or uv. Type this, then try again:"
    say
    say "    $(command_to_type "$1")"
    exit 3
}

# make_venv DIRECTORY: an empty environment that has pip.
make_venv() {
    if python=$(find_python) && "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        "$python" -m venv --clear "$1"
    elif command -v uv >/dev/null; then
        uv venv --quiet --clear --seed --python '>=3.11,<3.15' "$1"
    else
        give_up "${python:-}"
    fi
}

# venv EXTRA: .venv as pyproject.toml and constraints.txt say, made anew when its Python is gone.
venv() {
    made_from="$(cat pyproject.toml constraints.txt | cksum)"
    .venv/bin/python -c 'import pip' 2>/dev/null || make_venv .venv
    # what was installed for tests serves `run` too
    for known in "$made_from $1" "$made_from [dev]"; do
        if [ "$known" = "$(cat .venv/.installed 2>/dev/null)" ]; then return; fi
    done
    say "installing gpu-canary$1 into .venv"
    # both names, because pip 25.3 split what holds for the build backend from what holds for the rest
    PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
        .venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --editable ".$1"
    echo "$made_from $1" >.venv/.installed
}

# The tests' own torch. What is there stays: it may be the one that `make run` prepared for this card.
torch_venv() {
    version='import importlib.metadata; importlib.metadata.version("torch")'
    if [ "${TORCH:-auto}" = 0 ]; then return; fi
    if [ -e .venv-torch/.gpu-canary-preparing ]; then
        say "a running exporter prepares .venv-torch; if none runs, type: rm -r .venv-torch"
        return
    fi
    if .venv-torch/bin/python -c "$version" 2>/dev/null; then return; fi
    pin=$(grep '^torch==' constraints.txt)
    say "installing $pin into .venv-torch for the tests that need it (TORCH=0 leaves it out)"
    make_venv .venv-torch
    .venv-torch/bin/python -m pip install --quiet --quiet --disable-pip-version-check "$pin" ||
        say "no torch; the tests that need it will say so"
}

# The environment of `gpu-canary dashboards push`, made by the code that makes it for users.
grafana_venv() {
    PIP_CONSTRAINT="$PWD/constraints.txt" .venv/bin/python - <<'PYTHON' || say "no grafana-client; the tests that need it will say so"
import pathlib, sys
from exporter.grafana import GrafanaError, prepared
try:
    prepared(pathlib.Path(".venv-grafana").absolute(), lambda text: print("setup:", text, file=sys.stderr))
except GrafanaError as error:
    sys.exit(f"setup: {error}")
PYTHON
}

# What tests use if it is there: a compiler, a browser, nginx, Prometheus and its family. Installed as root on Debian only.
debian_packages() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then return; fi
    missing=""
    for package in prometheus prometheus-alertmanager prometheus-node-exporter prometheus-blackbox-exporter \
        victoria-metrics systemd nginx-light chromium gcc libc6-dev openssl curl; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' || missing="$missing $package"
    done
    if [ -z "$missing" ]; then return; fi
    say "installing Debian packages:$missing"
    policy=/usr/sbin/policy-rc.d # https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt
    if [ ! -e "$policy" ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" # 101: start no service
    fi
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086  # one word per package
    { apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends $missing; } \
        </dev/null >/dev/null || say "not installed; the tests that need them will say so"
}

# Every pin at once: the exporter's, the tools', the build backend's and torch's own, without local version tags.
constraints() {
    .venv/bin/python -m pip install --quiet --dry-run --ignore-installed --report - \
        '.[dev]' hatchling editables "$(grep '^torch==' constraints.txt)" \
        "$(grep -o 'grafana-client==[0-9.]*' pyproject.toml)" | .venv/bin/python -c '
import json, sys
found = {i["metadata"]["name"].lower().replace("_", "-"): i["metadata"]["version"] for i in json.load(sys.stdin)["install"]}
print("# The versions the tests ran with. `make constraints` writes this file anew; torch is raised by hand.")
for name, version in sorted(found.items()):
    if name != "gpu-canary":
        print(name, version.partition("+")[0], sep="==")' >constraints.new
    mv constraints.new constraints.txt
}

# Containers reach this machine by the address of Docker's bridge, which the exporter does not listen at by itself.
say_where_containers_look() {
    bridge=$(ip -4 -oneline address show docker0 2>/dev/null || true) # 3: docker0    inet 172.17.0.1/16 brd ...
    bridge=${bridge#*inet } bridge=${bridge%%/*}
    if [ -z "$bridge" ]; then return; fi
    say "for Prometheus in containers (COMPOSE_PROFILES=host docker compose up -d) start it like this:"
    say "    make run ARGS='--web.listen-address=$bridge:19835 --web.enable-inbox --grafana-url=http://127.0.0.1:3000'"
}

case "${1:-}" in
run)
    venv ""
    say_where_containers_look
    ;;
test)
    venv "[dev]"
    torch_venv
    grafana_venv
    debian_packages
    ;;
constraints)
    venv "[dev]"
    constraints
    ;;
*)
    say "run, test or constraints?"
    exit 2
    ;;
esac
