"""What if a plugin needs a library that is not there? This one does."""

import a_library_nobody_has  # noqa: F401

PROBE = None
