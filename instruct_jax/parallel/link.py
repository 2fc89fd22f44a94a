"""What binds the processes of a job: who has come, who is gone, when to stop.

Each keeps a connection to the first one as long as it works. The system closes
it when a process dies, however it dies, and when a host falls silent; a thread
hears that wherever the main one hangs: in a collective, in a program that
compiles, in a save. Then all end, with one line that says who is gone.

Where one is asked to stop, all stop at the same place: each has counted the
places that it has come to; the first one asks all for their counts, and they
stop at the next place that none has passed.
"""

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

from instruct_jax.base import interrupt, peers
from instruct_jax.parallel import wire

_PATIENCE = 10.0  # seconds in which the others end by themselves, too
_VERDICT = 5.0  # seconds in which it comes out that an error was another's end
LIMIT = 3600.0  # seconds that processes wait for each other
GOES_ON = "the same command goes on from the last save"


@dataclasses.dataclass(frozen=True)
class Place:
  """Which process of a job this is."""

  coordinator: str  # HOST:PORT at which the first one listens
  count: int  # processes
  index: int


class Link:
  """The connections of one process, and what its main thread asks of them."""

  def __init__(
    self, place: Place, hosts: list[str], wires: dict[int, wire.Wire]
  ):
    """`wires` are by the index at their other end: all others of the first
    process, and 0 alone of each other one."""
    self.place, self.hosts = place, hosts
    self._wires = wires
    self._changed, self._leaving = threading.Condition(), threading.Lock()
    self._given: dict[str, dict[int, Any]] = {}  # by name, to the first one
    self._answers: dict[str, Any] = {}  # by name, of the first one
    self._ended: dict[int, int] = {}  # exit codes, by process
    self._is_over = False  # all have ended
    self._left: set[int] = set()  # whose connection is closed
    # Called in the first process, once all others have left after their end.
    self.close: Callable[[], None] = lambda: None
    self._passed = 0  # places where one may stop
    self._is_asked = False  # to stop
    self._counts: dict[int, int] = {}  # what all have passed then
    self._last: int | None = None  # the place to stop at
    for index in wires:
      thread = threading.Thread(target=self._hear, args=(index,), daemon=True)
      thread.start()
    peers.current = self

  @property
  def is_first(self) -> bool:
    """Whether this is the process that the others are connected to."""
    return self.place.index == 0

  def name(self, index: int) -> str:
    """How people call a process."""
    return f"process {index} ({self.hosts[index]})"

  def gather(
    self, name: str, value: Any, judge: Callable[[list[Any]], Any]
  ) -> Any:
    """What `judge` makes of the values of all processes, by index.

    Every process calls it with the same name, once; the first one judges. Ends
    the process after LIMIT seconds, saying for whom it waited. Values and
    answer travel as JSON.
    """
    if not self.is_first:
      self._wires[0].send({"given": name, "value": value})
      self._wait(lambda: name in self._answers, name, lambda: [0])
      return self._answers.pop(name)
    given = self._given.setdefault(name, {})
    with self._changed:
      given[0] = value
    everybody = range(self.place.count)
    self._wait(
      lambda: len(given) == len(everybody),
      name,
      lambda: [i for i in everybody if i not in given],
    )
    answer = judge([given[index] for index in everybody])
    self._tell({"answer": name, "value": answer})
    return answer

  def give_up(self, name: str, seconds: float, who: str = "") -> None:
    """As in `peers.Peers`."""
    self._leave(
      f"'{name}': {who or 'another process'} did not come there within"
      f" {seconds:.0f} s; {GOES_ON}"
    )

  def ask_to_stop(self) -> None:
    """As in `peers.Peers`."""
    if self.is_first:
      self._start_to_stop()
    else:
      self._wires[0].send({"stop": True})

  def stops(self) -> bool:
    """As in `peers.Peers`. It costs nothing until somebody is asked."""
    with self._changed:
      self._passed += 1
      if self._is_asked:
        self._changed.wait_for(lambda: self._last is not None, LIMIT)
      return self._last is not None and self._passed >= self._last

  def ends(self, code: int, message: str) -> None:
    """As in `peers.Peers`."""
    if code == 1:  # It may be no more than what another's end looks like.
      time.sleep(_VERDICT)
    lines = [line for line in message.splitlines() if line.strip()]
    # The last line of a bug's message is about bugs, not about this one.
    text = lines[-2:][0 if code == 1 else -1] if lines else ""
    with self._changed:
      self._ended[self.place.index] = code
    self._tell({"ends": self.place.index, "code": code, "text": text})
    self._look_whether_over()
    with self._changed:
      wait = LIMIT if self._is_of_all(code) else _PATIENCE
      self._changed.wait_for(lambda: self._is_over, wait)
      if self.is_first and self._is_over:
        everybody = len(self._wires)
        self._changed.wait_for(lambda: len(self._left) == everybody, _PATIENCE)
        if len(self._left) == everybody:
          self.close()

  def _is_of_all(self, code: int) -> bool:
    """Whether an end comes to all: done, or stopped where all were asked to."""
    return code == 0 or (code == interrupt.EXIT_CODE and self._is_asked)

  def _hear(self, index: int) -> None:
    """The thread that listens to one connection."""
    while (message := self._wires[index].receive()) is not None:
      self._take(index, message)
    with self._changed:
      self._left.add(index)
      self._changed.notify_all()
      mine = self._ended.get(self.place.index)
    # After an end of its own it waits for nobody whose end has to be told.
    is_over = self._is_over or (mine is not None and not self._is_of_all(mine))
    if index not in self._ended and not is_over:
      self._say_gone(index)

  def _take(self, index: int, message: wire.Message) -> None:
    if "given" in message:
      with self._changed:
        self._given.setdefault(message["given"], {})[index] = message["value"]
        self._changed.notify_all()
    elif "answer" in message:
      with self._changed:
        self._answers[message["answer"]] = message["value"]
        self._changed.notify_all()
    elif "stop" in message:
      self._start_to_stop()
    elif "count" in message:
      self._count(index, message["count"])
    elif "counts" in message:
      self._answer_count()
    elif "last" in message:
      self._set_last(message["last"])
    elif "ends" in message:
      self._note_end(message)
    elif "over" in message:
      with self._changed:
        self._is_over = True
        self._changed.notify_all()
    elif "gone" in message:
      self._leave(message["gone"])

  def _say_gone(self, index: int) -> None:
    self._leave(f"{self.name(index)} is gone; {GOES_ON}")

  def _leave(self, text: str) -> None:
    """Ends the process, from any thread; the others hear why."""
    self._leaving.acquire()  # Who comes second waits for the end.
    self._tell({"gone": text})
    interrupt.leave(interrupt.EXIT_CODE, f"error: {text}\n")

  def _tell(self, message: wire.Message) -> None:
    for each in self._wires.values():
      each.send(message)

  def _wait(
    self, done: Callable[[], bool], name: str, missing: Callable[[], list[int]]
  ) -> None:
    end = time.monotonic() + LIMIT
    while True:
      with self._changed:
        if self._changed.wait_for(done, 0.5):
          return
      if time.monotonic() > end:
        self.give_up(name, LIMIT, ", ".join(map(self.name, missing())))

  def _start_to_stop(self) -> None:
    """The first process asks all for what they have passed."""
    with self._changed:
      if self._counts:
        return
      self._is_asked = True
      self._counts[0] = self._passed
    interrupt.request()
    self._tell({"counts": True})

  def _answer_count(self) -> None:
    with self._changed:
      self._is_asked = True
      passed = self._passed
    interrupt.request()
    self._wires[0].send({"count": passed})

  def _count(self, index: int, passed: int) -> None:
    with self._changed:
      self._counts[index] = passed
      is_known = len(self._counts) == self.place.count
      last = max(self._counts.values()) + 1
    if is_known:
      self._tell({"last": last})
      self._set_last(last)

  def _set_last(self, last: int) -> None:
    with self._changed:
      self._last = last
      self._changed.notify_all()

  def _note_end(self, message: wire.Message) -> None:
    """Another process ends; where that is not for all, this one does, too."""
    index, code = message["ends"], message["code"]
    with self._changed:
      self._ended[index] = code
    if self.is_first:
      for other, each in self._wires.items():
        if other != index:
          each.send(message)
    if code:
      line = f"error: {self.name(index)} has ended: {message['text']}\n"
      timer = threading.Timer(_PATIENCE, self._follow, (code, line))
      timer.daemon = True
      timer.start()
    self._look_whether_over()

  def _follow(self, code: int, line: str) -> None:
    if self.place.index not in self._ended and not self._is_of_all(code):
      interrupt.leave(code, line)

  def _look_whether_over(self) -> None:
    with self._changed:
      is_over = self.is_first and len(self._ended) == self.place.count
    if is_over:
      self._tell({"over": True})
      with self._changed:
        self._is_over = True
        self._changed.notify_all()
