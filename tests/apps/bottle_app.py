"""A Bottle application with what such applications usually do."""

import hashlib
from pathlib import Path

import bottle
from bottle import abort, redirect, request, response, static_file

application = bottle.Bottle()


@application.get("/")
def index():
    return "hello from bottle"


@application.get("/hello/<name>")
def hello(name):
    return {"name": name, "query": request.query.get("q"), "client": request.remote_addr}


@application.post("/form")
def form():
    forms = request.forms.decode()
    return {key: forms.getall(key) for key in forms}


@application.post("/json")
def json():
    return request.json


@application.post("/raw")
def raw():
    return hashlib.sha256(request.body.read()).hexdigest()


@application.post("/upload")
def upload():
    file = request.files.get("file")
    data = file.file.read()
    return {"name": file.raw_filename, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


@application.get("/login")
def login():
    response.set_cookie("user", request.query["user"], secret="only for tests")
    redirect("/who")


@application.get("/who")
def who():
    return request.get_cookie("user", secret="only for tests") or "nobody"


@application.get("/stream")
def stream():
    for i in range(int(request.query["n"])):
        yield f"{request.query['word']} {i}\n"


@application.get("/file")
def file():
    return static_file(Path(__file__).name, root=Path(__file__).parent, mimetype="text/x-python")


@application.get("/teapot")
def teapot():
    abort(418)


@application.get("/boom")
def boom():
    raise RuntimeError("boom of bottle")
