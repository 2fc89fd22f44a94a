"""One-line bugs on purpose: does a test near them notice?

    python -m tests.mutations --seed=0 --count=100

draws mutants of the modules in `TARGETS`, makes each in a copy of the tree,
runs the tests nearest to it and prints a line for it. A log (JSON lines) lets
it go on where it was stopped; `--only=maths/rl` chooses modules, `--named`
runs the literal ones. What survives wants a test, or an argument why it
changes nothing in EQUIVALENT. Exit code 1 if more than --allow survive.
"""

import argparse
import ast
import dataclasses
import hashlib
import importlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator

import hypothesis
import pytest

from tests.mutations_known import EQUIVALENT, NAMED, TARGETS

ROOT = pathlib.Path(__file__).parents[1]
PARTS = ("instruct_jax", "experiments", "tests", "pyproject.toml")
PARTS += ("setup.py", "README.md")
COMPARE = {
  ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=",
  ast.NotEq: "==", ast.In: "not in", ast.NotIn: "in", ast.Is: "is not",
  ast.IsNot: "is",
}  # fmt: skip
ARITHMETIC = {
  ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*",
  ast.Mod: "*", ast.Pow: "*", ast.BitAnd: "|", ast.BitOr: "&",
}  # fmt: skip
TWINS = (
  ("maximum", "minimum"), ("max", "min"), ("any", "all"), ("ones", "zeros"),
  ("argmax", "argmin"), ("floor", "ceil"), ("cummax", "cummin"),
)  # fmt: skip
TWIN = {a: b for pair in TWINS for a, b in (pair, pair[::-1])}
COMMUTES = ("maximum", "minimum", "max", "min", "add", "array_equal")
SPLITS = {"train": "validation", "validation": "test", "test": "validation"}
MASK = re.compile(r"(is_\w+|\w*mask|beats|ended|running|finite|\w*_masks?)$")
LIBRARIES = ("tests.conftest", "flax.linen", "optax", "chex", "hypothesis")
LIBRARIES += ("scipy.stats", "ml_collections", "orbax.checkpoint", "rich")
LIBRARIES += ("tensorflow_datasets", "tokenizers", "array_record", "absl.flags")
SILENT = ("chex", "errors", "logging", "_log", "log", "warnings", "print")


@dataclasses.dataclass(frozen=True)
class Mutant:
  """Bytes start..stop of a module, replaced; before and after, whole lines."""

  path: str
  line: int
  start: int
  stop: int
  text: str
  before: str
  after: str

  def __str__(self) -> str:
    return f"{self.path}:{self.line}: {self.before}  ->  {self.after}"

  def source(self, root: pathlib.Path) -> bytes:
    """The module with the bug."""
    module = (root / self.path).read_bytes()
    return module[: self.start] + self.text.encode() + module[self.stop :]


def mutant_of(path: str, module: bytes, start: int, stop: int, text: str):
  """The mutant that puts `text` at bytes start..stop of a module."""
  first = module.rfind(b"\n", 0, start) + 1
  last = module.find(b"\n", stop) % (len(module) + 1)
  before = module[first:last].decode()
  after = module[first:start].decode() + text + module[stop:last].decode()
  line = module[:start].count(b"\n") + 1
  return Mutant(path, line, start, stop, text, _short(before), _short(after))


def _short(code: str) -> str:
  return re.sub(r"\s+", " ", code).strip()


class Mutator:
  """Mutants of one module, by eligible node."""

  def __init__(self, path: str, root: pathlib.Path = ROOT):
    self.path = path
    self.text = (root / path).read_bytes()
    starts = [0]
    for line in self.text.splitlines(keepends=True):
      starts.append(starts[-1] + len(line))
    self._starts = starts
    self._is_numpy = b"import jax.numpy" not in self.text
    self.tree = ast.parse(self.text)
    self._modules = {
      (name.asname or name.name).split(".")[0]
      for x in ast.walk(self.tree)
      if isinstance(x, ast.Import | ast.ImportFrom)
      for name in x.names
    }

  def nodes(self) -> list[list[Mutant]]:
    """For every eligible node, what may be made of it."""
    groups = [
      [
        self._mutant(node, *change)
        for node, change in changes
        if change[-1] is not None
      ]
      for changes in self._walk(self.tree, None)
    ]
    return [group for group in groups if group]

  def _span(self, node):
    start = self._starts[node.lineno - 1] + node.col_offset
    return start, self._starts[node.end_lineno - 1] + node.end_col_offset

  def _code(self, node) -> str:
    start, stop = self._span(node)
    return self.text[start:stop].decode()

  def _mutant(self, node, *change) -> Mutant:
    """Of (text,) for the whole node, or (start, stop, text)."""
    start, stop = change[:2] if len(change) == 3 else self._span(node)
    return mutant_of(self.path, self.text, start, stop, change[-1])

  def _walk(self, node, scope) -> Iterator[list]:
    """Lists of (node, change), one for each node that is eligible."""
    if isinstance(node, ast.FunctionDef):
      scope = node
    changes = [(node, change) for change in self._changes(node, scope)]
    if changes:
      yield changes
    for child in self._children(node):
      yield from self._walk(child, scope)

  def _children(self, node) -> Iterator[ast.AST]:
    """What may hold code that counts: no types, messages or decorators."""
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.Assert):
      return
    if isinstance(node, ast.ImportFrom) or _is_silent(node):
      return
    skipped = {"annotation", "returns", "decorator_list", "type_params"}
    for name, value in ast.iter_fields(node):
      if name in skipped:
        continue
      for child in value if isinstance(value, list) else [value]:
        if isinstance(child, ast.AST):
          yield child

  def _changes(self, node, scope) -> Iterator[tuple]:
    if _is_silent(node):
      return
    method = getattr(self, f"_of_{type(node).__name__}", None)
    if method:
      yield from method(node, scope)

  def _between(self, left, right, old, new):
    """(start, stop, new): the operator in the gap between two operands."""
    start, stop = self._span(left)[1], self._span(right)[0]
    return start, stop, _gap(self.text[start:stop].decode(), old, new)

  def _of_Compare(self, node, scope):
    operands = [node.left, *node.comparators]
    for left, right, sign in zip(operands, operands[1:], node.ops):
      new = COMPARE[type(sign)]
      yield self._between(left, right, _SIGNS[type(sign)], new)

  def _of_BinOp(self, node, scope):
    kinds = (ast.Dict, ast.JoinedStr, ast.List, ast.Tuple)
    texts = [
      isinstance(x, kinds)
      or (isinstance(x, ast.Constant) and isinstance(x.value, str))
      for x in (node.left, node.right)
    ]
    if type(node.op) in ARITHMETIC and not any(texts):
      new = ARITHMETIC[type(node.op)]
      yield self._between(node.left, node.right, _SIGNS[type(node.op)], new)

  def _of_UnaryOp(self, node, scope):
    yield (f"({self._code(node.operand)})",)

  def _of_BoolOp(self, node, scope):
    new = "or" if isinstance(node.op, ast.And) else "and"
    old = "and" if new == "or" else "or"
    for left, right in zip(node.values, node.values[1:]):
      yield self._between(left, right, old, new)

  def _of_Constant(self, node, scope):
    if node.value in SPLITS:
      yield (repr(SPLITS[node.value]),)
    elif isinstance(node.value, bool):
      yield (str(not node.value),)
    elif isinstance(node.value, int):
      yield (str(node.value + 1),)
      if node.value > 0:
        yield (str(node.value - 1),)
    elif isinstance(node.value, float):
      yield (str(node.value + 1.0),)
      if node.value:
        yield (str(node.value / 2),)

  def _of_If(self, node, scope):
    yield (*self._span(node.test), f"not ({self._code(node.test)})")

  _of_While = _of_If
  _of_IfExp = _of_If

  def _of_Expr(self, node, scope):
    if isinstance(node.value, ast.Call):
      yield ("pass",)

  def _of_AugAssign(self, node, scope):
    yield ("pass",)

  def _of_Assign(self, node, scope):
    (target, *_) = node.targets
    if isinstance(target, ast.Subscript | ast.Attribute):
      yield ("pass",)
    elif isinstance(target, ast.Name) and scope is not None:
      known = {
        x.id
        for x in ast.walk(scope)
        if isinstance(x, ast.Name)
        and isinstance(x.ctx, ast.Store)
        and x.lineno < node.lineno
      } | {x.arg for x in ast.walk(scope) if isinstance(x, ast.arg)}
      if target.id in known:
        yield ("pass",)

  def _of_Call(self, node, scope):
    if isinstance(node.func, ast.Attribute) and node.func.attr in TWIN:
      start, stop = self._span(node.func)
      start = stop - len(node.func.attr)
      yield (start, stop, TWIN[node.func.attr])
    plain = [x for x in node.args if not isinstance(x, ast.Starred)]
    for i in range(len(plain) - 1):
      one, other = self._code(plain[i]), self._code(plain[i + 1])
      name = getattr(node.func, "attr", getattr(node.func, "id", ""))
      if one != other and plain == node.args and name not in COMMUTES:
        start, stop = self._span(plain[i])[0], self._span(plain[i + 1])[1]
        yield (start, stop, f"{other}, {one}")
    for keyword in node.keywords:
      if keyword.arg and keyword.arg not in ("name", "what"):
        start, stop = self._span(keyword)
        tail = re.match(rb"\s*,?\s*", self.text[stop:]).end()
        yield (start, stop + tail, "")
    for value in (*plain, *(x.value for x in node.keywords)):
      for after in self._others(value, scope):
        yield (*self._span(value), after)

  def _others(self, value, scope) -> Iterator[str]:
    """What else of the same kind could stand there."""
    if scope is None:
      return
    if isinstance(value, ast.Name):
      kinds = {
        x.arg: ast.dump(x.annotation)
        for x in (*scope.args.args, *scope.args.kwonlyargs)
        if x.annotation is not None
      }
      for name, kind in kinds.items():
        if name != value.id and kind == kinds.get(value.id):
          yield name
    for x in ast.walk(scope):
      same = type(x) is type(value) and isinstance(
        x, ast.Attribute | ast.Subscript
      )
      if not same or isinstance(x.ctx, ast.Store):
        continue
      if ast.dump(x.value) != ast.dump(value.value):
        continue
      if isinstance(x.value, ast.Name) and x.value.id in self._modules:
        continue
      if isinstance(x, ast.Subscript) and not (
        isinstance(x.slice, ast.Constant) and isinstance(x.slice.value, str)
      ):
        continue
      if self._code(x) != self._code(value):
        yield self._code(x)

  def _of_Subscript(self, node, scope):
    key = node.slice.value if isinstance(node.slice, ast.Constant) else ""
    if isinstance(node.ctx, ast.Load) and MASK.match(str(key)):
      yield from self._all_true(node)

  def _of_Attribute(self, node, scope):
    if isinstance(node.ctx, ast.Load) and MASK.match(node.attr):
      if isinstance(node.value, ast.Name) and node.value.id in (
        "self",
        "arrays",
      ):
        return
      yield from self._all_true(node)

  def _of_Name(self, node, scope):
    if isinstance(node.ctx, ast.Load) and MASK.match(node.id):
      yield from self._all_true(node)

  def _all_true(self, node):
    numpy = "np" if self._is_numpy else "jnp"
    if f"as {numpy}".encode() in self.text:
      yield (f"{numpy}.ones_like({self._code(node)}, bool)",)


_SIGNS = {
  ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==",
  ast.NotEq: "!=", ast.In: "in", ast.NotIn: "not in", ast.Is: "is",
  ast.IsNot: "is not", ast.Add: "+", ast.Sub: "-", ast.Mult: "*",
  ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
  ast.BitAnd: "&", ast.BitOr: "|",
}  # fmt: skip


def _gap(text: str, old: str, new: str) -> str | None:
  """The text between two operands with its operator replaced."""
  if text.count(old) != 1:  # an operator in a comment between them
    return None
  return text.replace(old, new)


def _is_silent(node) -> bool:
  """Calls that only check or say something."""
  if isinstance(node, ast.Expr):
    node = node.value
  if not isinstance(node, ast.Call):
    return False
  name = node.func
  while isinstance(name, ast.Attribute):
    name = name.value
  return isinstance(name, ast.Name) and name.id in SILENT


def draw(seed: int, count: int, only: str = "") -> list[Mutant]:
  """`count` different mutants: a node at random, then a change of it."""
  nodes = [
    group
    for path in sorted(TARGETS)
    if only in path
    for group in Mutator(path).nodes()
  ]
  rng, drawn = random.Random(seed), {}
  rng.shuffle(nodes)
  for group in nodes:
    mutant = rng.choice(group)
    if len(drawn) < count and _compiles(mutant):
      drawn[str(mutant), mutant.start] = mutant
  return list(drawn.values())


def _compiles(mutant: Mutant) -> bool:
  try:
    tree = ast.parse(mutant.source(ROOT))
  except SyntaxError:
    return False
  return ast.dump(tree) != ast.dump(ast.parse((ROOT / mutant.path).read_text()))


def named() -> list[Mutant]:
  """The literal mutants; each must still be somewhere, once."""
  mutants = []
  for path, before, after in NAMED:
    text = (ROOT / path).read_text()
    if text.count(before) != 1:
      raise SystemExit(
        f"NAMED: {path} has {text.count(before)} times: {before}"
      )
    start = len(text[: text.index(before)].encode())
    stop = start + len(before.encode())
    mutants.append(mutant_of(path, text.encode(), start, stop, after))
  return mutants


def copy_tree(folder: pathlib.Path) -> None:
  """What the tests need, away from the working tree."""
  ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
  for part in PARTS:
    if (ROOT / part).is_dir():
      shutil.copytree(ROOT / part, folder / part, ignore=ignore)
    else:
      shutil.copy(ROOT / part, folder / part)


def check(folder: pathlib.Path, tests: tuple[str, ...], seconds: int) -> str:
  """'survived', 'killed' by a named test, or 'timed out'.

  The tests run in a fork of this process, which has imported the libraries
  (but nothing of ours, and no device): a mutant costs what its tests cost.
  """
  output = folder / "output"
  child = os.fork()
  if not child:
    os._exit(_run_tests(folder, tests, seconds, output))
  deadline = time.monotonic() + seconds + 10
  while not (done := os.waitpid(child, os.WNOHANG))[0]:
    if time.monotonic() > deadline:
      os.kill(child, signal.SIGKILL)
      os.waitpid(child, 0)
      return "timed out"
    time.sleep(0.05)
  code = os.waitstatus_to_exitcode(done[1])
  if code == 0:
    return "survived"
  text = output.read_text(errors="replace")
  hits = re.findall(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
  if "Timeout (>" in text or "Timeout >" in text:
    return "timed out"
  return "killed by " + (hits[0] if hits else f"exit code {code}")


def _run_tests(folder, tests, seconds, output) -> int:
  """pytest in this process, in the folder; its exit code."""
  code = 1
  try:
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(folder)
    sys.path[:] = [str(folder), *(x for x in sys.path if x != str(ROOT))]
    for name in list(sys.modules):
      if name.split(".")[0] in ("tests", "instruct_jax", "experiments"):
        del sys.modules[name]
    code = pytest.main([
      *("-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--tb=line"),
      *("-m", "not slow and not long and not parity", "--durations=0"),
      *("-W", "ignore", f"--timeout={seconds}", *tests),
    ])  # fmt: skip
    sys.stdout.flush()
  finally:
    os._exit(int(code))
  return int(code)


def _import_libraries() -> None:
  """What every test imports, so that no mutant pays for it."""
  os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
  sys.dont_write_bytecode = True
  for name in LIBRARIES:
    importlib.import_module(name)
  quick = (hypothesis.Phase.explicit, hypothesis.Phase.generate)  # no shrinking
  hypothesis.settings.register_profile("mutants", phases=quick)
  hypothesis.settings.load_profile("mutants")


def _digest(*paths: str) -> str:
  content = b"".join((ROOT / path).read_bytes() for path in paths)
  return hashlib.sha256(content).hexdigest()[:12]


def run_all(mutants: list[Mutant], options: argparse.Namespace) -> list[str]:
  """The outcome of each mutant, printed as it comes and kept in the log."""
  log = pathlib.Path(options.log)
  records = log.read_text().splitlines() if log.exists() else []
  seen = {}
  for record in map(json.loads, records):
    seen[record["mutant"], record["source"]] = record
  outcomes: list[str] = []
  proven: set = set()
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    copy_tree(folder)
    for mutant in mutants:
      tests = TARGETS[mutant.path]
      source, near = _digest(mutant.path), _digest(*tests)
      outcome = _known(mutant, seen.get((str(mutant), source)), near)
      if not outcome:
        if tests not in proven:
          clean = check(folder, tests, options.seconds)
          if clean != "survived":
            print((folder / "output").read_text()[-3000:])
            raise SystemExit(f"without a mutant: {clean} ({' '.join(tests)})")
          proven.add(tests)
        target = folder / mutant.path
        target.write_bytes(mutant.source(ROOT))
        outcome = check(folder, tests, options.seconds)
        shutil.copy(ROOT / mutant.path, target)
        record = {"mutant": str(mutant), "source": source, "near": near}
        with log.open("a") as file:
          file.write(json.dumps(record | {"outcome": outcome}) + "\n")
      outcomes.append(outcome)
      print(f"{mutant}  [{outcome}]", flush=True)
  return outcomes


def _known(mutant: Mutant, record: dict | None, near: str) -> str:
  """The outcome that needs no run: argued, or of an earlier time."""
  reason = EQUIVALENT.get((mutant.path, mutant.before, mutant.after))
  if reason:
    return f"equivalent: {reason}"
  if record and (record["outcome"] != "survived" or record["near"] == near):
    return record["outcome"]
  return ""


def main() -> int:
  """Draws, runs, prints a summary; the exit code."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--count", type=int, default=100)
  parser.add_argument("--only", default="", help="part of a module's path")
  parser.add_argument("--named", action="store_true", help="the literal list")
  parser.add_argument("--list", action="store_true", help="draw, run nothing")
  parser.add_argument("--seconds", type=int, default=300, help="a mutant's")
  parser.add_argument("--allow", type=int, default=0, help="survivors allowed")
  parser.add_argument("--log", default=".mutations.jsonl")
  options = parser.parse_args()
  mutants = named() if options.named else []
  if not options.named:
    mutants = draw(options.seed, options.count, options.only)
  if options.list:
    print(*mutants, sep="\n")
    return 0
  _import_libraries()
  outcomes = run_all(mutants, options)
  survivors = [m for m, o in zip(mutants, outcomes) if o == "survived"]
  kinds = [re.split(" by |:", outcome)[0] for outcome in outcomes]
  counts = {kind: kinds.count(kind) for kind in sorted({*kinds})}
  print(f"{len(mutants)} mutants: " + ", ".join(
    f"{count} {kind}" for kind, count in counts.items()
  ))  # fmt: skip
  for mutant in survivors:
    print(f"  survived: {mutant}")
  return int(len(survivors) > options.allow)


if __name__ == "__main__":
  sys.exit(main())
