"""The service: loads the config, decides when, runs, judges, remembers, shows. It knows nothing about any GPU test."""

from importlib import metadata
from pathlib import Path

__all__ = ["VERSION"]


def _version() -> str:
    try:
        return metadata.version("gpu-canary")
    except metadata.PackageNotFoundError:
        return "0+checkout"


def _refuse_strangers() -> None:
    """`exporter` and `probes` are generic names: stop when the `probes` on the path is not ours (DECISIONS.md)."""
    import probes

    here, there = Path(__file__).parent.parent, Path(str(probes.__file__)).parent.parent
    if here != there or not (there / "probes" / "api.py").is_file():
        raise ImportError(
            f"exporter is in {here}, but the package `probes` comes from {there}. gpu-canary is an application: "
            "install it alone, with `uv tool install gpu-canary` or `pipx install gpu-canary`."
        )


_refuse_strangers()
VERSION = _version()
