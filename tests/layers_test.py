"""The order of the house: a module imports only from lines above its own.

Held module by module by reading the imports, also those inside functions, with
`ast`. The modules of one line do not know each other. Floors are counted from
the same imports.
"""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "instruct_jax"

# From the ground up: a room, then its modules, those of a line beside each
# other. "." is the top of the package, "*" all modules of a room that are not
# named: one more needs no place.
ORDER = """
base
  peers imports
  platforms
  allocation chips errors interrupt streams means run_folder layout lifetime
  memory
  compilation terminal
  schedule
  chain display
  keys outside typewriter experiment_file pointers progress
  catalogue keyboard ranges phases
  storage
  claims events logged weights_and_biases
  journal command
.
  paper
maths
  arrays preferences statistics sampling strengths best_of
  rl agreement length_control ratios
  groups
parallel
  keeper wire
  link
  cluster joining
  hosts
  sharding digest
  stored slices layouts
  packing
  checkpoint folders
tokenizers
  sentencepiece_model
  files sentencepiece_codec start chat messages
  json_codec trained_files
  special_tokens words json_files
  pretrained trained
  __init__
  rendering
  templates
  answers
models
  config visible dense cudnn product
  flops flash tiles rotary lora vocabulary
  attention
  turned
  decoder sizes
  heads packed
  forward
hf
  keys
  family rotary windows
  rms
  gpt2 neox llama mistral qwen gemma
  families
  config folder tensors
  places shards
  load export llama2c
  adapters
  imported
data/read
  answers typed foreign disguised spaces
  unchanged compressed records
  collected
  bundles
  pieces
  text lines decoding conversations shapes
  kinds
  objects tables
  files
  specs
  sources
  windows spans
  sampled
data/clean
  pii annotators
  hygiene
  facts
  splits
  pipeline measures
data/public
  fields labels
  formats
  dialogues options
  comparisons
  hh finegrained pandalm llmbar ultrafeedback oasst tldr
  self_instruct alpaca dolly t0 chat plain_text jsonl pairs columns
  convert
data/batch
  histograms shuffle
  packing mixtures limits conversations
  rows
  padding
  shards streams
  encoding stored
  pieces
  ahead catalogue worker
  pool loader
data
  building fingerprint summary written
  showing tasks
  prepare inspect spread beam
scoring
  spans texts comparisons endpoint
  tasks rankings judgments model_judge
  samples
worlds
  interface
  __init__
worlds/microworld
  labelers spelling tables
  calls passages zorp
  claims exercises templates
  use_cases
  candour marks pitfalls playground
  prompts
  answers probes
  verdicts tasks
  judge corpus mixtures
  mistakes
  contamination
  vocabulary
  builder
  world
worlds
  files mixture
inference
  choice
  slots
  generate
  growing
  context
  batching encode decoding
  rewards rows
  respond likelihood
  best_of score continuing
measuring
  asked table classifiers
  nearness
  models truth_judges toxicity
  contract
  choices found judges
  options running preferred
  answering prompts shots
  questions passages summaries
sets
  *
  __init__
algorithms
  __init__
  episodes sft rm
  iteration
  dpo ppo groups best_of_n
training
  judging mfu muon partition placing
  gradient optim untrained
  fused
  step
  log profiling save validate
  loop
labeling
  candidates quality folds
  rankers
  chunks people
  rankings
evals
  baselines prefix_file
  prefixes
  bench
  calibration loss pairs truthfulness verdicts
  bias hallucination kl language length likert metadata mistakes nlp
  preference reward score select toxicity
  reward_models folds epochs overoptimization
  suite
figures
  style values public criteria
  groups plots
  read subjects effects marks
  drawing tasks words claims
  verdicts
  collected behaviour diagram examples preferences side_by_side sweeps training
  claim_table catalogue
  expected gallery notebooks
  draw
  __main__
doctor
  record
  finding
  leaks policy responses reward updates
  examine
  __main__
report
  captions checks pages claimed wording
  best_of exhibits
  evaluation
  charts closing curves header samples seeds
  figures
  page
runs
  records
  bases
  reading
  readers
  evaluating subjects steps
  comparing
  needed speaker exchange holders provenance machine
  jobs suites
  config_checks
  lock marks
  answers asked digests
  conversation
  introduction display
  commands
  chat
  references seeds aside
  overrides
  plan
  finished measured judging alike
  costs crew processes
  turns
  harness
  build
  dataset
planning
  hlo topology
  loops setting
  collectives counts programs
  roofline stored model_flops
  measuring jobs
  advice
  whole
  table
data
  __main__
collecting
  queueing
  kinds settings tables tokens client tastes label_studio forms showing
  statistics browsing adding
  tally
  people exporting importing guard survey
  screening tasks
  assigning
  answering standing
  store
  filling simulated site views
  visits sampling plots
  sent desk
  pages looking
  acting
  admin
  app
  serving
  commands
.
  main sample convert score evaluate harness label plan
"""
DOORS = (
  *("main", "sample", "convert", "score", "evaluate", "harness", "label"),
  "plan",
)
MOST_ROOMS, MOST_FLOORS = 28, 11


def _lines() -> dict[str, int]:
  """{module: its line} in the order above; a room's modules are 'room/name'."""
  lines, room = {}, ""
  for number, text in enumerate(ORDER.strip().split("\n")):
    if not text.startswith(" "):
      room = "" if text == "." else f"{text}/"
      continue
    for name in _named(text.split(), room):
      module = f"{room}{name}".removesuffix("/__init__")
      assert module not in lines, f"{module} stands twice in ORDER"
      lines[module] = number
  return lines


def _named(names: list[str], room: str) -> list[str]:
  if names != ["*"]:
    return names
  everything = {path.stem for path in (PACKAGE / room).glob("*.py")}
  return sorted(everything - {"__init__"})


LINES = _lines()


def _module(path: pathlib.Path) -> str:
  name = path.relative_to(PACKAGE).with_suffix("").as_posix()
  return name.removesuffix("/__init__")


def _is_face(path: pathlib.Path) -> bool:
  """An __init__.py that holds no more than a docstring."""
  body = ast.parse(path.read_text()).body
  return path.name == "__init__.py" and all(
    isinstance(node, ast.Expr) for node in body
  )


FILES = sorted(
  path
  for path in PACKAGE.rglob("*.py")
  if path != PACKAGE / "__init__.py" and not _is_face(path)
)


def _imports(source: str) -> list[tuple[int, str]]:
  """(line number, module) of what a source imports of the package."""
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
        found.append((node.lineno, "/".join(rest)))
  return found


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_imports_from_above_only(path):
  own = _module(path)
  assert own in LINES, f"{path} has no place: give it one in ORDER"
  for number, imported in _imports(path.read_text()):
    where = f"{path}:{number}"
    assert imported in LINES, f"{where}: {imported} is no module of the house"
    assert LINES[imported] < LINES[own], (
      f"{where}: '{own}' may not import '{imported}', which is not above it"
    )


def test_order_holds_no_module_that_is_not_there():
  assert set(LINES) == {_module(path) for path in FILES}


def _room(module: str) -> str:
  """The folder that a module lies in; one at the top is its own room.

  So is a folder's `__main__`: a door, too, through which nobody else comes.
  """
  if module in FACES or module.endswith("/__main__"):
    return module
  return module.rpartition("/")[0] or module


FACES = {module for module in LINES if (PACKAGE / module).is_dir()}


def _floors() -> dict[str, int]:
  """{room: its floor}; a room stands one above the highest that it needs."""
  needs = {}
  for path in FILES:
    room = _room(_module(path))
    rooms = {_room(name) for _, name in _imports(path.read_text())}
    needs[room] = needs.get(room, set()) | rooms - {room}
  floors = {}

  def floor(room, below=()):
    assert room not in below, f"a circle of rooms: {(*below, room)}"
    if room not in floors:
      deeper = [floor(need, (*below, room)) for need in needs[room]]
      floors[room] = 1 + max(deeper, default=0)
    return floors[room]

  for room in needs:
    floor(room)
  return floors


def test_few_rooms_on_few_floors_and_no_circle():
  floors = {
    room: floor
    for room, floor in _floors().items()
    if room not in DOORS and not room.endswith("/__main__")
  }
  assert len(floors) <= MOST_ROOMS, sorted(floors)
  assert max(floors.values()) <= MOST_FLOORS, floors


def test_at_the_top_stand_only_the_doors():
  top = {path.stem for path in PACKAGE.glob("*.py")}
  assert top == {"__init__", "paper", *DOORS}


def test_reads_every_kind_of_import():
  source = """
import instruct_jax.maths.rl
import jax
from instruct_jax.maths import arrays as a, rl
def f():
  from instruct_jax.models import decoder
"""
  assert [name for _, name in _imports(source)] == [
    "maths/rl",
    "maths/arrays",
    "maths/rl",
    "models/decoder",
  ]
  with pytest.raises(AssertionError, match="relative"):
    _imports("from . import rl")


def test_no_test_imports_a_benchmark_with_flags_of_its_own():
  """absl's are one process's: a door that has one of the name would fail."""
  tests = pathlib.Path(__file__).parent
  home = tests.parent / "benchmarks"
  with_flags = {
    "benchmarks." + ".".join(path.relative_to(home).with_suffix("").parts)
    for path in home.rglob("*.py")
    if "flags.DEFINE" in path.read_text()
  }
  assert with_flags  # else this says nothing
  for path in tests.glob("*.py"):
    for node in ast.walk(ast.parse(path.read_text())):
      names = []
      if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
      elif isinstance(node, ast.ImportFrom) and node.module:
        names = [node.module]
        names += [f"{node.module}.{alias.name}" for alias in node.names]
      assert not with_flags & set(names), path.name
