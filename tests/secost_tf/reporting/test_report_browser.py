"""The report in a browser: headless Chromium, driven by Selenium; skipped where one of the two is
missing.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from secost_tf.reporting.build import write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="needs selenium (pip install selenium)"
    )
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip(f"needs {' or '.join(BROWSERS)}, and chromedriver, on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def report(kept_run, kept_data, read_clips, tmp_path_factory) -> Path:
    """The report of the tiny run, with sounds."""
    folder = tmp_path_factory.mktemp("report")
    generator = np.random.default_rng(0)
    for clip in read_clips(kept_data, "eval"):
        sound = generator.uniform(-0.1, 0.1, round(16000 * clip.end_time_seconds))
        soundfile.write(folder / f"{clip.video_id}.wav", sound, 16000)
    run_dir = shutil.copytree(kept_run, folder / "run")
    path, _ = write_report(str(run_dir), audio_dir=str(folder))
    return Path(path)


@pytest.fixture
def page(browser, report):
    """The browser at the report, 1280 pixels wide; its console must stay empty in the test."""
    resize(browser, 1280)
    browser.get(report.as_uri())
    yield browser
    assert browser.get_log("browser") == []


def resize(browser, width: int) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def column(page, place: int) -> list[str]:
    """The shown texts of a column of the table of classes."""
    return page.execute_script(
        "return [...document.querySelectorAll('#class-table tbody tr:not([hidden])')]"
        ".map((row) => row.cells[arguments[0]].textContent)",
        place,
    )


def orders(page) -> list[str]:
    return page.execute_script(
        "return [...document.querySelectorAll('#class-table thead th')].map((head) => "
        "head.ariaSort)"
    )


def tab_to(page, text: str) -> None:
    """Presses Tab until the element with this text has the focus."""
    from selenium.webdriver import ActionChains, Keys

    for _ in range(60):
        ActionChains(page).send_keys(Keys.TAB).perform()
        if page.execute_script("return document.activeElement.textContent") == text:
            return
    raise AssertionError(f"Tab does not reach {text!r}")


def press(page, key: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(page).send_keys(key).perform()


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def test_classes_are_sorted_by_click(page):
    heads = page.find_elements("css selector", "#class-table thead button")
    assert [head.text for head in heads] == [
        "Class",
        "Clips",
        "AP, stage 0",
        "AP, stage 1",
        "AP, stage 2",
        "Gain",
    ]
    gains = list(map(number, column(page, 5)))
    assert gains == sorted(gains, reverse=True) and orders(page)[5] == "descending"
    heads[0].click()
    assert column(page, 0) == ["Bark", "Bell", "Rain", "Siren"]
    assert orders(page) == ["ascending", *["none"] * 5]
    heads[0].click()
    assert column(page, 0) == ["Siren", "Rain", "Bell", "Bark"]
    heads[2].click()
    figures = list(map(number, column(page, 2)))
    assert figures == sorted(figures, reverse=True) and orders(page)[2] == "descending"
    heads[2].click()
    assert list(map(number, column(page, 2))) == sorted(figures) and orders(page)[2] == "ascending"


def test_classes_are_sorted_by_keyboard(page):
    tab_to(page, "Class")
    press(page, " ")
    assert column(page, 0) == ["Bark", "Bell", "Rain", "Siren"]
    press(page, "\ue007")  # Enter
    assert column(page, 0) == ["Siren", "Rain", "Bell", "Bark"]
    tab_to(page, "Clips")
    press(page, " ")
    assert orders(page) == ["none", "descending", *["none"] * 4]


def test_classes_are_filtered_by_name(page):
    field = page.find_element("id", "class-filter")
    count = page.find_element("css selector", ".filter output")
    assert count.text == "4 of 4 classes"
    field.send_keys("  B")
    assert sorted(column(page, 0)) == ["Bark", "Bell"] and count.text == "2 of 4 classes"
    page.find_element("css selector", "#class-table thead button").click()
    assert column(page, 0) == ["Bark", "Bell"]
    field.clear()
    field.send_keys("zzz")
    assert column(page, 0) == [] and count.text == "0 of 4 classes"


def test_pictures_and_sounds_load_without_the_network(page):
    widths = page.execute_script(
        "return [...document.images].map((image) => image.complete && image.naturalWidth)"
    )
    assert len(widths) >= 8 and all(widths)
    durations = page.execute_async_script(
        "const done = arguments[0];"
        "Promise.all([...document.querySelectorAll('audio')].map((player) => new Promise((resolve) "
        "=> {"
        "  if (player.readyState) resolve(player.duration);"
        "  player.onloadedmetadata = () => resolve(player.duration);"
        "  player.onerror = () => resolve(player.error.message);"
        "}))).then(done)"
    )
    assert len(durations) == 6 and all(0.3 < seconds < 1.2 for seconds in durations), durations
    names = page.execute_script(
        "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    )
    assert [name for name in names if not name.startswith("data:")] == []


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_is_as_wide_as_the_screen_and_tables_scroll_in_their_boxes(page, width):
    resize(page, width)
    page.find_element("css selector", "summary").click()
    assert page.execute_script("return document.querySelector('details').open")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    boxes = page.execute_script(
        "return [...document.querySelectorAll('.scroll, figure, .example, .facts, audio')]"
        ".map((box) => box.getBoundingClientRect()).map((box) => [box.left, box.right])"
    )
    assert boxes and all(left >= 0 and right <= width for left, right in boxes)


def test_text_can_be_read_in_light_and_dark(page):
    for scheme in ("light", "dark"):
        page.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        background = luminance(style(page, "body", "backgroundColor"))
        assert (background < 0.1) == (scheme == "dark")
        for selector in ("body", ".muted", "a", "caption", "figcaption"):
            text = luminance(style(page, selector, "color"))
            light, dark = max(text, background), min(text, background)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (scheme, selector)  # WCAG 2, level AA


def style(page, selector: str, name: str) -> str:
    return page.execute_script(
        "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]",
        selector,
        name,
    )


def luminance(color: str) -> float:
    """Relative luminance of `rgb(r, g, b)`, as WCAG 2 defines it."""
    channels = [int(channel) / 255 for channel in color.split("(")[1].rstrip(")").split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))
