import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbaglm.errors import ContrastError
from numbaglm.stats.model.contrasts import linear_weights

COLUMNS = ["intercept", "age", "age:group[b]", "visit[b]:group[c]", "center(age - 1)", "co morbid", "a-b", "x1", "x10"]
UNIT = dict(zip(COLUMNS, np.eye(len(COLUMNS)), strict=True))


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("age", {"age": 1}),
        ("a-b", {"a-b": 1}),  # the column, as it is one
        ("co morbid", {"co morbid": 1}),
        ("`co morbid` - `a-b`", {"co morbid": 1, "a-b": -1}),
        ("'co morbid' + \"age\"", {"co morbid": 1, "age": 1}),
        ("age - age:group[b]", {"age": 1, "age:group[b]": -1}),
        ("visit[b]:group[c]*2-center(age - 1)", {"visit[b]:group[c]": 2, "center(age - 1)": -1}),
        ("-(age + x1) / 2 + 3*x10", {"age": -0.5, "x1": -0.5, "x10": 3}),
        ("--age - -x1", {"age": 1, "x1": 1}),
        ("age * (1 + .5e1) / 3", {"age": 2}),
        ("2 * 3 * age + 1 - 1", {"age": 6}),
        ("  age\t", {"age": 1}),
    ],
)
def test_sums_of_columns(text, weights):
    np.testing.assert_allclose(linear_weights(text, COLUMNS), sum(w * UNIT[name] for name, w in weights.items()))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("weight", "'weight' is no column"),
        ("age2", "'age2' is no column"),
        ("age + 1", "adds the number 1"),
        ("1", "adds the number 1"),
        ("age * x1", "multiplies columns"),
        ("age / x1", "divides by a column"),
        ("age / 0", "by 0"),
        ("age ** 2", "is no column"),
        ("age > 0", "comes where"),
        ("age x1", "comes where"),
        ("(age", "not closed"),
        ("age -", "ends where"),
        ("", "ends where"),
        ("(" * 60 + "age" + ")" * 60, "too deep"),
        ("age+" * 5000 + "age", "20,003 letters"),
    ],
)
def test_refusals(text, why):
    with pytest.raises(ContrastError, match=why):
        linear_weights(text, COLUMNS)


@pytest.mark.parametrize(
    "text",
    [
        "age.to_csv('FILE')",
        "@pd.io.common.os.system('touch FILE')",
        "age.to_csv('FILE') + x1",
        "__import__('os').system('touch FILE')",
        "open('FILE', 'w')",
        "age[open('FILE', 'w')]",
        "@__builtins__",
        "exit()",
        "age.__class__",
        "(lambda: age)()",
        "age if age else x1",
    ],
)
def test_nothing_of_a_contrast_is_run(tmp_path, text):
    file = tmp_path / "written"
    with pytest.raises(ContrastError):
        linear_weights(text.replace("FILE", str(file)), COLUMNS)
    assert not file.exists()


@given(st.lists(st.tuples(st.integers(-9, 9), st.sampled_from(["intercept", "age", "x1", "x10"])), min_size=1))
def test_the_weights_are_those_that_python_computes(terms):
    text = " + ".join(f"{weight} * {name}" for weight, name in terms)
    expected = eval(text, {"__builtins__": {}}, UNIT)
    np.testing.assert_array_equal(linear_weights(text, COLUMNS), expected)


@given(st.text(alphabet="ab1 .+-*/()[]`'\"@:_", max_size=30))
def test_any_text_is_read_or_refused(text):
    try:
        found = linear_weights(text, ["a", "b[1]"])
    except ContrastError:
        return
    assert found.shape == (2,)


def test_as_pandas_reads_it():
    names = ["a", "b", "c"]
    unit = pd.DataFrame(np.eye(3), columns=names)
    for text in ("(a + b) / 2 - c", "a - (b - c) * 3", "-a + 2 * -b", "a / 4 / 2"):
        np.testing.assert_allclose(linear_weights(text, names), unit.eval(text, engine="python"))


def test_messages_list_no_more_columns_than_one_reads():
    columns = ["a" * 5000, *(f"c{number}" for number in range(10**5))]
    with pytest.raises(ContrastError, match=r"'c18'\] and 99,981 more") as caught:
        linear_weights("age", columns)
    assert len(str(caught.value)) < 1000
