import webbrowser

import pytest

from numbaglm.display.html_report import HTMLReport
from numbaglm.errors import (
    OutputError,
)


def test_a_report_opens_in_a_browser(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    report = HTMLReport("<p>Hello</p>")
    report.open_in_browser()
    (target,) = tmp_path.iterdir()
    assert opened == [target.as_uri()]
    assert target.read_text() == "<p>Hello</p>"
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    with pytest.raises(OutputError, match=r"there all the same: .*own\.html"):
        report.open_in_browser(tmp_path / "own.html")


def test_a_page_stands_in_a_frame_as_text():
    report = HTMLReport("<p class='a'>1 & \"2\"</p>", width=300)
    frame = report.get_iframe(height=50)
    assert 'srcdoc="&lt;p class=&#x27;a&#x27;&gt;1 &amp; &quot;2&quot;&lt;/p&gt;"' in frame
    assert 'width="300" height="50"' in frame
    assert report.body == report._repr_html_() == report.get_iframe(300, 800)
    assert str(report) == report.get_standalone() == report.html


def test_what_is_no_size_is_told_and_becomes_the_usual_one():
    report = HTMLReport("")
    assert (report.resize("640", 480.9).width, report.height) == (640, 480)
    with pytest.warns(UserWarning, match="Invalid height None.*800"):
        report.height = None
    assert report.height == 800
