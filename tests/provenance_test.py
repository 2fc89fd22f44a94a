"""Where a run's numbers come from, and nothing more than that."""

import datetime
import json
import pathlib
import subprocess
import sys
import types

import jax
import pytest

import instruct_jax
from instruct_jax.runs import provenance


@pytest.mark.parametrize(
  ("module", "argv", "expected"),
  [
    (
      "instruct_jax.main",
      ["/home/ann/x/main.py", "--config=a.py", "--config.data.template=a b's"],
      "python -m instruct_jax.main --config=a.py"
      " '--config.data.template=a b'\"'\"'s'",
    ),
    ("instruct_jax.data.__main__", ["x", "f"], "python -m instruct_jax.data f"),
    (None, ["/home/ann/train.py", "--n=1"], "train.py --n=1"),
  ],
)
def test_the_command_as_it_was_typed(monkeypatch, module, argv, expected):
  spec = module and types.SimpleNamespace(name=module)
  main = types.SimpleNamespace(__spec__=spec)
  monkeypatch.setitem(sys.modules, "__main__", main)
  monkeypatch.setattr(sys, "argv", argv)
  assert provenance.command() == expected


def test_what_is_recorded(monkeypatch):
  monkeypatch.setattr(sys, "argv", ["run"])
  found = json.loads(json.dumps(provenance.collect()))
  date = datetime.datetime.fromisoformat(found["date"])
  now = datetime.datetime.now(datetime.UTC)
  assert datetime.timedelta(0) <= now - date < datetime.timedelta(minutes=1)
  assert found["packages"]["jax"] == jax.__version__
  assert found["devices"] == jax.device_count()
  assert str(pathlib.Path.home()) not in json.dumps(found)


def test_the_commit_is_that_of_the_code_not_of_a_repository_around_it(
  tmp_path, monkeypatch
):
  def git(*arguments):
    given = ("-c", "user.name=n", "-c", "user.email=e", "-C", str(tmp_path))
    subprocess.run(["git", *given, *arguments], check=True, capture_output=True)

  package = tmp_path / "__init__.py"
  package.write_text("one")
  monkeypatch.setattr(instruct_jax, "__file__", str(package))
  assert provenance.commit() == {"commit": "", "changed": False}
  git("init")
  git("commit", "--allow-empty", "-m", "someone else's")
  assert provenance.commit() == {"commit": "", "changed": False}
  git("add", ".")
  git("commit", "-m", "ours")
  clean = provenance.commit()
  assert len(clean["commit"]) >= 12
  assert not clean["changed"]
  package.write_text("two")
  assert provenance.commit() == clean | {"changed": True}
  monkeypatch.setattr(provenance.subprocess, "run", _no_git)
  assert provenance.commit() == {"commit": "", "changed": False}


def _no_git(*_, **__):
  raise FileNotFoundError("git")
