"""A Flask application with what such applications usually do."""

import hashlib
import time

from flask import (
    Flask,
    Response,
    abort,
    jsonify,
    redirect,
    request,
    send_file,
    session,
    stream_with_context,
    url_for,
)

app = Flask(__name__)
app.secret_key = "only for tests"


@app.get("/")
def index():
    return "hello from flask"


@app.get("/hello/<name>")
def hello(name):
    return jsonify(name=name, query=request.args.to_dict(flat=False), agent=request.headers.get("User-Agent"))


@app.post("/form")
def form():
    return jsonify(request.form.to_dict(flat=False))


@app.post("/json")
def json():
    return jsonify(request.get_json())


@app.post("/raw")
def raw():
    return hashlib.sha256(request.get_data()).hexdigest()


@app.post("/upload")
def upload():
    file = request.files["file"]
    data = file.read()
    return jsonify(
        name=file.filename, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), **request.form
    )


@app.get("/login")
def login():
    session["user"] = request.args["user"]
    return redirect(url_for("who"))


@app.get("/who")
def who():
    return session.get("user", "nobody")


@app.get("/stream")
def stream():
    def lines():
        for i in range(int(request.args["n"])):
            yield f"{request.args['word']} {i}\n"

    return Response(stream_with_context(lines()), mimetype="text/plain")


@app.get("/events")
def events():
    def feed():
        for i in range(3):
            yield f"data: {i}\n\n"
            time.sleep(0.05)

    return Response(feed(), mimetype="text/event-stream", headers={"Connection": "keep-alive"})


@app.get("/file")
def file():
    return send_file(__file__, mimetype="text/x-python", conditional=True)


@app.get("/teapot")
def teapot():
    abort(418)


@app.get("/boom")
def boom():
    raise RuntimeError("boom of flask")


@app.route("/any", methods=["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
def any_method():
    return request.method


@app.after_request
def stamp(response):
    response.headers["X-Stamp"] = "flask"
    return response
