"""tpu_scripts/slurm.sh, with programs in the place of SLURM's commands."""

import json
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests import tpu_scripts_test

SCRIPT = pathlib.Path(__file__).parents[1] / "tpu_scripts" / "slurm.sh"
# As srun: runs the command, and hands on what scancel asks for.
PROGRAM = f"""#!{sys.executable} -IS
import json, os, pathlib, signal, subprocess, sys
folder = pathlib.Path(__file__).parent.parent
name = pathlib.Path(sys.argv[0]).name
with open(folder / "calls", "a") as calls:
  devices = os.environ.get("JAX_LOCAL_DEVICE_IDS")
  calls.write(json.dumps([name, devices, *sys.argv[1:]]) + "\\n")
if name == "scancel":
  os.kill(int((folder / "pid").read_text()), signal.SIGTERM)
if name == "srun":
  words = [w for w in sys.argv[1:] if not w.startswith("--")]
  process = subprocess.Popen(words)
  (folder / "pid").write_text(str(process.pid))
  code = process.wait()
  sys.exit(code if code >= 0 else 128 - code)
sys.exit((folder / f"{{name}}_fails").exists())
"""


@pytest.fixture
def job(tmp_path):
  """A function that starts the job; its calls are in tmp_path/calls."""
  (tmp_path / "bin").mkdir()
  for name in ("srun", "scontrol", "scancel"):
    (tmp_path / "bin" / name).write_text(PROGRAM)
    (tmp_path / "bin" / name).chmod(0o755)

  def start(*command, **environment):
    return subprocess.Popen(
      ["bash", str(SCRIPT), *command],
      env={
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
        "SLURM_JOB_ID": "17",
        **environment,
      },
      stderr=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )

  start.calls = lambda: [
    json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()
  ]
  start.folder = tmp_path
  return start


@pytest.mark.parametrize("code", [0, 1, 2, 3, 75, 134, 137])
def test_the_exit_code_says_whether_it_is_queued_again(job, code):
  process = job("bash", "-c", f"exit {code}")
  _, err = process.communicate(timeout=60)
  assert process.returncode == code, err
  again = [call for call in job.calls() if call[0] == "scontrol"]
  if code in (0, 1, 2, 3):
    assert again == []
  else:
    assert again == [["scontrol", None, "requeue", "17"]]


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGUSR1, signal.SIGTERM])
def test_the_processes_save_before_the_time_is_over(job, sent):
  """They are told once, and waited for; then the same command is queued."""
  saves = (
    'trap "sleep 0.5; touch saved; exit 75" TERM; touch up;'
    " sleep 9 >/dev/null 2>&1 & wait"
  )
  process = job("bash", "-c", f"cd {job.folder}; {saves}")
  tpu_scripts_test.until((job.folder / "up").exists)
  process.send_signal(sent)
  time.sleep(0.2)
  process.send_signal(sent)
  _, err = process.communicate(timeout=60)
  assert process.returncode == 75, err
  assert (job.folder / "saved").exists()
  names = [call[0] for call in job.calls()]
  assert names == ["srun", "scancel", "scontrol"]
  assert job.calls()[1][2:] == ["--signal=TERM", "17"]


def test_words_reach_the_processes_as_they_are(job):
  words = [w for w in tpu_scripts_test.NASTY if not w.startswith("--")]
  process = job("printf", "%s\\0", *words)
  out, err = process.communicate(timeout=60)
  assert process.returncode == 0, err
  assert out.split("\0")[:-1] == words
  assert job.calls()[0][:2] == ["srun", None]


def test_one_process_a_node_has_all_its_gpus(job):
  process = job("true", SLURM_NTASKS_PER_NODE="1", SLURM_GPUS_ON_NODE="4")
  assert process.wait(timeout=60) == 0
  assert job.calls()[0][:2] == ["srun", "0,1,2,3"]


def test_it_is_not_queued_again_for_ever(job):
  process = job("bash", "-c", "exit 75", SLURM_RESTART_COUNT="2", REQUEUES="2")
  _, err = process.communicate(timeout=60)
  assert process.returncode == 75
  assert "queued again 2 times (REQUEUES): given up" in err
  assert [call[0] for call in job.calls()] == ["srun"]


def test_what_could_not_be_queued_again_is_said(job):
  (job.folder / "scontrol_fails").touch()
  process = job("bash", "-c", "exit 75")
  _, err = process.communicate(timeout=60)
  assert process.returncode == 75
  assert "by hand: scontrol requeue 17" in err


@pytest.mark.parametrize(
  ("command", "environment", "sentence"),
  [
    ([], {}, "nothing to run"),
    (["true"], {"SLURM_JOB_ID": ""}, "this is a job, not a command"),
    (["true"], {"REQUEUES": "x"}, "REQUEUES='x' is wrong"),
  ],
)
def test_wrong_use_is_a_sentence(job, command, environment, sentence):
  process = job(*command, **environment)
  _, err = process.communicate(timeout=60)
  assert process.returncode == 2
  assert err.startswith("error: ")
  assert sentence in err
