"""TechEmpower's shapes with trivet.App and trivet.db; the database is TRIVET_DB's."""
from pathlib import Path
from random import randint, sample

from trivet import App, Response
from trivet.db import Database
from trivet.templates import Templates

app = App()
db = Database()
templates = Templates(Path(__file__).parent / "pages")
READ = "SELECT id, randomNumber FROM world WHERE id = ?"


def count(text):
    """TechEmpower's rule: 1 to 500, what is no number is 1."""
    return min(max(int(text), 1), 500) if text.isdigit() else 1


@app.get("/json")
def json():
    return {"message": "Hello, World!"}


@app.get("/plaintext")
def plaintext():
    return Response("Hello, World!", content_type="text/plain")


@app.get("/db")
def one():
    return db.one(READ, randint(1, 10_000))


@app.get("/queries")
def several(queries: str = "1"):
    return [db.one(READ, id) for id in sample(range(1, 10_001), count(queries))]


@app.get("/fortunes")
def fortunes():
    found = [(row.id, row.message) for row in db.query("SELECT id, message FROM fortune")]
    found.append((0, "Additional fortune added at request time."))
    found.sort(key=lambda fortune: fortune[1])
    return templates.render("fortunes.html", fortunes=[{"id": id, "message": message} for id, message in found])


@app.get("/updates")
def updates(queries: str = "1"):
    worlds = []
    with db.tx():
        for id in sorted(sample(range(1, 10_001), count(queries))):
            worlds.append({"id": db.one(READ, id).id, "randomNumber": randint(1, 10_000)})
        db.executemany("UPDATE world SET randomNumber = :randomNumber WHERE id = :id", worlds)
    return worlds
