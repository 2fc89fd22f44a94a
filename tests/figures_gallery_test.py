"""The gallery, its words, its command, and the notebooks."""

import dataclasses
import json
import pathlib
import re
import subprocess
import sys

import pytest

from instruct_jax.base import errors
from instruct_jax.figures import (
  __main__,
  catalogue,
  gallery,
  notebooks,
  plots,
  read,
  values,
  words,
)
from tests import figures_toys as toys

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"
RESULTS = ROOT / "benchmarks" / "results"
LEAST = 10  # notebooks


def panel(series, **options):
  return plots.Panel(y="right, %", series=series, **options)


def over(*numbers):
  return values.over_seeds(
    {s: values.Found(float(x)) for s, x in enumerate(numbers)}
  )


# Words


def test_words_say_values_and_whether_they_can_be_told_apart():
  one = panel(
    {
      "ppo_ptx": {"reading": over(60, 61, 62), "counting\nup": over(1, 2, 3)},
      "sft": {"reading": over(50, 51, 52), "counting\nup": over(3, 4, 5)},
      "gpt": {"reading": over(50, 70, 60)},
    }
  )
  plot = plots.Plot("title", (one,), "Seeds.")
  text = words.found(plot, [("ppo_ptx", "sft"), ("ppo_ptx", "gpt")])
  # The seeds differ by 10 each, by -2 each, and from GPT by 10, -9 and 2:
  # 1 +- 4.30 * 9.539 / sqrt(3).
  assert text == (
    "Seeds. Right, %, PPO-ptx beside SFT: higher in reading (61.0 % against"
    " 51.0 %, +10.0 points [+10.0, +10.0]); lower in counting up (2.0 % against"
    " 4.0 %, −2.0 points [−2.0, −2.0]). Right, %, PPO-ptx beside GPT: no"
    " difference that can be told in reading (61.0 % against 60.0 %, +1.0"
    " points [−22.7, +24.7])."
  )


def test_words_beside_a_line_say_on_which_side_a_value_lies():
  series = {
    "gpt": {"": over(20, 21, 22)},
    "sft": {"": over(40, 50, 60)},
    "ppo": {"": values.over_seeds({0: values.Found(70)})},
    "ppo_ptx": {"": over(60, 61, 62)},
  }
  text = words.found(plots.Plot("", (panel(series, even=50),)))
  assert text == (
    "Right, %: GPT 21.0 % [18.5, 23.5], below 50 %; SFT 50.0 % [25.2, 74.8],"
    " not told apart from 50 %; PPO 70.0 %; PPO-ptx 61.0 % [58.5, 63.5], above"
    " 50 %."
  )


def test_words_of_one_seed_say_whether_intervals_overlap():
  def alone(value, low, high):
    return values.over_seeds({0: values.Found(value, low, high, 9)})

  shown = panel({})
  verdict, why = words.compared(alone(5, 4, 6), alone(2, 1, 3), shown)
  assert (verdict, why) == (words.HIGHER, "intervals lie apart")
  verdict, _ = words.compared(alone(2, 1, 3), alone(5, 4, 6), shown)
  assert verdict == words.LOWER
  verdict, why = words.compared(alone(5, 4, 6), alone(4, 3, 5), shown)
  assert (verdict, why) == (words.ALIKE, "intervals overlap")
  bare = values.over_seeds({0: values.Found(1.0)})
  assert words.compared(bare, alone(4, 3, 5), shown) == (words.UNSAID, "")


def test_words_of_a_line_go_from_end_to_end():
  line = {x: values.over_seeds({0: values.Found(y)}) for x, y in
          ((0.0, 50.0), (0.3, 70.0), (1.0, 60.0))}  # fmt: skip
  shown = panel(
    {"ppo_ptx": line},
    kind=plots.LINES,
    scale=plots.STEPS,
    x="pretraining coefficient γ",
  )
  assert words.found(plots.Plot("", (shown,))) == (
    "Right, %, PPO-ptx: 50.0 % at γ 0, 60.0 % at γ 1 (without intervals to tell"
    " by); highest at γ 0.3, 70.0 %."
  )


def test_words_have_the_papers_number_beside_ours(tmp_path):
  runs = read.read(
    toys.write(
      tmp_path,
      toys.run(
        {
          "hallucination/all/gpt": 0.3,
          "hallucination/all/ppo_ptx": 0.2,
          "metadata/x/gpt": 0.1,
        }
      ),
    )
  )
  text = gallery.show("figure4", runs).found.text
  assert "(20.0 % (the paper: 21 %) against 30.0 % (the paper: 41 %))" in text


# The gallery


@pytest.fixture
def folder(tmp_path):
  metrics = {"preference/gpt_over_sft/training": 0.2, "likert/sft": 4.0}
  return toys.write(tmp_path / "runs", toys.run(metrics))


def test_a_gallery_has_pictures_words_and_what_is_missing(tmp_path, folder):
  out = tmp_path / "out"
  shown = gallery.write(read.read(folder), out, formats=("png", "svg"))
  drawn = {n for n, one in shown.items() if one.figure is not None}
  assert drawn == {"figure1", "figure2", "figure3", "figure5"}
  assert {p.name for p in out.iterdir() if not p.name.startswith(".")} == {
    *(f"{name}.{kind}" for name in drawn for kind in ("png", "svg")),
    "index.md",
  }
  assert (out / "figure1.png").read_bytes().startswith(b"\x89PNG")
  assert "preferred to SFT" in (out / "figure1.svg").read_text()
  page = (out / "index.md").read_text()
  assert "![" in page
  assert "(figure1.png)" in page
  assert catalogue.EXHIBITS["figure1"].paper in page
  assert "- figure6: no results of truthfulness in" in page
  gallery.write(read.read(folder), out)  # its own may be written again


def test_the_gallery_that_is_here_is_of_the_results_that_are_here():
  """Its page, word for word; pictures differ with matplotlib's version."""
  folder = ROOT / "docs" / "gallery"
  runs = read.read(RESULTS)
  shown = {name: gallery.show(name, runs) for name in catalogue.EXHIBITS}
  runs = dataclasses.replace(runs, folder="benchmarks/results")
  page = gallery.index(shown, "png", runs).replace(f"{RESULTS}", runs.folder)
  again = (
    "python -m instruct_jax.figures --runs=benchmarks/results"
    " --out=docs/gallery --overwrite"
  )
  assert (folder / "index.md").read_text() == page, again
  drawn = {name for name, one in shown.items() if one.plot is not None}
  assert {path.stem for path in folder.glob("*.png")} == drawn, again
  readme = (ROOT / "README.md").read_text()
  shown_there = set(re.findall(r"docs/gallery/(\w+)\.png", readme))
  assert shown_there
  assert shown_there <= drawn


def test_a_gallery_keeps_what_is_yours(tmp_path, folder):
  out = tmp_path / "out"
  out.mkdir()
  (out / "index.md").write_text("mine")
  with pytest.raises(errors.UserError, match=r"index\.md.*--overwrite"):
    gallery.write(read.read(folder), out)
  assert [p.name for p in out.iterdir()] == ["index.md"]
  gallery.write(read.read(folder), out, overwrite=True, names=("figure5",))
  assert "Overall quality" in (out / "index.md").read_text()
  assert not (out / "figure1.png").exists()


def test_a_gallery_of_nothing_is_an_error_and_writes_nothing(tmp_path):
  runs = read.read(toys.write(tmp_path / "runs", toys.run({"a": 1.0})))
  with pytest.raises(errors.UserError, match="no results of truthfulness"):
    gallery.write(runs, tmp_path / "out", names=("figure6",))
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
  ("more", "says"),
  [
    ("--only=figur1", "figure1"),
    ("--format=jpg", "jpg"),
    ("--only=figure6,figure5", "figure6 not drawn"),
    ("--runs=none", "none: no such folder"),
    ("--runs=", "--runs"),
    ("--out=", "--out"),
    ("--wrong", "--wrong"),
  ],
)
def test_command_lines_that_are_wrong(tmp_path, folder, more, says):
  line = [f"--runs={folder}", f"--out={tmp_path / 'out'}", more]
  with pytest.raises(errors.UserError, match=says):
    __main__.main(line)


def test_the_command_draws_and_says_what_it_could_not(tmp_path, folder, capsys):
  __main__.main([f"--runs={folder}", f"--out={tmp_path / 'out'}"])
  said = capsys.readouterr().out
  assert said.startswith("4 figures: ")
  assert "not drawn: figure6: no results of truthfulness" in said
  with pytest.raises(errors.UserError, match="notebooks"):
    __main__.main(["notebook"])


# Notebooks


def cells(name, kind):
  tree = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())
  return [c for c in tree["cells"] if c["cell_type"] == kind]


def test_there_are_enough_notebooks_and_each_figure_stands_in_one():
  found = {path.stem for path in NOTEBOOKS.glob("*.ipynb")}
  assert found == set(catalogue.notebooks())
  assert len(found) >= LEAST
  assert {n for names in catalogue.notebooks().values() for n in names} == set(
    catalogue.EXHIBITS
  )


@pytest.mark.parametrize("name", catalogue.notebooks())
def test_notebooks_are_stored_as_they_are_made_without_outputs(name):
  assert (NOTEBOOKS / f"{name}.ipynb").read_text() == notebooks.source(name)
  for cell in cells(name, "code"):
    assert cell["outputs"] == []
    assert cell["execution_count"] is None


@pytest.mark.parametrize("name", catalogue.notebooks())
def test_notebooks_run_on_the_results_that_are_here(name, monkeypatch):
  monkeypatch.chdir(NOTEBOOKS)
  monkeypatch.delenv("INSTRUCT_JAX_RUNS", raising=False)
  space, shown = {}, []
  for cell in cells(name, "code"):
    *before, last = "".join(cell["source"]).splitlines()
    exec("\n".join(before), space)
    try:
      shown.append(eval(last, space))
    except SyntaxError:  # no expression: nothing is shown
      exec(last, space)
  drawn = [one for one in shown if isinstance(one, gallery.Shown)]
  assert [one.name for one in drawn] == catalogue.notebooks()[name]
  for one in drawn:
    bundle = one._repr_mimebundle_()
    assert one.why or bundle["image/png"]
  assert all(one._repr_markdown_() for one in shown if one not in drawn)


# A kernel for each, 3 s of one core: two show that they can be run so; what the
# others do there is what the test above does without one.
@pytest.mark.slow
@pytest.mark.parametrize(
  "name",
  [
    pytest.param(name, marks=pytest.mark.long if n > 1 else ())
    for n, name in enumerate(catalogue.notebooks())
  ],
)
def test_notebooks_run_in_jupyter(name, monkeypatch):
  monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the kernel's, too
  nbclient = pytest.importorskip("nbclient", reason="the extra 'notebooks'")
  nbformat = pytest.importorskip("nbformat")
  pytest.importorskip("ipykernel")
  notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
  nbformat.validate(notebook)
  nbclient.NotebookClient(
    notebook, timeout=120, resources={"metadata": {"path": str(NOTEBOOKS)}}
  ).execute()
  outputs = [out for cell in notebook.cells if cell.cell_type == "code"
             for out in cell.outputs]  # fmt: skip
  kinds = {kind for out in outputs for kind in out.get("data", {})}
  assert "text/markdown" in kinds
  runs = read.read(RESULTS)
  if any(gallery.show(x, runs).figure for x in catalogue.notebooks()[name]):
    assert "image/png" in kinds


def test_notebooks_are_written_by_a_command(tmp_path):
  __main__.main(["notebooks", f"--out={tmp_path / 'mine'}"])
  found = {p.name: p.read_text() for p in (tmp_path / "mine").glob("*.ipynb")}
  assert found == {p.name: p.read_text() for p in NOTEBOOKS.glob("*.ipynb")}


def test_the_core_draws_nothing_before_it_is_asked():
  """Reading results must not cost the import of matplotlib or jax."""
  source = (
    "import sys; from instruct_jax.figures import read;"
    " print('matplotlib' in sys.modules, 'jax' in sys.modules)"
  )
  found = subprocess.run(
    [sys.executable, "-c", source], capture_output=True, text=True, cwd=ROOT
  )
  assert found.stdout.split() == ["False", "False"], found.stderr
