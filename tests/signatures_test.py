"""Public functions annotate every argument and their result.

The type checker holds that the annotations are right; this, that they are
there (a checker passes over what nobody annotated).
"""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "instruct_jax"
FILES = sorted(PACKAGE.rglob("*.py"))


def bare(tree: ast.Module) -> list[str]:
  """'name(argument)' of each public function that lacks an annotation."""
  lacking = []
  bodies = [("", tree.body)]
  bodies += [
    (f"{node.name}.", node.body)
    for node in tree.body
    if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
  ]
  for prefix, body in bodies:
    for node in body:
      if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
        continue
      if node.returns is None:
        lacking.append(f"{prefix}{node.name} -> ?")
      given = node.args
      arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs]
      arguments += [x for x in (given.vararg, given.kwarg) if x]
      lacking += [
        f"{prefix}{node.name}({argument.arg})"
        for argument in arguments
        if argument.annotation is None and argument.arg not in ("self", "cls")
      ]
  return lacking


@pytest.mark.parametrize("path", FILES, ids=lambda x: str(x.name))
def test_public_functions_are_annotated(path):
  assert bare(ast.parse(path.read_text())) == []


def test_what_lacks_is_found():
  source = """
def good(x: int, *more: str, y: int = 0, **rest: int) -> int: ...
def _private(x): ...
def wrong(x, *, y): ...
class Public:
  def method(self, x) -> None: ...
class _Private:
  def method(self, x): ...
"""
  assert bare(ast.parse(source)) == [
    "wrong -> ?",
    "wrong(x)",
    "wrong(y)",
    "Public.method(x)",
  ]
