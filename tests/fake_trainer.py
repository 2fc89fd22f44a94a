"""The Python of the fake cloud's hosts: tpu_scripts' tests start it there.

It says yes to what set-up asks, and plays the command: what it was given goes
to FAKE/ran.jsonl, then come lines of progress and an exit code, as the scenario
has it for this start of this host.
"""

import json
import os
import pathlib
import signal
import stat
import sys
import time

FAKE = pathlib.Path(os.environ["FAKE"])
HOST = pathlib.Path(os.environ["HOME"]).name


def note(file, **what):
  with open(FAKE / file, "a") as lines:
    lines.write(json.dumps({"host": HOST, **what}) + "\n")


def venv(folder):
  """An environment whose Python is this program."""
  python = pathlib.Path(folder) / "bin" / "python"
  python.parent.mkdir(parents=True)
  python.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {__file__} "$@"\n')
  python.chmod(python.stat().st_mode | stat.S_IEXEC)


def train():
  starts = FAKE / f"starts-{HOST.split('-life')[0]}"
  number = len(starts.read_text()) if starts.exists() else 0
  starts.write_text("x" * (number + 1))
  note(
    "ran.jsonl", argv=sys.argv[1:], cwd=os.getcwd(), mine=os.environ.get("X")
  )
  scenario = json.loads((FAKE / "scenario.json").read_text())
  plays = scenario.get("train", [{}])
  play = plays[min(number, len(plays) - 1)]
  play = play | play.get(HOST.split("-life")[0], {})
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
  first, last = play.get("steps", [1, 3])
  for step in range(first, last + 1):
    print(f"stage 2/3 ppo  {step}/100  {step} %  ${HOST}", flush=True)
    time.sleep(0.02)
  while "until" in play and not (FAKE / play["until"]).exists():
    time.sleep(0.05)
  if "forever" in play:
    time.sleep(600)
  results = pathlib.Path("runs") / "ppo"
  results.mkdir(parents=True, exist_ok=True)
  (results / "results.json").write_text(HOST)
  (results / "checkpoints").mkdir(exist_ok=True)
  (results / "checkpoints" / "1").write_text("weights")
  sys.stdout.buffer.write(b"the last line \xff\x00\xfe, unended")
  sys.stdout.flush()
  sys.exit(play.get("exit", 0))


match sys.argv[1:]:
  case ["-c", *_]:
    pass
  case ["-m", "venv", folder]:
    venv(folder)
  case ["-m", "pip", *rest]:
    note("pip.jsonl", argv=rest)
    sys.exit(json.loads((FAKE / "scenario.json").read_text()).get("pip", 0))
  case _:
    train()
