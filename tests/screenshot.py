"""A picture of a page, for the README or to look at.

python3 -m tests.screenshot PAGE.html OUT.png [--keys rrkr] [--size 1280 760] [--dark]
"""

from __future__ import annotations

import argparse
import base64
import io
import time
from pathlib import Path

from PIL import Image

from tests.browser import chromium, resize, show

LIGHT, COARSE = 224, 0xF8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--keys", default="", help="pressed one after the other before the picture is taken")
    parser.add_argument("--size", type=int, nargs=2, default=(1280, 760), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--dark", action="store_true")
    args = parser.parse_args()
    with chromium(Path.cwd()) as browser:
        resize(browser, *args.size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if args.dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        browser.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
        show(browser, args.page)
        for key in args.keys:
            browser.switch_to.active_element.send_keys(key)
        time.sleep(0.5)  # until the last pictures are decoded
        png = base64.b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"])
    with Image.open(io.BytesIO(png)) as image:
        # Photographs compress badly: their dark tones get fewer steps, the page's light grounds stay as they are.
        image.convert("RGB").point(lambda v: v if v >= LIGHT else v & COARSE).save(args.out, optimize=True)
    print(f"{args.out}: {args.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
