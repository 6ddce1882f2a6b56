"""TechEmpower's shapes with Flask, SQLAlchemy's ORM and PyMySQL, a session for each request."""
import os
from random import randint, sample

from flask import Flask, Response, jsonify, render_template, request
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

app = Flask(__name__, template_folder="pages")
url = os.environ["TRIVET_DB"].replace("mysql://", "mysql+pymysql://") + "?charset=utf8mb4"
engine = create_engine(url)
# What only reads is no transaction, as with the others.
reading = create_engine(url, isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True)


class Base(DeclarativeBase):
    pass


class World(Base):
    __tablename__ = "world"
    id: Mapped[int] = mapped_column(primary_key=True)
    randomNumber: Mapped[int]


class Fortune(Base):
    __tablename__ = "fortune"
    id: Mapped[int] = mapped_column(primary_key=True)
    message: Mapped[str]


def count():
    text = request.args.get("queries", "1")
    return min(max(int(text), 1), 500) if text.isdigit() else 1


@app.get("/json")
def json():
    return jsonify(message="Hello, World!")


@app.get("/plaintext")
def plaintext():
    return Response("Hello, World!", content_type="text/plain")


@app.get("/db")
def one():
    with Session(reading) as session:
        world = session.get(World, randint(1, 10_000))
        return jsonify(id=world.id, randomNumber=world.randomNumber)


@app.get("/queries")
def several():
    with Session(reading) as session:
        worlds = [session.get(World, id) for id in sample(range(1, 10_001), count())]
        return jsonify([{"id": world.id, "randomNumber": world.randomNumber} for world in worlds])


@app.get("/fortunes")
def fortunes():
    with Session(reading) as session:
        found = [(row.id, row.message) for row in session.scalars(select(Fortune))]
    found.append((0, "Additional fortune added at request time."))
    found.sort(key=lambda fortune: fortune[1])
    return render_template("fortunes.html", fortunes=[{"id": id, "message": message} for id, message in found])


@app.get("/updates")
def updates():
    with Session(engine, expire_on_commit=False) as session:
        worlds = [session.get(World, id) for id in sorted(sample(range(1, 10_001), count()))]
        for world in worlds:
            world.randomNumber = randint(1, 10_000)
        session.commit()
        return jsonify([{"id": world.id, "randomNumber": world.randomNumber} for world in worlds])
