"""lm-evaluation-harness with our model, beside its own with `transformers`.

On stories260K's weights and the local tasks of `harness_task`: no network.
"""

import os
import pathlib
import sys

import pytest

from instruct_jax import harness as door
from instruct_jax.base import errors
from instruct_jax.hf import llama2c

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
lm_eval = pytest.importorskip(
  "lm_eval", reason="the `lm-eval` extra has lm-evaluation-harness"
)

from lm_eval import tasks as harness_tasks  # noqa: E402

from instruct_jax.runs import harness  # noqa: E402

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "tests" / "harness_task"
PUBLIC = ROOT.parent / "shared" / "data" / "stories260K"
CHOICES, WORDS, TEXTS = "story_ends", "story_goes_on", "story_text"


def results(model, arguments):
  manager = harness_tasks.TaskManager(include_path=str(FOLDER))
  return lm_eval.simple_evaluate(
    model=model,
    model_args=arguments,
    tasks=[CHOICES, WORDS, TEXTS],
    task_manager=manager,
    batch_size=4,
    device="cpu",
    bootstrap_iters=0,
    log_samples=True,
  )


@pytest.fixture(scope="module")
def both(tmp_path_factory):
  """What the harness finds with our model, and with transformers'."""
  pytest.importorskip("torch", reason="the `parity` extra has torch")
  pytest.importorskip("transformers", reason="the `parity` extra has it")
  if not PUBLIC.exists():
    pytest.skip(f"the public checkpoint is not here: {PUBLIC}")
  folder = tmp_path_factory.mktemp("stories")
  llama2c.to_hf(PUBLIC / "stories260K.bin", PUBLIC / "tok512.bin", folder)
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(ROOT)  # the tasks name their file from here
    patch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    mine = results("instruct_jax", {"pretrained": f"hf:{folder}"})
    given = {"pretrained": str(folder), "dtype": "float32"}
    return mine, results("hf", given)


def answers(found, task):
  rows = sorted(found["samples"][task], key=lambda row: row["doc_id"])
  return [row["filtered_resps"] for row in rows]


@pytest.mark.slow
@pytest.mark.parity
def test_likelihoods_are_those_of_transformers(both):
  mine, theirs = (answers(found, CHOICES) for found in both)
  assert len(mine) == 10
  for one, other in zip(mine, theirs, strict=True):
    assert [x for x, _ in one] == pytest.approx([x for x, _ in other], rel=1e-4)
    assert [bool(x) for _, x in one] == [bool(x) for _, x in other]


@pytest.mark.slow
@pytest.mark.parity
def test_whole_texts_longer_than_the_model_reads_are_as_likely(both):
  mine, theirs = (answers(found, TEXTS) for found in both)
  assert [x for (x,) in mine] == pytest.approx([x for (x,) in theirs], rel=1e-4)
  assert mine[0][0] < 5 * mine[1][0], "the first is the long one"


@pytest.mark.slow
@pytest.mark.parity
def test_what_is_said_is_what_transformers_says(both):
  mine, theirs = (answers(found, WORDS) for found in both)
  assert mine == theirs
  assert all("." not in text and "\n" not in text for (text,) in mine)
  assert any(text for (text,) in mine)


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("task", [CHOICES, WORDS, TEXTS])
def test_so_are_the_numbers_of_the_harness(both, task):
  mine, theirs = (
    {k: v for k, v in found["results"][task].items() if "stderr" not in k}
    for found in both
  )
  assert mine.keys() == theirs.keys()
  for name, value in mine.items():
    expected = theirs[name]
    if isinstance(value, float):
      expected = pytest.approx(expected, rel=1e-4)
    assert value == expected, name


def test_settings_of_a_task():
  plain = harness.request_of({"until": "\n"})
  assert (plain.max_tokens, plain.stops) == (256, ("\n",))
  assert plain.temperature == 0
  given = {"until": ["a", "b"], "max_gen_toks": 5, "do_sample": True}
  warm = harness.request_of(given | {"top_k": 3})
  assert (warm.max_tokens, warm.stops) == (5, ("a", "b"))
  assert (warm.temperature, warm.top_k) == (1, 3)
  cool = harness.request_of({"do_sample": False, "temperature": 0.7})
  assert cool.temperature == 0
  with pytest.raises(errors.UserError, match="num_beams"):
    harness.request_of({"num_beams": 4})


def test_without_the_harness_the_extra_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, "lm_eval", None)
  with pytest.raises(errors.UserError, match=r"instruct_jax\[lm-eval\]"):
    door.main()
