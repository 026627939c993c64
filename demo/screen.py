"""The demo's terminal: a timeline with a live status line below it, and the final table.

Colour and the status line appear on a terminal only; elsewhere each line is plain text. Lines are
at most COLUMNS wide. Safe to call from several threads.
"""

import os
import sys
import threading
import time

COLUMNS = 100
TIME_WIDTH = 8
LABEL_WIDTH = 13
STYLES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "cyan": "36",
}


class Screen:
    def __init__(self, stream=sys.stdout):
        self._stream = stream
        self._is_terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._has_colour = self._is_terminal and "NO_COLOR" not in os.environ
        self._lock = threading.Lock()
        self._status = ""
        self._started_at = time.time()

    def style(self, text, *names):
        if not self._has_colour or not names:
            return text
        return f"\x1b[{';'.join(STYLES[name] for name in names)}m{text}\x1b[0m"

    def line(self, text="", *styles):
        with self._lock:
            self._clear_status()
            print(self.style(text[:COLUMNS], *styles), file=self._stream, flush=True)
            self._draw_status()

    def heading(self, text):
        self.line()
        head = f"── {text} "
        self.line(head + "─" * (COLUMNS - len(head)), "bold")

    def event(self, label, text, *styles, at=None):
        """One line of the timeline. at: seconds since the epoch; now when left out."""
        seconds = (at or time.time()) - self._started_at
        when = f"{seconds:{TIME_WIDTH - 2}.2f} s"
        self._wrapped(when, label, text, styles)

    def detail(self, label, text):
        """Evidence below an event."""
        self._wrapped("", f"│ {label}", text, ("dim",))

    def status(self, text):
        """Replaces the live line at the bottom."""
        if not self._is_terminal:
            return
        with self._lock:
            self._clear_status()
            self._status = text[: COLUMNS - 1]
            self._draw_status()

    def _wrapped(self, when, label, text, styles):
        indent = TIME_WIDTH + 2 + LABEL_WIDTH + 1
        words, rows = text.split(), [""]
        for word in words:
            if rows[-1] and len(rows[-1]) + 1 + len(word) > COLUMNS - indent:
                rows.append("")
            rows[-1] = f"{rows[-1]} {word}".strip()
        with self._lock:
            self._clear_status()
            for number, row in enumerate(rows):
                head = f"{when:>{TIME_WIDTH}}  " if number == 0 else " " * (TIME_WIDTH + 2)
                name = f"{label:<{LABEL_WIDTH}} " if number == 0 else " " * (LABEL_WIDTH + 1)
                if number > 0 and label.startswith("│"):
                    name = f"{'│':<{LABEL_WIDTH}} "
                body = self.style(name, *styles) + (self.style(row, "dim") if not when else row)
                print(self.style(head, "dim") + body.rstrip(), file=self._stream)
            self._stream.flush()
            self._draw_status()

    def _clear_status(self):
        if self._status:
            self._stream.write("\r\x1b[K")

    def _draw_status(self):
        if self._status:
            self._stream.write(self.style(self._status, "dim"))
            self._stream.flush()

    def close(self):
        with self._lock:
            self._clear_status()
            self._status = ""
            self._stream.flush()


def table(rows, right_aligned_from=2):
    """Rows of text as aligned lines; the first row is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column < right_aligned_from else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines
