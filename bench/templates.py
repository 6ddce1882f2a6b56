"""What a template costs: CPU time of a rendering by `trivet.templates` and by Jinja2, the same files and the same data.

usage: python3 bench/templates.py [--rounds N] [--only fortunes]     needs `make build`, and jinja2 in this Python

Jinja2 is used with its defaults for speed (no auto reload, compiled code kept) and autoescape. Both texts must be equal. Each
round renders with one engine and then the other for 0.2 s; what counts is the best of the rounds, as others use the machine.
Rows of a database are `trivet.db`'s, objects a dataclass with slots, dicts what a JSON API gave."""
import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python"))

import database  # noqa: E402
import jinja2  # noqa: E402
from trivet.db.rows import row_class  # noqa: E402
from trivet.templates import Templates  # noqa: E402

FORTUNES = list(enumerate(database.FORTUNES, 1))
ORDERS = [(n, f"Order {n} & more", f"Customer {n % 7}", 19.5 + n, "open" if n % 3 else "closed",
           "<urgent>" if n % 10 == 0 else None) for n in range(1, 101)]


@dataclass(slots=True)
class Fortune:
    id: int
    message: str


@dataclass(slots=True)
class Order:
    id: int
    name: str
    customer: str
    amount: float
    state: str
    note: str | None


def cases():
    for kind in ("rows", "objects", "dicts"):
        made = []
        for cls, data in ((Fortune, FORTUNES), (Order, ORDERS)):
            names = tuple(cls.__slots__)
            row = row_class(names)
            made.append([row(r) if kind == "rows" else cls(*r) if kind == "objects" else dict(zip(names, r)) for r in data])
        yield f"fortunes, 12 {kind}", "fortunes.html", {"fortunes": made[0]}
        yield f"table, 100 {kind}", "table.html", {"title": "Orders", "orders": made[1], "user": {"name": "Ada"}}


def timed(render, seconds=0.2):
    n = 1
    while True:
        start = time.process_time_ns()
        for _ in range(n):
            render()
        taken = time.process_time_ns() - start
        if taken >= seconds * 1e9 / 2:
            return taken / n / 1000
        n = max(n * 2, int(n * seconds * 1e9 / max(taken, 1)))


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--only", default="")
    options = options.parse_args()
    folder = HERE / "apps" / "pages"
    ours = Templates(folder, reload=False)
    theirs = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), autoescape=True, auto_reload=False)
    print(f"CPU µs of a rendering, best (median) of {options.rounds}; Jinja2 {jinja2.__version__}, Python {sys.version.split()[0]}\n")
    print("| template | bytes | `trivet.templates` | Jinja2 | Jinja2 / ours |\n|---|---|---|---|---|")
    for name, file, context in cases():
        if options.only not in name:
            continue
        template = theirs.get_template(file)
        mine, peer = (lambda: ours.render(file, **context)), (lambda: template.render(**context))
        assert mine() == peer(), (mine(), peer())
        a, b = [], []
        for _ in range(options.rounds):
            a.append(timed(mine))
            b.append(timed(peer))
        shown = [f"{min(x):.1f} ({statistics.median(x):.1f})" for x in (a, b)]
        print(f"| {name} | {len(mine().encode())} | {shown[0]} | {shown[1]} | {min(b) / min(a):.2f} |", flush=True)


if __name__ == "__main__":
    main()
