"""A Falcon application with what such applications usually do."""

import hashlib

import falcon


class Root:
    def on_get(self, req, resp):
        resp.text = "hello from falcon"


class Hello:
    def on_get(self, req, resp, name):
        resp.media = {"name": name, "query": req.get_param("q"), "client": req.remote_addr}


class Form:
    def on_post(self, req, resp):
        media = req.get_media()
        resp.media = {key: value if isinstance(value, list) else [value] for key, value in media.items()}


class Json:
    def on_post(self, req, resp):
        resp.media = req.media


class Raw:
    def on_post(self, req, resp):
        resp.text = hashlib.sha256(req.bounded_stream.read()).hexdigest()


class Upload:
    def on_post(self, req, resp):
        for part in req.get_media():
            if part.filename:
                data = part.stream.read()
                resp.media = {
                    "name": part.filename,
                    "bytes": len(data),
                    "sha256": hashlib.sha256(data).hexdigest(),
                }


class Login:
    def on_get(self, req, resp):
        resp.set_cookie("user", req.get_param("user"), secure=False)
        raise falcon.HTTPFound("/who")


class Who:
    def on_get(self, req, resp):
        resp.text = req.cookies.get("user", "nobody")


class Stream:
    def on_get(self, req, resp):
        resp.content_type = "text/plain"
        resp.stream = (f"{req.get_param('word')} {i}\n".encode() for i in range(req.get_param_as_int("n")))


class File:
    def on_get(self, req, resp):
        resp.content_type = "text/x-python"
        resp.stream = open(__file__, "rb")  # noqa: SIM115


class Teapot:
    def on_get(self, req, resp):
        raise falcon.HTTPError("418 I'm a teapot")


class Boom:
    def on_get(self, req, resp):
        raise RuntimeError("boom of falcon")


application = falcon.App()
application.req_options.strip_url_path_trailing_slash = True
application.add_route("/", Root())
application.add_route("/hello/{name}", Hello())
for resource in Form, Json, Raw, Upload, Login, Who, Stream, File, Teapot, Boom:
    application.add_route(f"/{resource.__name__.lower()}", resource())
