import logging
import os

import numpy as np
import pandas as pd
import pytest

from numbaglm.data.tables import read_lines, read_table
from numbaglm.errors import InputError, MissingFileError

EXPECTED = pd.DataFrame({"participant_id": ["01", "02", "03"], "age": [20.5, np.nan, 40.0], "group": ["a", "b", "a"]})
PLAIN = "participant_id,age,group\n01,20.5,a\n02,n/a,b\n03,40,a\n"


def write(folder, text, name="table.csv"):
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.rstrip("\n"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.encode("utf-16"),
        PLAIN.replace("\n", ",\n"),  # separators that end lines, the header's too
        PLAIN.replace("\n0", ",\n0").replace("40,a", "40,a,"),  # of the rows alone
        PLAIN.replace(",", " , "),
        PLAIN.replace("\n", "\n\n") + ",,\n,,\n",
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", ";").replace("20.5", "20,5"),
        PLAIN.replace(",", "\t"),
        '"participant_id","age","group"\n"01","20.5","a"\n"02","","b"\n"03","4e1","a"\n',
    ],
)
def test_one_table_whatever_wrote_it(tmp_path, text):
    pd.testing.assert_frame_equal(read_table(write(tmp_path, text), "covariates"), EXPECTED, check_dtype=False)


def test_endings_in_capitals_and_tabs(tmp_path):
    file = write(tmp_path, PLAIN.replace(",", "\t"), "TABLE.TSV")
    pd.testing.assert_frame_equal(read_table(file, "covariates"), EXPECTED, check_dtype=False)


def test_a_trailing_delimiter_moves_no_column(tmp_path):
    table = read_table(write(tmp_path, "age,iq,site\n20,100,1,\n30,110,0,\n"), "covariates")
    assert table.to_dict("list") == {"age": [20, 30], "iq": [100, 110], "site": [1, 0]}


def test_row_names_of_R_are_a_column_without_a_name(tmp_path):
    table = read_table(write(tmp_path, '"age"\n"s1",20\n"s2",30\n'), "covariates")
    assert table.to_dict("list") == {"Unnamed: 0": ["s1", "s2"], "age": [20, 30]}


@pytest.mark.parametrize("word", ["NA", "None", "null", "NaN"])
def test_words_that_are_names_of_groups(tmp_path, caplog, word):
    text = f"group,age,iq\n{word},1,{word}\nEU,2,3\n{word},3,4\n,4,5\nn/a,5,6\n"
    with caplog.at_level(logging.WARNING, logger="numbaglm"):
        table = read_table(write(tmp_path, text), "covariates")
    assert table["group"].tolist()[:3] == [word, "EU", word]
    assert table["group"].isna().tolist() == [False, False, False, True, True]
    assert table["iq"].isna().tolist() == [True, False, False, False, False]  # among numbers it is no value
    assert f"'{word}' in column 'group'" in caplog.text
    assert "column 'iq'" not in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "The file is empty"),
        ("\n\n", "The file is empty"),
        ("age,iq\n1,2\n3\n", "1 values in line 3, for 2 names"),
        ("age,iq\n1,2\n3,4,5\n", "3 values in line 3, for 2 names"),
        ("age,age\n1,2\n", "age more than once"),
        ("mass;x\n1,234;1\n2,345;2\n", "'1,234' in column 'mass'.*decimal point"),
        (b"age\n\xe9\n", "text in UTF-8"),
        ("age\n\0\n", "a byte of 0"),
    ],
)
def test_refusals_name_what_is_wrong(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_table(write(tmp_path, text), "covariates")


def test_what_is_no_table_of_ours(tmp_path):
    with pytest.raises(InputError, match="Save the sheet as tab-separated text"):
        read_table(write(tmp_path, "x", "old.xls"), "covariates")
    with pytest.raises(InputError, match="tab-separated text"):  # no spreadsheet, with openpyxl or without
        read_table(write(tmp_path, "x", "new.xlsx"), "covariates")
    with pytest.raises(MissingFileError, match="does not exist"):
        read_table(tmp_path / "nowhere.csv", "covariates")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.csv")
        with pytest.raises(InputError, match="no folder, pipe or device"):
            read_table(tmp_path / "pipe.csv", "covariates")


def test_a_spreadsheet(tmp_path):
    pytest.importorskip("openpyxl")
    EXPECTED.to_excel(tmp_path / "table.xlsx", index=False)
    pd.testing.assert_frame_equal(read_table(tmp_path / "table.xlsx", "covariates"), EXPECTED, check_dtype=False)


def test_numbers_are_what_pandas_reads(tmp_path):
    values = np.random.default_rng(0).normal(size=200)
    pd.DataFrame({"x": values, "k": range(200), "flag": [True, False] * 100}).to_csv(tmp_path / "t.csv", index=False)
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv", "covariates"), pd.read_csv(tmp_path / "t.csv"))


def test_lists(tmp_path):
    assert read_lines(write(tmp_path, b"\xef\xbb\xbfa.nii\r\n# no\r\n\r\n b.nii \r\n", "maps.txt"), "MAPS") == [
        "a.nii",
        "b.nii",
    ]
