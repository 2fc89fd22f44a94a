"""The order of the rooms: a module imports only from lines above its own.

Held by reading the imports, also those inside functions, with `ast`.
"""

import ast
import pathlib

import pytest

# From the ground up. Modules of one line do not know each other; those of one
# package (a name that ends in a slash) do.
ROOMS = (
  ("errors", "interrupt", "compilation"),
  ("command", "paper", "arrays"),
  ("rl", "preferences"),
  ("pretrained/",),
  ("optim", "sharding", "checkpoint", "metrics", "tokenizers"),
  ("templates",),
  ("models/",),
  ("hf/",),
  ("data/",),
  ("microworld/",),
  ("generate",),
  ("context",),
  ("rewards",),
  ("runs",),
  ("rollout", "speaker", "exchange"),
  ("algorithms/",),
  ("labeling/",),
  ("evals/",),
  ("learner",),
  ("hooks",),
  ("train",),
  ("reporting/",),
  ("jobs", "report"),
  ("chain",),
  ("main", "sample", "convert", "plan"),
)
LINES = {room: line for line, rooms in enumerate(ROOMS) for room in rooms}
PACKAGE = pathlib.Path(__file__).parent.parent / "instruct_jax"
FILES = sorted(
  path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"
)


def _room(path: pathlib.Path) -> str:
  """The name that ROOMS has for a path within the package, or ''."""
  parts = path.with_suffix("").parts
  room = f"{parts[0]}/" if f"{parts[0]}/" in LINES else parts[0]
  return room if room in LINES else ""


def _is_module(path: pathlib.Path) -> bool:
  path = PACKAGE / path
  return path.is_dir() or path.with_suffix(".py").is_file()


def _imports(source: str) -> list[tuple[int, pathlib.Path]]:
  """(line number, path within the package) of what a source imports of it."""
  found = []
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"line {node.lineno}: a relative import"
      names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
      continue
    for name in names:
      root, *rest = name.split(".")
      if root == PACKAGE.name and rest not in ([], ["__version__"]):
        found.append((node.lineno, pathlib.Path(*rest)))
  return found


@pytest.mark.parametrize(
  "path", FILES, ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_imports_from_above_only(path):
  own = _room(path.relative_to(PACKAGE))
  assert own, f"{path} is in no room: give it a line in ROOMS"
  for number, imported in _imports(path.read_text()):
    where = f"{path}:{number}"
    assert _is_module(imported), f"{where}: {imported} is a name, not a module"
    room = _room(imported)
    assert room, f"{where}: {imported} is in no room"
    same_package = room == own and own.endswith("/")
    assert same_package or LINES[room] < LINES[own], (
      f"{where}: '{own}' may not import '{room}', which is not above it"
    )


def test_reads_every_kind_of_import():
  source = """
import instruct_jax.rl
import jax
from instruct_jax import arrays as a, optim
def f():
  from instruct_jax.models import decoder
"""
  assert [str(path) for _, path in _imports(source)] == [
    "rl",
    "arrays",
    "optim",
    "models/decoder",
  ]
  with pytest.raises(AssertionError, match="relative"):
    _imports("from . import rl")


def test_rooms_of_paths():
  assert _room(pathlib.Path("models/decoder.py")) == "models/"
  assert _room(pathlib.Path("rl.py")) == "rl"
  assert _room(pathlib.Path("utils.py")) == ""
  assert LINES["arrays"] < LINES["rl"] < LINES["models/"] < LINES["main"]
