"""Which packages does this Python have, and what is true of it for environment markers? Standard library only."""

import os
import platform
import sys
from importlib import metadata

BATCH = 500  # packages a row


def bench(kit, params):
    kit.data(markers=markers())
    found = {}
    for package in metadata.distributions():
        try:
            name, version = package.metadata["Name"], package.version
        except Exception as error:  # a half-removed package: no METADATA, or one that cannot be parsed
            name, version = os.path.basename(str(getattr(package, "_path", package))), "broken: %s" % error
        found.setdefault(str(name), str(version))  # the first on the path is the one that is imported
    names = sorted(found)
    for start in range(0, len(names), BATCH):
        kit.data(packages={name: found[name] for name in names[start : start + BATCH]})


def markers():
    """The variables of environment markers (packaging.python.org/specifications/dependency-specifiers)."""
    version = sys.implementation.version
    level = version.releaselevel
    return {
        "implementation_name": sys.implementation.name,
        "implementation_version": "%d.%d.%d" % version[:3]
        + ("" if level == "final" else level[0] + str(version.serial)),
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_full_version": platform.python_version(),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "sys_platform": sys.platform,
    }
