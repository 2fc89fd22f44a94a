"""A browser opens the report: at three widths, light and dark, and in print.

Chromium is driven by its command line: a script is put into a copy of the page,
which is opened in a frame (a window is never narrower than 500 pixels), and
what it saw is read from the dump of the page around it. A content policy
forbids whatever is not in the file, and what it stops is an error.
"""

import html
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from instruct_jax.report import page as report_page
from instruct_jax.runs import seeds
from tests import report_seeds_test, report_toys

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
SCRIPT = pathlib.Path(__file__).with_suffix(".js").read_text()
ALONE = (
  '<meta http-equiv="Content-Security-Policy" content="default-src'
  " 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
)
FRAME = """<!DOCTYPE html><meta name="color-scheme" content="light dark">
<iframe src="{source}" style="border: 0; width: {width}px; height: 900px"
></iframe><pre id="seen"></pre><script>addEventListener("message", (e) =>
{{ document.getElementById("seen").textContent = e.data; }})</script>"""
SCHEMES = {"dark": 0, "light": 1}  # as Chromium counts them

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(
    BROWSER is None, reason=f"there is no browser: none of {BROWSERS}"
  ),
]


def browse(url, folder, *options):
  """What the browser prints; its profile is thrown away."""
  assert BROWSER is not None
  profile = folder / "profile"
  command = [
    *(BROWSER, "--headless", "--disable-gpu", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars"),
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
    *(f"--user-data-dir={profile}", *options, url),
  ]
  done = subprocess.run(command, capture_output=True, text=True, timeout=120)
  shutil.rmtree(profile, ignore_errors=True)
  assert done.returncode == 0, done.stderr[-2000:]
  return done.stdout


def look(page, *, width=1000, scheme="light", place=""):
  """What the script saw of a page at a width, in a colour scheme."""
  copy = page.with_name("looked_at.html")
  text = page.read_text(encoding="utf-8")
  assert text.count("<head>") == 1
  script = f"{ALONE}<script>{SCRIPT}</script>"
  copy.write_text(text.replace("<head>", f"<head>{script}"), encoding="utf-8")
  frame = page.with_name("frame.html")
  source = html.escape(f"{copy.as_uri()}{place}")
  frame.write_text(FRAME.format(source=source, width=width))
  dump = browse(
    frame.as_uri(),
    page.parent,
    "--window-size=1500,1000",
    f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
    "--virtual-time-budget=5000",
    "--dump-dom",
  )
  found = re.search(r'<pre id="seen">(.+?)</pre>', dump, re.DOTALL)
  assert found, dump[-2000:]
  return json.loads(html.unescape(found[1]))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
  """A page with everything on it, of a run with long names and text."""
  chain = report_toys.make_chain(tmp_path_factory.mktemp("chain"))
  return pathlib.Path(report_page.write(chain[-1], chain))


@pytest.fixture(scope="module")
def together(tmp_path_factory):
  """A page of three seeds."""
  root = tmp_path_factory.mktemp("seeds")
  report_seeds_test.write_seeds(root)
  found = seeds.beside(root / "ppo-tiny")
  chain = seeds.chain(root / "ppo-tiny")
  return pathlib.Path(report_page.write(chain[-1], chain, found.chains))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [400, 800, 1400])
def test_it_can_be_read(page, width, scheme):
  seen = look(page, width=width, scheme=scheme)
  assert seen["width"] == width
  assert seen["outside"] == []
  assert seen["overflow"] <= 0
  assert seen["errors"] == []
  assert seen["requests"] == 0
  assert seen["texts"] > 200
  assert seen["faint"] == []
  assert seen["small"] == []
  assert seen["pictures"] == []
  if width > 1000:
    assert seen["cut"] == []
  else:  # What scrolls has a shadow at its edge.
    assert width > 400 or seen["cut"]
    assert all(cut.count("linear-gradient") == 2 for cut in seen["cut"])
  assert seen["page"] < 0.02 if scheme == "dark" else seen["page"] > 0.9


def test_several_seeds_can_be_read(together):
  for scheme in SCHEMES:
    seen = look(together, width=400, scheme=scheme)
    for wrong in ("errors", "faint", "small", "pictures"):
      assert seen[wrong] == []
    assert seen["overflow"] <= 0


def test_responses_are_filtered_by_use_case_and_by_who_won(page):
  expected = [report_toys.record(n) for n in range(100)]
  chat = [r for r in expected if r["use_case"] == "chat"]

  def won(records, share):
    return sum(
      r["responses"]["ppo_ptx"]["preferred"]["sft"] == share for r in records
    )

  seen = look(page)["filters"]
  assert seen["chat"] == min(24, len(chat))
  assert seen["won"] == won(chat, 0.8)
  assert seen["lost"] == 24 < won(expected, 0.2)
  assert seen["alike"] == 24
  assert seen["more"] == won(expected, 0.5)
  assert seen["start"] == seen["first"] == 24
  assert seen["chosen"] == "use case: chat; who won: PPO-ptx over SFT"
  assert seen["all"] == 100
  assert seen["hash"] == "#samples?use=chat&won=ppo_ptx%3Esft"
  assert seen["use"] is None


def test_a_link_keeps_the_filters_and_survives_nonsense(page):
  link = "#samples?use=chat&won=ppo_ptx%3Esft"
  records = [report_toys.record(n) for n in range(100)]
  fitting = [
    r
    for r in records
    if r["use_case"] == "chat"
    and r["responses"]["ppo_ptx"]["preferred"]["sft"] > 0.5
  ]
  assert look(page, place=link)["filters"]["start"] == len(fitting)
  seen = look(page, place="#samples?use=%22%3E&won=x")
  assert seen["filters"]["start"] == 24
  assert seen["errors"] == []


def test_without_the_script_every_response_is_there(page):
  text = page.read_text(encoding="utf-8")
  assert text.count('<article class="response"') == 100
  assert re.search(r"<form[^>]* hidden>", text)
  assert not re.search(r"<article[^>]*hidden", text)


def printed(page, place=""):
  """The page as PDF, printed from a dark screen."""
  target = page.with_name("page.pdf")
  browse(
    f"{page.as_uri()}{place}",
    page.parent,
    "--no-pdf-header-footer",
    f"--print-to-pdf={target}",
    f"--blink-settings=preferredColorScheme={SCHEMES['dark']}",
  )
  return target


def test_it_prints(page):
  content = printed(page).read_bytes()
  assert content.startswith(b"%PDF")
  pages = len(re.findall(rb"/Type\s*/Page\b", content))
  assert 3 <= pages <= 30


@pytest.mark.skipif(not shutil.which("pdftotext"), reason="reads the PDF")
def test_print_says_what_the_filter_shows(page):
  target = printed(page, "#samples?use=chat&won=ppo_ptx%3Esft")
  command = ["pdftotext", "-layout", target, "-"]
  text = subprocess.run(command, capture_output=True, text=True).stdout
  records = [report_toys.record(n) for n in range(100)]
  fitting = [
    r["prompt"]
    for r in records
    if r["use_case"] == "chat"
    and r["responses"]["ppo_ptx"]["preferred"]["sft"] > 0.5
  ]
  assert "use case: chat; who won: PPO-ptx over SFT" in text
  assert "show all" not in text
  assert len(re.findall(r"prompt number \d+", text)) == len(fitting)
