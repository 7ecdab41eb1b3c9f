"""What users of release 0.1 may have written goes on working: imports, parameters, and options of commands."""

import json
from pathlib import Path

import pytest

import same
import same_public
from same_expected import EXPECTED

HERE = Path(__file__).parent
RELEASED = json.loads((HERE / "data" / "public_0.1.json").read_text(encoding="utf-8"))
NOW = {"names": same_public.names(), "commands": same_public.commands(HERE.parent)}


def lost(name, now):
    """What is gone or another, but for what is told in the table of expected differences."""
    old, new = ({f"{name}.json": json.dumps(told)} for told in (RELEASED[name], now))
    return same.judge(same.CALLS["public"], old, new, EXPECTED["0.1.0"])


@pytest.mark.parametrize("name", ["names", "commands"])
def test_nothing_that_users_may_have_written_is_lost(name):
    found = lost(name, NOW[name])
    assert found.passes, found.text


@pytest.mark.parametrize(
    ("name", "path", "value", "told"),
    [
        ("names", ["numbaglm.permutation_test"], None, "gone"),
        ("names", ["numbaglm.permutation_test", "parameters", "n_perm"], None, "gone"),
        ("names", ["numbaglm.permutation_test", "parameters", "n_perm", "default"], "5", "is '5'"),
        ("names", ["numbaglm.permutation_test", "parameters", "contrast", "place"], "7", "is '7'"),
        ("names", ["numbaglm.permutation_test", "needed"], "maps, more", "is 'maps, more'"),
        ("names", ["numbaglm.Cohort", "append"], None, "gone"),
        ("names", ["numbaglm.errors.InputError", "is a", "ValueError"], None, "gone"),
        ("commands", ["permute"], None, "gone"),
        ("commands", ["permute", "options", "--seed"], None, "gone"),
        ("commands", ["permute", "options", "--seed", "default"], "5", "is '5'"),
        ("commands", ["permute", "needed", ""], "output, seed", "is 'output, seed'"),
        ("commands", ["permute", "options", "--errors", "choices", "ise"], None, "gone"),
    ],
)
def test_what_is_lost_is_found(name, path, value, told):
    now = json.loads(json.dumps(NOW[name]))
    inner = now
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    found = lost(name, now)
    assert not found.passes
    assert ":".join(path) in found.text
    assert told in found.text
