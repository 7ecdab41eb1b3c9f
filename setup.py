"""What package indexes show: the README without the links and pictures that lead nowhere from there.

All else stands in pyproject.toml.
"""

from __future__ import annotations

import re
from pathlib import Path

_REMARK = re.compile(r"<!--.*?-->\n?", re.DOTALL)
_PICTURE = re.compile(r"!\[[^\]]*\]\((?!https?:)[^)]*\)\n*")
_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:)[^)]*\)")


def described(readme: str) -> str:
    """Text of a README whose relative links are words, and whose relative pictures are left out."""
    return _LINK.sub(r"\1", _PICTURE.sub("", _REMARK.sub("", readme)))


if __name__ == "__main__":
    from setuptools import setup

    readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    setup(long_description=described(readme), long_description_content_type="text/markdown")
