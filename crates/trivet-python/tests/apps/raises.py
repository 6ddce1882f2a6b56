"""Fails while it is being imported."""


def setup():
    raise RuntimeError("the settings are wrong")


setup()
