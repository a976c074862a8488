"""A page that greets, and one that says that all is well."""

import os

from bottle import Bottle

app = Bottle()


@app.get("/")
def greet() -> str:
    return "hello from python\n"


@app.get("/health")
def health() -> str:
    return "ok\n"


app.run(host="0.0.0.0", port=int(os.environ["PORT"]))
