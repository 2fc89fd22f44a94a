"""Takes the pictures of the labelling pages that the README shows.

  python -m tests.label_pictures docs/labeling

A ranking as labelers see it, half done, on a desktop and on a phone, and the
admin's page after simulated labelers have worked. From the real pages, in
Chromium.
"""

import importlib.resources
import json
import pathlib
import sys
import tempfile

from instruct_jax.collecting import simulated, store
from tests import collecting_browsers as browsers
from tests import collecting_simulated_test as simulated_test

_SETTINGS = """
[screening]
required = false
[overlap]
share = 0.5
labelers = 3
"""
# Of the answers to the first prompt of screening.jsonl, by how they begin.
_JUDGED = {
  "Sunlight is made": (7, "satisfies_constraint"),
  "Rayleigh": (3, "wrong_task"),
  "The sky is blue because": (2, "hallucination"),
  "Blue is many": (1, "wrong_task"),
}
_WIDE, _PHONE = (1280, 1000), (390, 844)


def _store(folder: pathlib.Path) -> store.Store:
  folder.mkdir()
  (folder / "settings.toml").write_text(_SETTINGS)
  return store.open_store(folder)


def labelers(folder: pathlib.Path, browser, out: pathlib.Path) -> None:
  """ranking.png and phone.png."""
  labels = _store(folder)
  home = importlib.resources.files("instruct_jax.collecting")
  lines = (home / "screening.jsonl").read_text("utf-8").splitlines()
  rows = [json.loads(line) for line in lines]
  labels.add_tasks(
    "ranking",
    [
      {key: row[key] for key in ("prompt", "responses")}
      for row in rows
      if row["kind"] == "ranking"
    ],
    source="picture",
  )
  with browsers.served(labels) as address:
    browser.go(f"{address}/invite/{labels.invite('Ann')}")
    shown = labels.next_assignment(1)
    for place, index in enumerate(shown.display):
      text = shown.content["responses"][index]
      rating, flag = next(v for k, v in _JUDGED.items() if text.startswith(k))
      for name in (f"rating-{place}'][value='{rating}", f"flag-{place}-{flag}"):
        browser.run(f"document.querySelector(\"[name='{name}']\").click()")
    browser.run("document.activeElement.blur()")
    for name, size in (("ranking", _WIDE), ("phone", _PHONE)):
      browser.size(*size)
      browser.run("scrollTo(0, 0)")
      browser.driver.save_screenshot(str(out / f"{name}.png"))
    browser.go("about:blank")
  labels.shut()


def admins(folder: pathlib.Path, browser, out: pathlib.Path) -> None:
  """admin.png."""
  labels = _store(folder)
  labels.add_tasks("ranking", simulated_test.lists(150, k=5), source="picture")
  with browsers.served(labels) as address:
    for group, count, tasks in (("training", 5, 40), ("held_out", 2, 30)):
      simulated.simulate(
        address, folder, labelers=count, group=group, tasks=tasks
      )
    browser.size(*_WIDE)
    browser.go(f"{address}/admin/enter/{labels.new_admin_token()}")
    browser.until("the plots", lambda: browser.all("img, svg"))
    browser.driver.save_screenshot(str(out / "admin.png"))
    browser.go("about:blank")
  labels.shut()


def main() -> None:
  """Takes them all."""
  out = pathlib.Path(sys.argv[1])
  out.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    with browsers.opened(folder / "profile") as browser:
      labelers(folder / "labeler", browser, out)
      admins(folder / "admin", browser, out)


if __name__ == "__main__":
  main()
