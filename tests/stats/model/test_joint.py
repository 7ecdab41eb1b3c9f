import numpy as np
import pytest

from numbaglm.errors import InputError
from numbaglm.stats.conventions import CONVENTIONS
from numbaglm.stats.model.design import Contrast, Design
from numbaglm.stats.model.joint import make_joint
from numbaglm.stats.model.setup import build_hypothesis


def hypothesis(contrast, **variance):
    design = Design.parse(np.column_stack([np.arange(10) % 3 == k for k in range(3)]).astype(float), 10)
    parsed = Contrast.parse(contrast, design)
    shuffling = {"n_perm": 20, "seed": 0, "errors": None, "blocks": None, "block_scheme": "within"}
    return build_hypothesis(design, parsed, [parsed], "freedman-lane", shuffling, variance)[1]


def joint(combine, contrast, **given):
    options = {"others": ("b",), "two_sided": True, "concordant": False, "weights": None}
    return make_joint([hypothesis(contrast)], combine, conventions=CONVENTIONS["numbaglm"], **(options | given))


def test_every_variable_has_the_rows_of_one_and_its_effects():
    found = joint("wilks", [[1, -1, 0], [0, 1, -1]])
    assert [layer.rows.shape for layer in found.family.layers] == [(2, 10)] * 2
    assert found.effect.shape == (4, 10)
    assert found.family.needs == ("b",)


def test_what_has_no_algebra_is_refused_by_name():
    with pytest.raises(InputError, match="for F contrasts"):
        joint("hotelling", [[1, -1, 0], [0, 1, -1]])
    with pytest.raises(InputError, match="cca to cca1"):
        joint("cca2", [1, -1, 0])
    with pytest.raises(InputError, match="neither weights nor signs"):
        joint("pillai", [1, -1, 0], weights=np.ones(2))
    with pytest.raises(InputError, match="8 variables are too many for 7 residual"):
        joint("pillai", [1, -1, 0], others=tuple("bcdefgh"))
