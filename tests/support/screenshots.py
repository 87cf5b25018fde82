"""Pictures of the running platform for the README: `python -m tests.support.screenshots`.

Needs a running platform with the demo's runs in it, and Debian's chromium at /usr/bin/chromium.
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from tasks.services import addresses
from tasks.settings import REPOSITORY, load_settings

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
PAGES = {"airflow": "/dags/flight_delays__score"}


def main(folder: Path) -> None:
    """Sign in and take a picture of each page."""
    where = addresses(load_settings())
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(where.airflow)
        page.fill("input[name=username]", where.user)
        page.fill("input[name=password]", where.password)
        page.keyboard.press("Enter")
        page.wait_for_url("**/", timeout=30_000)
        for name, path in PAGES.items():
            page.goto(where.airflow + path)
            page.wait_for_load_state("networkidle")
            page.wait_for_timeout(2500)
            page.screenshot(path=folder / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / "docs" / "images")
