"""Ctrl-C and SIGTERM: when they are heard, and what they end.

SIGTERM asks a run to save what it has and to stop (exit code 75). Ctrl-C raises
KeyboardInterrupt (130), but not where that would leave something half-done: in
an import, in a finalizer, in a block that is `deferred`. A second Ctrl-C ends
the process at once, also while the first waits for C++ to come back, as it does
while a program compiles.

Of several processes all stop where one is asked to, at the same place.
"""

import contextlib
import os
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from instruct_jax.base import peers

EXIT_CODE = 75  # EX_TEMPFAIL: run the same command again to continue
CTRL_C = 130  # what a shell says of a command that Ctrl-C has ended

_PATIENCE = 1.5  # seconds after which a Ctrl-C that has to wait is answered
_AGAIN = signal.SIGURG  # by which `_insist` repeats it: nobody else uses that
_SAME = 0.5  # seconds within which two are one: a launcher may pass it on, too
_TOO_LATE = (
  "error: stopped by SIGTERM, but not saved within the time of --grace; the"
  " same command goes on from the save before\n"
)
# C++ calls these, or Python does and swallows what they raise.
_CLOSED_TO_ERRORS = ("__del__", "__hash__", "__eq__", "_xla_gc_callback")

_requested = threading.Event()
_heard = threading.Event()  # the KeyboardInterrupt was raised
_waiting: type[KeyboardInterrupt] | None = None  # to be raised when it may be
_first: float | None = None  # when Ctrl-C came
_handled, _watched = 0, 0  # Ctrl-Cs, by the handler and by `_watch`
_is_reading = False  # the main thread waits for keys
_depth = 0  # of deferred blocks around the main thread
_leftovers: dict[int, Callable[[], object]] = {}
_grace = 0.0  # seconds that SIGTERM leaves; 0: as many as it takes
_alone = 0  # of blocks that no other process of the job runs


class Interrupted(Exception):
  """Raised by a run that has saved its work after SIGTERM."""


class Stopped(KeyboardInterrupt):
  """SIGTERM where there is nothing to be saved: it ends what goes on."""


class Left(KeyboardInterrupt):
  """Ctrl-C where it is the way out: nothing is broken off by it."""


def end_at_once() -> None:
  """Makes Ctrl-C end the process without further ado, until `install`.

  For the seconds in which a command imports, since an import that is broken off
  in the middle of a library in C++ crashes the interpreter, and for its end.
  """
  if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(
      signal.SIGINT, lambda *_: leave(CTRL_C, "error: interrupted\n")
    )


def install(*, saves: bool = True) -> None:
  """Listens to SIGTERM and Ctrl-C. Main thread only.

  SIGTERM sets the flag that `requested` reads; it raises Stopped in a command
  that does not look at the flag because it `saves` nothing on its way. A
  process that was started with Ctrl-C ignored (nohup, a job in the background)
  goes on ignoring it.
  """
  _requested.clear()
  rearm()
  signal.signal(signal.SIGTERM, _on_sigterm if saves else _on_sigterm_stop)
  if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    for number in (signal.SIGINT, _AGAIN):
      signal.signal(number, _on_sigint)
    sys.unraisablehook = _on_unraisable
  read, write = os.pipe()
  os.set_blocking(write, False)
  signal.set_wakeup_fd(write, warn_on_full_buffer=False)
  threading.Thread(target=_watch, args=(read, saves), daemon=True).start()


def allow(seconds: float) -> None:
  """So long after SIGTERM the process ends, saved or not; 0: no limit."""
  global _grace
  _grace = seconds


def request() -> None:
  """SIGTERM has come, here or to another process of the job."""
  if not _requested.is_set() and _grace:
    timer = threading.Timer(_grace, leave, (EXIT_CODE, _TOO_LATE))
    timer.daemon = True
    timer.start()
  _requested.set()


def rearm() -> None:
  """What Ctrl-C asked for is done, or let be: the next one is the first."""
  global _heard, _waiting, _first
  end = time.monotonic() + 1.0
  while _watched < _handled and time.monotonic() < end:
    time.sleep(0.001)  # The other thread is still to hear of it.
  _heard, _waiting, _first = threading.Event(), None, None


def requested() -> bool:
  """True once SIGTERM has come.

  Of several processes all ask at the same places, and get the same answer; in a
  block that one of them runs `alone` it is that one's.
  """
  is_main = threading.current_thread() is threading.main_thread()
  if peers.current is None or _alone or not is_main:
    return _requested.is_set()
  return peers.current.stops()


@contextlib.contextmanager
def alone() -> Iterator[None]:
  """A block that the other processes of a job wait for."""
  global _alone
  _alone += 1
  try:
    yield
  finally:
    _alone -= 1


def check() -> None:
  """Raises Interrupted once SIGTERM has come; call it where work is saved.

  Also raises the KeyboardInterrupt that a deferred block holds back.
  """
  if requested():
    raise Interrupted
  if _waiting:
    _raise()


@contextlib.contextmanager
def deferred() -> Iterator[None]:
  """A block in which Ctrl-C waits: for `check`, `allowed`, or its end."""
  global _depth
  _depth += 1
  try:
    yield
  finally:
    _depth -= 1
  if _waiting and not _depth:
    _raise()


@contextlib.contextmanager
def allowed() -> Iterator[None]:
  """A block within a deferred one in which Ctrl-C is heard again."""
  global _depth
  before, _depth = _depth, 0
  try:
    if _waiting:
      _raise()
    yield
  finally:
    _depth = before


@contextlib.contextmanager
def reading() -> Iterator[None]:
  """A block in which the main thread waits in C for what a person types.

  A Ctrl-C that comes just before it begins to wait does not wake it.
  """
  global _is_reading
  _is_reading = True
  try:
    yield
  finally:
    _is_reading = False


@contextlib.contextmanager
def undone_by(function: Callable[[], object]) -> Iterator[None]:
  """A block after which `function` is called if a second Ctrl-C ends it.

  For what other processes would stumble over; it must be quick, and it may be
  called in another thread.
  """
  key = id(function)
  _leftovers[key] = function
  try:
    yield
  finally:
    _leftovers.pop(key, None)


def _raise() -> None:
  global _waiting
  kind, _waiting = _waiting or KeyboardInterrupt, None
  _heard.set()
  raise kind


def _on_sigterm(number: int, frame: FrameType | None) -> None:
  del number, frame
  request()


def _on_sigterm_stop(number: int, frame: FrameType | None) -> None:
  del number
  if not _heard.is_set() and _waiting is None:
    threading.Thread(target=_insist, args=(_heard,), daemon=True).start()
  _ask(Stopped, frame)


def _on_sigint(number: int, frame: FrameType | None) -> None:
  global _handled
  _handled += number == signal.SIGINT
  _ask(_waiting or KeyboardInterrupt, frame)


def _ask(kind: type[KeyboardInterrupt], frame: FrameType | None) -> None:
  global _waiting
  if _heard.is_set():
    return  # It unwinds already; who repeats it is heard by `_watch`.
  _waiting = kind
  if not _depth and not _is_closed(frame):
    _raise()


def _on_unraisable(args: Any) -> None:
  """Repeats a KeyboardInterrupt that Python has swallowed; shows the rest."""
  global _waiting
  if args.exc_type in (KeyboardInterrupt, Stopped):
    _heard.clear()
    _waiting = args.exc_type
    threading.Thread(target=_insist, args=(_heard,), daemon=True).start()
  else:
    sys.__unraisablehook__(args)


def _is_closed(frame: FrameType | None) -> bool:
  """Whether an error that is raised here would be swallowed, or would crash."""
  while frame is not None:
    code = frame.f_code
    if code.co_name in _CLOSED_TO_ERRORS:
      return True
    if code.co_filename.startswith("<frozen importlib"):
      return True
    frame = frame.f_back
  return False


def _watch(read: int, saves: bool) -> None:
  """Hears signals while the main thread cannot, in a thread of its own."""
  global _first, _watched
  while content := os.read(read, 64):
    if saves and signal.SIGTERM in content:
      request()
      if peers.current is not None:
        peers.current.ask_to_stop()
    if signal.SIGINT not in content:
      continue
    now, heard = time.monotonic(), _heard
    first, _first = _first, _first or now
    _watched += content.count(signal.SIGINT)
    if first is None:
      threading.Thread(target=_insist, args=(heard,), daemon=True).start()
    elif now - first > _SAME:
      leave(CTRL_C, "error: interrupted twice: ended at once\n")


def _insist(heard: threading.Event) -> None:
  """Says that a Ctrl-C waits, and repeats it where it had to be put off."""
  end = time.monotonic() + _PATIENCE
  while not heard.wait(0.1):
    if (_waiting and not _depth) or (_is_reading and _handled < _watched):
      signal.pthread_kill(_main_thread(), _AGAIN)
    if time.monotonic() > end:
      end = float("inf")
      _say(
        "note: interrupted; what runs now, a program that compiles perhaps, is"
        " waited for. Ctrl-C again ends at once.\n"
      )


def _main_thread() -> int:
  identity = threading.main_thread().ident
  assert identity is not None
  return identity


def leave(code: int, message: str) -> None:
  """Ends the process, from any thread; nothing is unwound but the leftovers."""
  for function in reversed(list(_leftovers.values())):  # the innermost first
    # What it waits for may be held by the thread that is broken off.
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(_SAME)
  _say(message)
  os._exit(code)


def _say(message: str) -> None:
  """Writes one line; in a terminal below the one that Ctrl-C stands on."""
  with contextlib.suppress(OSError):  # no terminal
    width = os.get_terminal_size(2).columns or 80
    lines = textwrap.wrap(
      message, width, break_long_words=False, break_on_hyphens=False
    )
    message = "\n".join(["", *lines, ""])
  with contextlib.suppress(OSError):
    os.write(2, message.encode())
