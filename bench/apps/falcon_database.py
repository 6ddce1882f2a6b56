"""TechEmpower's shapes with Falcon, PyMySQL on one kept connection, and Jinja2."""
import os
from pathlib import Path
from random import randint, sample
from urllib.parse import unquote, urlsplit

import falcon
import pymysql
from jinja2 import Environment, FileSystemLoader

at = urlsplit(os.environ["TRIVET_DB"])
db = pymysql.connect(host=at.hostname, port=at.port, user=at.username, password=unquote(at.password),
                     database=at.path[1:], charset="utf8mb4", autocommit=True)
page = Environment(loader=FileSystemLoader(Path(__file__).parent / "pages"), autoescape=True).get_template("fortunes.html")
READ = "SELECT id, randomNumber FROM world WHERE id = %s"


def count(req):
    text = req.get_param("queries", default="1")
    return min(max(int(text), 1), 500) if text.isdigit() else 1


class Json:
    def on_get(self, req, resp):
        resp.media = {"message": "Hello, World!"}


class Plaintext:
    def on_get(self, req, resp):
        resp.content_type = "text/plain"
        resp.text = "Hello, World!"


class One:
    def on_get(self, req, resp):
        with db.cursor() as cursor:
            cursor.execute(READ, (randint(1, 10_000),))
            id, number = cursor.fetchone()
        resp.media = {"id": id, "randomNumber": number}


class Several:
    def on_get(self, req, resp):
        worlds = []
        with db.cursor() as cursor:
            for wanted in sample(range(1, 10_001), count(req)):
                cursor.execute(READ, (wanted,))
                id, number = cursor.fetchone()
                worlds.append({"id": id, "randomNumber": number})
        resp.media = worlds


class Fortunes:
    def on_get(self, req, resp):
        with db.cursor() as cursor:
            cursor.execute("SELECT id, message FROM fortune")
            found = list(cursor.fetchall())
        found.append((0, "Additional fortune added at request time."))
        found.sort(key=lambda fortune: fortune[1])
        resp.content_type = "text/html; charset=utf-8"
        resp.text = page.render(fortunes=[{"id": id, "message": message} for id, message in found])


class Updates:
    def on_get(self, req, resp):
        worlds = []
        db.begin()
        with db.cursor() as cursor:
            for wanted in sorted(sample(range(1, 10_001), count(req))):
                cursor.execute(READ, (wanted,))
                worlds.append({"id": cursor.fetchone()[0], "randomNumber": randint(1, 10_000)})
            cursor.executemany("UPDATE world SET randomNumber = %(randomNumber)s WHERE id = %(id)s", worlds)
        db.commit()
        resp.media = worlds


app = falcon.App()
app.add_route("/json", Json())
app.add_route("/plaintext", Plaintext())
app.add_route("/db", One())
app.add_route("/queries", Several())
app.add_route("/fortunes", Fortunes())
app.add_route("/updates", Updates())
