"""Imports something that no Python has."""

import a_package_that_nobody_has  # noqa: F401
