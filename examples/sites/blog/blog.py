from flask import Flask, url_for

app = Flask(__name__)


@app.get("/")
def start() -> str:
    return f'<link rel="stylesheet" href="{url_for("static", filename="blog.css")}"><h1>The blog</h1>'


@app.get("/posts")
def posts() -> list[dict[str, str]]:
    return [{"title": "Hello"}]
