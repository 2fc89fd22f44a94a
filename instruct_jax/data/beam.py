"""Tasks done by a Beam runner: by several processes here, or by a cluster.

A pipeline is a list of tasks, dealt out anew, and what each of them does. They
need nothing of each other, and what they leave lies in the data set's folder,
which all workers see: nothing but names goes through the runner. Who is not on
this machine needs this package, and the files under the names that they have
here.
"""

import contextlib
import importlib
import io
import logging
import os
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from instruct_jax.base import errors
from instruct_jax.data import tasks
from instruct_jax.data.batch import pool

# What Beam calls them.
RUNNERS = {
  "direct": "DirectRunner",
  "dataflow": "DataflowRunner",
  "flink": "FlinkRunner",
  "spark": "SparkRunner",
  "portable": "PortableRunner",
}
_OURS = ("runner", "direct_num_workers", "direct_running_mode")
# These hand on to a server what Beam itself does not know.
_OPEN = ("flink", "spark", "portable")
_LOOK = 1.0  # seconds between two looks at how far it is
# What Beam calls a worker's program, and the thread that waits for it.
_WORKER, _WAITS = b"sdk_worker_main", "run_worker"
_INSTALL = (
  "apache-beam is not installed. It needs an older protobuf, so give it an"
  " environment of its own: python3 -m venv beam && beam/bin/pip install"
  " '.[beam]', and beam/bin/python -m instruct_jax.data build"
)


def check(name: str, *, workers: int = 0) -> None:
  """UserError for an unknown runner, or one that is not told its workers."""
  if name not in RUNNERS:
    raise errors.unknown("--runner", name, RUNNERS)
  if workers and name != "direct":
    raise errors.UserError(
      f"--workers={workers}: it is for --runner=direct; how many a {name}"
      " runner has is said by an option of its own, behind --"
    )


def runner(
  name: str, options: Sequence[str], *, workers: int = 0
) -> Callable[[Sequence[tasks.Task], Callable[[], None]], None]:
  """What does tasks, as `spread.Run`: by the runner of this name.

  Args:
    name: one of RUNNERS.
    options: Beam's own, `--name=value`.
    workers: processes of the direct runner; 0: one a core.

  Raises UserError as `check`, for options that Beam does not know or cannot
  read, and where Beam is not installed.
  """
  check(name, workers=workers)
  beam_options = _module("apache_beam.options.pipeline_options")
  given = [f"--runner={RUNNERS[name]}"]
  if name == "direct":
    count = workers or len(os.sched_getaffinity(0))
    given.append("--direct_running_mode=multi_processing")
    given.append(f"--direct_num_workers={count}")
    given.append("--default_sdk_harness_log_level=ERROR")
  made = _checked(beam_options.PipelineOptions, name, given, list(options))

  def run(every, look):
    _run(made, every, look)

  return run


def _module(name: str) -> Any:
  logging.disable(logging.WARNING)  # of clouds that are not there
  try:
    return importlib.import_module(name)
  except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "apache_beam":
      raise
    raise errors.UserError(_INSTALL) from None
  finally:
    logging.disable(logging.NOTSET)


def _checked(
  make: Callable[..., Any], name: str, given: list[str], options: list[str]
) -> Any:
  """Beam's options; UserError for what is none of them, or not for these."""
  for option in options:
    own = option.lstrip("-").partition("=")[0]
    if not option.startswith("--") or not own:
      raise errors.UserError(
        f"{option}: behind -- stands --name=value, of Beam"
      )
    if own in _OURS:
      raise errors.UserError(
        f"{option}: --runner and --workers say that; they stand before --"
      )
  said = io.StringIO()
  try:
    with contextlib.redirect_stderr(said):
      made = make([*given, *options])
      known = made.get_all_options()
      every = made.get_all_options(retain_unknown_options=True)
  except SystemExit:  # argparse's
    line = said.getvalue().strip().splitlines()[-1]
    raise errors.UserError(
      f"{line.partition('error: ')[2] or line} (of Beam, behind --)"
    ) from None
  unknown = sorted(every.keys() - known.keys())
  if unknown and name not in _OPEN:
    raise errors.unknown("option of Beam", f"--{unknown[0]}", _dashed(known))
  return made


def _dashed(names: Any) -> list[str]:
  return [f"--{name}" for name in names]


def _run(
  options: Any, every: Sequence[tasks.Task], look: Callable[[], None]
) -> None:
  """Runs one pipeline; looks meanwhile, and ends it if that raises."""
  ended: dict[str, Any] = {}
  thread = threading.Thread(
    target=_pipeline, args=(options, every, ended), daemon=True
  )
  with _noting_deaths(ended):
    thread.start()
    try:
      while thread.is_alive() and "death" not in ended:
        thread.join(_LOOK)
        look()
    except BaseException:
      _stop(ended)
      raise
  if death := ended.get("death"):
    _stop(ended)
    raise errors.UserError(
      f"a process of the direct runner was ended ({death}; out of memory?);"
      " what is complete stays, and the same command goes on from there."
      " Fewer --workers take less memory"
    )
  if error := ended.get("error"):
    raise errors.UserError(
      f"--runner={options.get_all_options()['runner']} gave up:"
      f" {_last_line(error)}"
    ) from error


@contextlib.contextmanager
def _noting_deaths(ended: dict[str, Any]) -> Iterator[None]:
  """Notes a worker of the direct runner that died, which that waits for.

  A thread of its own waits for each process and ends with an error then.
  """
  before = threading.excepthook

  def note(args):
    if args.thread is not None and args.thread.name == _WAITS:
      ended["death"] = str(args.exc_value)
    else:
      before(args)

  threading.excepthook = note
  yield
  # After an error the processes are ended, which needs no traceback each.
  if "death" not in ended:
    threading.excepthook = before


def _stop(ended: dict[str, Any]) -> None:
  """Ends a job, and the processes of the direct runner."""
  if "result" in ended:
    with contextlib.suppress(Exception):
      ended["result"].cancel()
  for pid in _below(os.getpid()):
    with contextlib.suppress(OSError):
      if _WORKER in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
        os.kill(pid, signal.SIGKILL)


def _below(pid: int) -> list[int]:
  """The processes that a process has started, and those that they have."""
  found: list[int] = []
  with contextlib.suppress(OSError):
    for task in os.listdir(f"/proc/{pid}/task"):
      children = pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text()
      for child in map(int, children.split()):
        found += [child, *_below(child)]
  return found


def _pipeline(
  options: Any, every: Sequence[tasks.Task], ended: dict[str, Any]
) -> None:
  logging.getLogger("apache_beam").setLevel(logging.ERROR)
  os.environ.update(pool.environment())  # for the processes that it starts
  beam = _module("apache_beam")
  try:
    pipeline = beam.Pipeline(options=options)
    dealt = pipeline | beam.Create(list(every)) | beam.Reshuffle()
    _ = dealt | beam.Map(tasks.run)
    ended["result"] = pipeline.run()
    ended["result"].wait_until_finish()
  except BaseException as error:
    ended["error"] = error


def _last_line(error: BaseException) -> str:
  lines = [line for line in str(error).splitlines() if line.strip()]
  return f"{type(error).__name__}: {lines[-1].strip() if lines else ''}"
