import pytest
from click.testing import CliRunner

from numbaglm.faces.commands import commands
from numbaglm.faces.palm.flags import FLAGS, REFUSED


def run(*words):
    return CliRunner().invoke(commands, ["palm", *words])


@pytest.mark.parametrize("words", [(), ("--help",), ("-i", "a.nii", "-help")])
def test_help_has_every_flag(words):
    out = run(*words)
    assert out.exit_code == 0
    for name in (*FLAGS, *REFUSED):
        assert name in out.output


def test_what_is_typed_wrong_ends_with_2_and_what_can_not_be_done_with_1(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrong = run("-corrmodd")
    assert (wrong.exit_code, "Did you mean -corrmod" in wrong.stderr) == (2, True)
    lacking = run("-i", "a.nii", "-d", "d.csv", "-t", "t.csv")
    assert lacking.exit_code == 1
    assert "a.nii" in lacking.stderr
    assert "Traceback" not in lacking.stderr
