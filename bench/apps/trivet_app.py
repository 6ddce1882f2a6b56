from trivet import App, Form, Session, Upload

app = App(secret="not a secret, but as long as one should be")
for n in range(20):
    app.get(f"/other/{n}/{{name}}")(lambda name: {"name": name})


@app.get("/hello")
def hello():
    return "Hello, World!"


@app.get("/json")
def json_():
    return {"message": "Hello, World!"}


@app.get("/item/{id:int}")
def item(id, q: str | None = None):
    return {"id": id, "q": q}


@app.post("/form")
def form(name: Form[str], age: Form[str], q: str, page: int):
    return {"name": name, "age": age, "q": q, "page": page}


@app.post("/upload")
def upload(file: Upload):
    return {"name": file.filename, "bytes": len(file.read())}


@app.get("/session")
def session(session: Session):
    session["visits"] = session.get("visits", 0) + 1
    return {"visits": session["visits"]}
