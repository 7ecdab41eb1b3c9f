import re

import pytest

from numbaglm.results import vocabulary
from numbaglm.results.bids.names import stem_of
from numbaglm.results.vocabulary import COLUMNS, CONTENTS, EVERY_TABLE, MAPS, NULLS, UNKNOWN, map_of, write_readme

TABLES = {"maps": MAPS, "nulls": NULLS, "columns": COLUMNS}
EVERY = [pytest.param(one, id=f"{kind}-{one.name}") for kind, table in TABLES.items() for one in table.values()]


@pytest.mark.parametrize("one", EVERY)
def test_every_quantity_says_what_it_is(one):
    assert one.sentence
    assert not one.sentence.endswith(".")
    assert one.label
    assert len(one.title) <= 60  # there is room for no more above a picture, or in a menu


@pytest.mark.parametrize("table", TABLES)
def test_no_two_have_the_same_words(table):
    labels = [one.label for one in TABLES[table].values() if not one.name.endswith(("_lower", "_upper"))]
    sentences = [one.sentence for one in TABLES[table].values()]
    assert len(set(labels)) == len(labels)
    assert len(set(sentences)) == len(sentences)
    assert all(name == one.name for name, one in TABLES[table].items())


def test_every_map_has_a_legal_bids_name_of_its_own():
    stems = {
        f"{stem_of({'space': 'MNI', 'run': '1'}, contrast='age', stat=one.stat, desc=one.desc)}_{one.suffix}"
        for one in MAPS.values()
    }
    assert len(stems) == len(MAPS) > 50
    for stem in stems:
        legal = r"space-MNI_contrast-age(_stat-[0-9a-zA-Z]+)?(_desc-[0-9a-zA-Z]+)?_(statmap|dseg)"
        assert re.fullmatch(legal, stem)
    assert (MAPS["f"].stat, MAPS["f"].desc) == ("F", "")
    assert (MAPS["logp_fwe_tfce"].stat, MAPS["logp_fwe_tfce"].desc) == ("logp", "fweTfce")
    assert (MAPS["p_unc_lower"].stat, MAPS["p_unc_lower"].desc) == ("p", "uncLower")


def test_loadings_are_known_by_the_names_of_modalities():
    one = map_of("loading_cortical thickness-2")
    assert "loading of cortical thickness-2" in one.sentence
    assert (one.stat, one.desc) == ("loading", "corticalThickness2")
    for file in ("loading_a b.nii.gz", "lh.loading_a b.mgh", "loading_a b_hemi-L.func.gii", "loading_a b.dscalar.nii"):
        assert vocabulary.parse_file(file)[0] == "loading_a b"
    for name in ("loading_", "loading_a/b", "loading_a\\b", "loading_a\n", f"loading_{'a' * 300}"):
        assert not vocabulary.is_loading(name)
        with pytest.raises(vocabulary.UnknownNameError):
            map_of(name)


def test_every_p_has_what_goes_with_it():
    for name in [name for name in MAPS if vocabulary.with_log(name)]:
        assert MAPS[f"log{name}"].intent == "log10 p value"
        assert MAPS[f"{name}_lower"].intent == MAPS[f"{name}_upper"].intent == MAPS[name].intent == "p value"
    assert not vocabulary.with_log("p_unc_lower")
    assert not vocabulary.with_log("effect")
    for name in EVERY_TABLE:
        assert name in COLUMNS
    with pytest.raises(vocabulary.UnknownNameError, match="'nothing'"):
        map_of("nothing")


def test_every_statistic_has_its_map_and_its_null():
    for statistic, null in vocabulary.STATISTICS.items():
        assert statistic in MAPS
        assert null in NULLS


def test_every_file_of_a_map_is_told_of():
    assert all(CONTENTS[one.file] == one.sentence for one in MAPS.values())
    assert vocabulary.label_of_null("max_t") == "maximum t"
    assert vocabulary.label_of_null("of one's own") == "of one's own"


def test_the_readme_lists_every_file_once_and_equal_ones_together(tmp_path):
    for name in ("t.nii.gz", "maps/sub-01.nii.gz", "maps/sub-02.nii.gz", "cohort.zarr/data", "odd.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    write_readme(tmp_path, "Title", "Text.")
    lines = (tmp_path / "README.md").read_text().splitlines()
    assert lines[:3] == ["# Title", "", "Text."]
    assert lines[6:] == [
        "- `README.md`: this page",
        f"- `cohort.zarr`: {CONTENTS['cohort.zarr']}",
        f"- `odd.bin`: {UNKNOWN}",
        "- `t.nii.gz`: t statistic",
        "- `maps/sub-*.nii.gz`: a map for each subject",
    ]
