"""On several processes one writes; the others wait, and learn what it did."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from instruct_jax.base import errors
from instruct_jax.parallel import hosts
from tests import processes

PROGRAM = """
import json, pathlib, time, types
from instruct_jax.base import errors, interrupt
from instruct_jax.parallel import hosts
from instruct_jax import worlds
from instruct_jax.runs import jobs
import ml_collections
folder = pathlib.Path(rest[0])

def write():
  time.sleep(0.5)
  with (folder / "writers").open("a") as file:
    file.write(f"{rank}\\n")
  return {"rank": rank}

seen = [hosts.is_writer(), hosts.once("write", write)]
seen.append((folder / "writers").read_text())  # There as soon as it returns.
seen.append(hosts.once("write", write))

for error in (errors.UserError, interrupt.Interrupted, KeyError):
  def fail():
    raise error("why")
  try:
    hosts.once("fail", fail)
  except Exception as caught:
    seen.append([type(caught).__name__, str(caught)])

def build(config, folder):
  write()
  return {"rows": 3.0}
worlds.of = lambda data: types.SimpleNamespace(build=build)
config = ml_collections.ConfigDict({"data": {"source": "toy"}})
seen.append(jobs.build_data(config, folder, {}).metrics)
hosts.barrier("end")
print(json.dumps(seen))
"""


def test_two_processes_write_once(tmp_path):
  outputs = processes.together(PROGRAM, tmp_path)
  first, second = (json.loads(text.splitlines()[-1]) for text in outputs)
  assert first == [
    True,
    {"rank": 0},
    "0\n",
    {"rank": 0},
    ["UserError", "why"],
    ["Interrupted", "why"],
    ["KeyError", "'why'"],
    {"rows": 3.0},
  ]
  assert second[:6] == [False, *first[1:6]]
  assert second[6][0] == "RuntimeError"
  assert "KeyError" in second[6][1]
  assert second[7:] == first[7:]
  assert (tmp_path / "writers").read_text() == "0\n" * 3


def test_alone_everything_is_plain():
  assert hosts.is_writer()
  assert hosts.once("x", lambda: (1, 2)) == (1, 2)
  with pytest.raises(errors.UserError, match="why"):
    hosts.once("x", lambda: (_ for _ in ()).throw(errors.UserError("why")))
  got = hosts.fetch({"a": jnp.arange(3)})
  assert isinstance(got["a"], np.ndarray)
  assert got["a"].tolist() == [0, 1, 2]
