"""A page that is shown in a notebook, saved, or opened in a browser, as nilearn's users know it."""

from __future__ import annotations

import os
import tempfile
import webbrowser
from html import escape
from pathlib import Path
from typing import Any

from numbaglm.data.storage.files import write_file
from numbaglm.display.page import page_path
from numbaglm.errors import OutputError, warn

_PIXELS = 800


class HTMLReport:
    """A page of HTML that needs nothing else.

    A notebook shows it in a frame of its own; ``str`` gives the page.

    Parameters
    ----------
    html
        The page.
    width, height
        Of the frame, in pixels.

    Examples
    --------
    >>> from numbaglm.display.html_report import HTMLReport
    >>> str(HTMLReport("<p>Hello</p>"))
    '<p>Hello</p>'
    """

    def __init__(self, html: str, width: int = _PIXELS, height: int = _PIXELS) -> None:
        self.html = html
        self.resize(width, height)

    @property
    def width(self) -> int:
        """Width of the frame in pixels; what is no number becomes 800, with a warning."""
        return self._width

    @width.setter
    def width(self, value: Any) -> None:
        self._width = _pixels("width", value)

    @property
    def height(self) -> int:
        """Height of the frame in pixels; what is no number becomes 800, with a warning."""
        return self._height

    @height.setter
    def height(self, value: Any) -> None:
        self._height = _pixels("height", value)

    @property
    def body(self) -> str:
        """What a notebook shows: the page in a frame."""
        return self.get_iframe()

    def resize(self, width: int, height: int) -> HTMLReport:
        """Give the frame another size in pixels.

        Examples
        --------
        >>> from numbaglm.display.html_report import HTMLReport
        >>> HTMLReport("<p>Hello</p>").resize(1200, 900).width
        1200
        """
        self.width, self.height = width, height
        return self

    def get_standalone(self) -> str:
        """Return the page.

        Examples
        --------
        >>> from numbaglm.display.html_report import HTMLReport
        >>> HTMLReport("<p>Hello</p>").get_standalone()
        '<p>Hello</p>'
        """
        return self.html

    def get_iframe(self, width: int | None = None, height: int | None = None) -> str:
        """Return the page in a frame, to stand in another page.

        Parameters
        ----------
        width, height
            Of the frame in pixels; by default those of this report.

        Examples
        --------
        >>> from numbaglm.display.html_report import HTMLReport
        >>> HTMLReport("Hello").get_iframe(width=400)
        '<iframe srcdoc="Hello" width="400" height="800" style="border: 0; max-width: 100%"></iframe>'
        """
        width, height = (self.width if width is None else width), (self.height if height is None else height)
        inside = escape(self.html, quote=True)
        return (
            f'<iframe srcdoc="{inside}" width="{width}" height="{height}" style="border: 0; max-width: 100%"></iframe>'
        )

    def save_as_html(self, file_name: str | os.PathLike[str]) -> None:
        """Write the page, whole or not at all, in place of what has that name.

        Parameters
        ----------
        file_name
            File to write (.html).

        Raises
        ------
        InputError, OutputError
            The name ends in something else, or the file can't be written.

        Examples
        --------
        >>> from pathlib import Path
        >>> from numbaglm.display.html_report import HTMLReport
        >>> HTMLReport("<p>Hello</p>").save_as_html("hello.html")
        >>> Path("hello.html").read_text()
        '<p>Hello</p>'
        """
        write_file(page_path(file_name), self.html.encode(), "report")

    def open_in_browser(self, file_name: str | os.PathLike[str] | None = None) -> None:
        """Write the page and open it in the user's browser.

        Parameters
        ----------
        file_name
            File to write (.html); by default one in the folder for temporary files, which stays there.

        Raises
        ------
        InputError, OutputError
            As `save_as_html`, or there is no browser to open.

        Examples
        --------
        >>> from unittest.mock import patch
        >>> from numbaglm.display.html_report import HTMLReport
        >>> with patch("webbrowser.open"):  # so that no window opens here
        ...     HTMLReport("<p>Hello</p>").open_in_browser("hello.html")
        """
        if file_name is None:
            handle, file_name = tempfile.mkstemp(prefix="numbaglm-", suffix=".html")
            os.close(handle)
        self.save_as_html(file_name)
        target = Path(file_name).expanduser().resolve()
        if not webbrowser.open(target.as_uri()):
            raise OutputError(f"No browser could be opened. The report is there all the same: {target}.")

    def __str__(self) -> str:
        return self.html

    def _repr_html_(self) -> str:
        return self.body


def _pixels(name: str, value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        warn(f"Invalid {name} {value!r}: it must be a number of pixels. Using default instead: {_PIXELS}.")
        return _PIXELS
