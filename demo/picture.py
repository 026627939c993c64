"""Draws what a run of the demo left on a terminal as an SVG: demo/picture.py RECORDED OUT.svg

RECORDED is the output of script(1), colours and all; ./dev picture makes it. The picture names no font
file and no address, so it looks the same where nothing can be fetched.
"""

import re
import sys

from rich.console import Console
from rich.text import Text

COLUMNS = 102  # the demo's own width, and a margin
FONT = "DejaVu Sans Mono, Menlo, Consolas, monospace"
# What the live line at the bottom leaves: it is drawn over again and again, and not part of the story.
LIVE_LINE = re.compile(r"\x1b\[2m[^\n\x1b]*\x1b\[0m\r\x1b\[K|\r\x1b\[K")


def story(recorded):
    """The lines that stay, without those of script(1) and of what came before the demo."""
    text = LIVE_LINE.sub("", recorded.replace("\r\n", "\n"))
    start = text.index("Remora heals an agent before your eyes")
    start = text.rindex("\n", 0, start) + 1 if "\n" in text[:start] else 0
    end = text.find("\nScript done")
    return text[start : end if end >= 0 else len(text)].strip("\n")


def without_fonts(svg):
    """Rich asks a public server for its font; a picture in a README shouldn't."""
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return re.sub(r"font-family: ?(Fira Code|arial)[^;]*;", f"font-family: {FONT};", svg)


def main():
    recorded, out = sys.argv[1:]
    with open(recorded, encoding="utf-8", errors="replace", newline="") as file:
        lines = story(file.read())
    console = Console(record=True, width=COLUMNS, file=sys.stderr, force_terminal=True, quiet=False)
    with open("/dev/null", "w", encoding="utf-8") as nowhere:
        console.file = nowhere
        console.print(Text.from_ansi(lines), soft_wrap=True)
    with open(out, "w", encoding="utf-8") as file:
        file.write(without_fonts(console.export_svg(title="./dev demo", unique_id="remora-demo")))


if __name__ == "__main__":
    main()
