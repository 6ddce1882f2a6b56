"""A web.py application with what such applications usually do."""

import hashlib
import json as jsonlib
from pathlib import Path

import web

web.config.debug = False


class Root:
    def GET(self):
        return "hello from web.py"


class Hello:
    def GET(self, name):
        web.header("Content-Type", "application/json")
        return jsonlib.dumps({"name": name, "query": web.input(q=None).q, "client": web.ctx.ip})


class Form:
    def POST(self):
        web.header("Content-Type", "application/json")
        data = web.input(a=[], b=[])
        return jsonlib.dumps({"a": data.a, "b": data.b})


class Json:
    def POST(self):
        web.header("Content-Type", "application/json")
        return web.data()


class Raw:
    def POST(self):
        return hashlib.sha256(web.data()).hexdigest()


class Upload:
    def POST(self):
        file = web.input(file={}).file
        data = file.file.read()
        web.header("Content-Type", "application/json")
        return jsonlib.dumps(
            {"name": file.filename, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        )


class Login:
    def GET(self):
        web.setcookie("user", web.input().user)
        raise web.seeother("/who")


class Who:
    def GET(self):
        return web.cookies(user="nobody").user


class Stream:
    def GET(self):
        web.header("Content-Type", "text/plain")
        data = web.input()
        for i in range(int(data.n)):
            yield f"{data.word} {i}\n"


class File:
    def GET(self):
        web.header("Content-Type", "text/x-python")
        return Path(__file__).read_bytes()


class Teapot:
    def GET(self):
        raise web.HTTPError("418 I'm a teapot", {"Content-Type": "text/plain"}, "short and stout")


class Boom:
    def GET(self):
        raise RuntimeError("boom of web.py")


NAMES = ["Form", "Json", "Raw", "Upload", "Login", "Who", "Stream", "File", "Teapot", "Boom"]
urls = ["/", "Root", "/hello/(.*)"]
urls += ["Hello", *[part for name in NAMES for part in (f"/{name.lower()}", name)]]
application = web.application(urls, globals()).wsgifunc()
