import numpy as np

from numbaglm.kernels.tables import DEGREE, SPLIT, lines, looked_up, polynomial

NODES = 64


def tabled(function, at):
    """Values and slopes a step, of a polynomial, which cubic curves follow exactly up to the third power."""
    step = at[1] - at[0]
    return np.column_stack([np.polyval(function, at), np.polyval(np.polyder(function), at) * step]).ravel()


def test_each_table_is_read_where_it_belongs():
    inner, far, near = [2.0, -1.0, 0.5, 3.0], [0.1, 0.2, 1.0], [0.3, -2.0]
    left = np.linspace(np.log(1 - SPLIT**2), np.log(1e-14), NODES)
    for signed in (True, False):
        lowest = -SPLIT if signed else 1 - SPLIT
        third = left if signed else np.linspace(np.log(lowest), np.log(1e-8), NODES)
        tables = np.concatenate(
            [[7.0], tabled(inner, np.linspace(lowest, SPLIT, NODES)), tabled(far, left), tabled(near, third)]
        )
        for r in (0.11, 0.5, 0.9, 0.95, 1 - 1e-12, 1.0, 0.01, 1e-9, -0.3, -0.97):
            if signed or r > 0:
                inside = np.log(max(1 - r * r, 1e-14)) if signed or r > SPLIT else np.log(max(r, 1e-8))
                expected = (inner, r) if lowest <= r <= SPLIT else (far if r > SPLIT else near, inside)
                np.testing.assert_allclose(looked_up(r, tables, 1, NODES, signed), np.polyval(*expected), rtol=1e-9)
    assert np.isnan(looked_up(np.nan, tables, 1, NODES, True))


def test_polynomials_are_of_the_size_of_correlations():
    coefficients = np.random.default_rng(0).normal(size=DEGREE + 1)
    r, constants = np.append(np.linspace(-0.8, 0.8, 101), np.nan), np.concatenate([[7.0], coefficients])
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-5)):
        out = np.empty(r.size, dtype)
        polynomial(r.astype(dtype), constants.astype(dtype), 1, dtype(2.5), dtype(1.2), out)
        expected = np.polyval(coefficients[::-1], np.abs(r) * 2.5 - 1.2)
        np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance)


def test_lines_are_straight_between_nodes_and_go_on_beyond_them():
    values = np.random.default_rng(0).normal(size=NODES)
    at = np.linspace(-0.5, 0.75, NODES)
    constants = np.concatenate([[7.0], np.column_stack([values, np.append(np.diff(values), 0.0)]).ravel()])
    r = np.array([-0.5, -0.31, 0.0, 0.2, at[9], 0.749, np.nan])
    out = np.empty(r.size)
    lines(r, constants, 1, NODES, -0.5, (NODES - 1) / 1.25, out)
    np.testing.assert_allclose(out, np.interp(r, at, values), rtol=1e-9, atol=1e-12)
