"""A real browser, and a server for it, for the tests of the labelling pages."""

import contextlib
import shutil
import threading
import time

import pytest

testclient = pytest.importorskip("starlette.testclient")
webdriver = pytest.importorskip("selenium.webdriver")
uvicorn = pytest.importorskip("uvicorn")

from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

from instruct_jax.collecting import app, guard, serving  # noqa: E402

_FLAGS = (
  "--headless=new",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
)
_PATIENCE = 20.0  # seconds
NO_LIMITS = guard.Limits(body=2**20, burst=10**6, per_second=1e6)


@contextlib.contextmanager
def served(labels):
  """The address of a server of these labels, in a thread of its own."""
  bound = serving.bind("127.0.0.1", 0)
  config = uvicorn.Config(
    app.build(labels, limits=NO_LIMITS), log_config=None, access_log=False
  )
  server = uvicorn.Server(config)
  thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
  thread.start()
  try:
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
  finally:
    server.should_exit = True
    thread.join()
    bound.close()


@contextlib.contextmanager
def opened(folder):
  """A `Browser`; the test is skipped where there is no Chromium."""
  chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
  if not chromium or not driver:
    pytest.skip("chromium and chromedriver (Debian's packages) are not here")
  options = webdriver.ChromeOptions()
  options.binary_location = chromium
  options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
  for flag in (*_FLAGS, f"--user-data-dir={folder}"):
    options.add_argument(flag)
  service = webdriver.ChromeService(driver)
  browser = Browser(webdriver.Chrome(options=options, service=service))
  try:
    yield browser
  finally:
    browser.driver.quit()


class Browser:
  """What a person does in front of a page."""

  def __init__(self, driver):
    self.driver = driver
    self.size(1280, 900)

  def renew(self):
    """As it was when it was opened: one empty tab, which knows nobody."""
    first, *others = self.driver.window_handles
    for each in others:
      self.driver.switch_to.window(each)
      self.driver.close()
    self.driver.switch_to.window(first)
    self.go("about:blank")
    self.cdp("Network.clearBrowserCookies")
    self.cdp("Emulation.setScriptExecutionDisabled", value=False)
    self.offline(False)
    self.size(1280, 900)
    self.driver.get_log("browser")

  def size(self, width, height):
    """A window of so many CSS pixels; a narrow one is a phone's."""
    screen = {"width": width, "height": height, "deviceScaleFactor": 1}
    is_phone = width < 500
    self.cdp("Emulation.setDeviceMetricsOverride", mobile=is_phone, **screen)
    self.cdp("Emulation.setTouchEmulationEnabled", enabled=is_phone)

  def cdp(self, command, **arguments):
    """A command of Chrome's DevTools protocol."""
    return self.driver.execute_cdp_cmd(command, arguments)

  def go(self, address):
    """Opens an address."""
    self.driver.get(address)

  def run(self, script, *arguments):
    """What a script returns."""
    return self.driver.execute_script(script, *arguments)

  def keys(self, *keys, alt=False, ctrl=False):
    """Presses keys, one after the other, wherever the focus is."""
    for key in keys:
      chain = webdriver.ActionChains(self.driver, duration=0)
      held = [k for k, on in ((Keys.ALT, alt), (Keys.CONTROL, ctrl)) if on]
      for each in held:
        chain.key_down(each)
      chain.send_keys(key)
      for each in held:
        chain.key_up(each)
      chain.perform()

  def one(self, selector):
    """The first element of a CSS selector."""
    return self.driver.find_element(By.CSS_SELECTOR, selector)

  def all(self, selector):
    """All of them."""
    return self.driver.find_elements(By.CSS_SELECTOR, selector)

  def click(self, selector):
    """Clicks on the first of them, in the middle of the window."""
    element = self.one(selector)
    self.run("arguments[0].scrollIntoView({block: 'center'})", element)
    element.click()

  def text(self, selector="main"):
    """What can be read of an element."""
    return self.one(selector).text

  def focus(self):
    """The id or name of what has the focus."""
    return self.run(
      "const e = document.activeElement; return e.id || e.name || e.tagName"
    )

  def until(self, what, found):
    """Waits until a function of no arguments is true; returns its value."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
      with contextlib.suppress(Exception):  # the page is about to change
        if value := found():
          return value
      time.sleep(0.05)
    raise AssertionError(
      f"not seen: {what}. The page says: {self.text('body')}"
    )

  def next_task(self, after):
    """Waits for the page of another task than `after`; its assignment."""
    task = "const t = document.getElementById('task');"
    script = f"{task} return document.readyState == 'complete' && (t ? "
    script += "t.dataset.assignment : 'none')"
    return self.until(
      "the next task",
      lambda: (now := self.run(script)) and now != after and now,
    )

  def assignment(self):
    """The number of the task that is open."""
    return self.one("#task").get_attribute("data-assignment")

  def offline(self, is_offline):
    """Cuts the connection, or mends it."""
    self.cdp("Network.enable")
    self.cdp(
      "Network.emulateNetworkConditions",
      offline=is_offline,
      latency=0,
      downloadThroughput=-1,
      uploadThroughput=-1,
    )

  def errors(self):
    """What the console complains of, but for a status of the network's."""
    said = [line["message"] for line in self.driver.get_log("browser")]
    return [text for text in said if "Failed to load resource" not in text]

  def is_narrow(self):
    """Whether nothing reaches beyond the window's right edge."""
    root = "document.documentElement"
    return self.run(f"return {root}.scrollWidth <= {root}.clientWidth")
