"""Container names: their grammar, the index of those in use, and made-up ones."""

from __future__ import annotations

import re
import secrets
from collections.abc import Container as Collection

from boxshipd.errors import InvalidParameter

_GRAMMAR = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")
_LEFT = (
    "able airy amber apt azure balmy bold brave breezy bright brisk calm candid canny clear clever cosy crisp curious dapper "
    "daring deft eager early earnest easy fair fancy fast festive fleet fluent fond frank free fresh gentle giddy glad golden "
    "grand handy happy hardy hearty honest humble jaunty jolly jovial keen kind lively loyal lucid lucky mellow merry mighty "
    "mild modest neat nimble noble patient placid plucky polite proud prudent quick quiet rapid ready robust rosy savvy serene "
    "sharp shiny silent simple sleek smart snappy snug sober solid spry stable steady stoic sturdy subtle sunny swift tidy "
    "tranquil trim trusty upbeat valiant vivid warm wise witty zesty"
).split()
_RIGHT = (
    "abel ampere anning babbage bardeen bell boole born bose brahe brown cantor carson cavendish chandra church clarke "
    "conway copernicus cori coulomb crick curie dalton darwin davy dedekind dijkstra dirac edison einstein erdos euclid "
    "euler faraday fermat fermi feynman fibonacci fleming fourier franklin galileo galois gauss germain godel goldberg "
    "goodall gosling haber hamilton hawking heisenberg hertz hilbert hodgkin hooke hopper hubble huygens hypatia jacobi "
    "johnson joule kelvin kepler knuth kowalevski lagrange lamport laplace leibniz liskov lovelace maxwell mcclintock "
    "meitner mendel mendeleev mirzakhani morse napier newton nightingale nobel noether ohm pascal pasteur pauling perlman "
    "planck poincare ramanujan raman riemann ritchie rubin russell sagan salk shannon sinoussi stallman swartz tesla "
    "thompson torvalds turing volta watt wiles wozniak wright wu yalow yonath"
).split()


def validate_name(name: str) -> str:
    """A name without its leading slash.

    Raises:
        InvalidParameter: it has a form Docker doesn't allow.
    """
    bare = name.removeprefix("/")
    if not _GRAMMAR.match(bare):
        raise InvalidParameter(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return bare


def make_name(taken: Collection[str]) -> str:
    """A free name made of an adjective and a scientist's or engineer's surname, with a number where most are taken."""
    for _ in range(6):
        name = f"{secrets.choice(_LEFT)}_{secrets.choice(_RIGHT)}"
        if name not in taken:
            return name
    while True:
        name = f"{secrets.choice(_LEFT)}_{secrets.choice(_RIGHT)}{secrets.randbelow(1_000_000)}"
        if name not in taken:
            return name
