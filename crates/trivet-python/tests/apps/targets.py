"""What `MODULE:APP` may name."""


def answer(text):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [text.encode()]

    return app


application = answer("application")


class Namespace:
    inner = staticmethod(answer("dotted"))


class Instance:
    def __call__(self, environ, start_response):
        return answer("instance")(environ, start_response)


instance = Instance()
number = 5


def create_app(name="default", *, size=0):
    return answer(f"factory {name} {size}")


def broken_factory():
    raise LookupError("no configuration")
