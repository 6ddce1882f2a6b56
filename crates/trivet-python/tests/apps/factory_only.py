"""Has a factory and no application."""


def create_app():
    return None
