"""Every door is one job on two processes, which one of them prints and writes.

Its numbers are those of one process that has as many devices.
"""

import json

import numpy as np
import pytest
import safetensors.numpy

from tests import processes, run_folders

ASKED = "what job does ann have ?"


def split_in_two(folder):
  """A run whose parameters are halved, a half for each of two devices."""
  path = folder / "config.json"
  record = json.loads(path.read_text())
  record["config"]["mesh"] = {"data": 1, "fsdp": 2, "tensor": 1}
  path.write_text(json.dumps(record))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  home = tmp_path_factory.mktemp("somebody")
  runs = home / "runs"
  run_folders.dataset(runs)
  for name, needs in (("sft", {}), ("rm", {}), ("ppo_ptx", {"reward": "rm"})):
    needs = {need: f"{one}-test" for need, one in needs.items()}
    split_in_two(run_folders.make(runs, name, **needs)[0])
  questions = [
    {"question": f"{ASKED} {n}", "answers": [{"text": "a nurse"}][: n % 2]}
    for n in range(4)
  ]
  paragraph = {"context": "ann is a nurse .", "qas": questions}
  tree = {"data": [{"title": "Ann", "paragraphs": [paragraph]}]}
  (home / "data").mkdir()
  (home / "data" / "dev-v2.0.json").write_text(json.dumps(tree))
  lines = ["bob: where does bob live ?", "2"]
  lines += ["ann is a nurse .", "a cow , a pig", "bob lives", "in oslo ."]
  (home / "data" / "hellaswag_val.txt").write_text("\n".join(lines))
  return home


def alone(home, *arguments, **options):
  ((code, out, err),) = processes.job(
    home, *arguments, count=1, devices=2, **options
  )
  assert code == 0, err
  return out


def together(home, *arguments, **options):
  """What the first process prints; the other one prints nothing."""
  first, second = processes.job(home, *arguments, **options)
  assert first[0] == 0, first[2]
  assert second == (0, "", "")
  return first[1]


@pytest.mark.slow
def test_evaluate(home):
  sets = "hellaswag", "squadv2"
  given = ("evaluate", "--run=runs/ppo_ptx-test", f"--sets={','.join(sets)}")
  printed = {}
  for name, run in (("one", alone), ("two", together)):
    printed[name] = run(home, *given, "--data=data", f"--out={name}")
    assert (home / name / "report.html").exists()
  assert printed["two"] == printed["one"].replace("one/", "two/")
  for file in ("results.json", *(f"{name}.jsonl" for name in sets)):
    assert (home / "two" / file).read_text() == (
      home / "one" / file
    ).read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
  "how", ["typed", pytest.param("piped", marks=pytest.mark.long)]
)
def test_sample(home, how):
  given = ("sample", "--run=runs/ppo_ptx-test", "--n=2", "--scores", "--json")
  more = ("--prompts_file=-",) if how == "piped" else ()
  typed = f"{ASKED}\nwhere does bob live ?\n"
  one = alone(home, *given, *more, typed=typed)
  assert len(one.splitlines()) == 2
  assert together(home, *given, *more, typed=typed) == one


def tensors(folder):
  (path,) = folder.glob("*.safetensors")
  return safetensors.numpy.load_file(path)


@pytest.mark.slow
@pytest.mark.parametrize(
  "run", [pytest.param("sft", marks=pytest.mark.long), "rm"]
)
def test_convert_there_and_back(home, run):
  exports = []
  for name, command in (("one", alone), ("two", together)):
    target = f"hf:{name}-{run}"
    out = command(home, "convert", f"runs/{run}-test", target, "--drop_bias")
    assert out.splitlines()[-1] == f"{name}-{run}: written"
    exports.append(tensors(home / f"{name}-{run}"))
    out = command(home, "convert", target, f"runs/{name}-{run}-back")
    assert out.endswith(f"as in --run=runs/{name}-{run}-back\n")
  assert exports[0].keys() == exports[1].keys()
  for name, x in exports[0].items():
    np.testing.assert_array_equal(exports[1][name], x, err_msg=name)
  digests = [
    json.loads((home / "runs" / f"{name}-{run}-back/results.json").read_text())
    for name in ("one", "two")
  ]
  keys = ("parameters_digest", "config_digest")
  one, two = ([each[key] for key in keys] for each in digests)
  assert one == two


@pytest.mark.parametrize(
  ("arguments", "more", "said"),
  [
    (
      ("sample", "--run=runs/sft-test", "--prompt=ann"),
      "--temperature=0.5",
      "--temperature is 0.5, there 1.0",
    ),
    (
      ("convert", "runs/sft-test", "hf:never"),
      "--dtype=float16",
      "--dtype is float16, there ",
    ),
  ],
)
def test_what_differs_is_told_before_anything_is_done(
  home, arguments, more, said
):
  for code, out, err in processes.job(home, *arguments, more=(more,)):
    assert (code, out) == (2, "")
    assert said in err
  assert not (home / "never").exists()


@pytest.mark.slow
def test_what_one_cannot_do_ends_both(home):
  first, second = processes.job(home, "sample", "--run=runs/rm-test")
  for code, out, err in (first, second):
    assert (code, out) == (2, "")
    assert "made a reward model" in err
