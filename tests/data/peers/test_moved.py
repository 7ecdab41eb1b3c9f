from pathlib import Path

from numbaglm.data.peers.moved import find_again, parts_of


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return [str(root / name) for name in names]


NAMES = ("study/s01/con_0001.nii", "study/s02/con_0001.nii")


def test_paths_of_all_systems_are_taken_apart():
    assert parts_of("/home/me/a b/c.nii") == ("home", "me", "a b", "c.nii")
    assert parts_of(r"D:\study\s01\con_0001.nii") == ("D:", "study", "s01", "con_0001.nii")
    assert parts_of("D:/study/s01/c.nii") == ("D:", "study", "s01", "c.nii")
    assert parts_of(r"\\server\share\c.nii") == ("server", "share", "c.nii")


def test_files_that_stayed_are_where_they_were(tmp_path):
    recorded = make(tmp_path, *NAMES)
    found = find_again(recorded, [tmp_path / "elsewhere"])
    assert (found.rule, [str(file) for file in found.files]) == ("", recorded)


def test_a_moved_folder_is_found_from_the_design_s(tmp_path):
    make(tmp_path, *NAMES, "study/group/one/SPM.mat")
    recorded = [f"/gone/away/{name}" for name in NAMES]
    found = find_again(recorded, [tmp_path / "study" / "group" / "one"])
    assert [file.relative_to(tmp_path).as_posix() for file in found.files] == list(NAMES)
    assert found.rule == f"gone/away is now {tmp_path}"
    windows = ["D:\\away\\" + name.replace("/", "\\") for name in NAMES]
    assert find_again(windows, [tmp_path / "study" / "group" / "one"]).files == found.files


def test_compressed_files_count(tmp_path):
    make(tmp_path, *(f"{name}.gz" for name in NAMES))
    found = find_again([f"/x/{name}" for name in NAMES], [tmp_path])
    assert [file.name for file in found.files] == ["con_0001.nii.gz"] * 2


def test_files_of_one_name_are_not_taken_for_another(tmp_path):
    """Two subjects' con_0001.nii never become one file that lies about."""
    make(tmp_path, "con_0001.nii", "s01/con_0001.nii")
    found = find_again([f"/x/{name}" for name in NAMES], [tmp_path])
    assert found.n_missing == 1
    assert [file and file.name for file in found.files] == ["con_0001.nii", None]


def test_a_named_folder_wins_over_where_they_were(tmp_path):
    recorded = make(tmp_path, *NAMES)
    make(tmp_path / "copy", *NAMES)
    found = find_again(recorded, [tmp_path / "copy"], as_recorded=False)
    assert found.files[0] == Path(tmp_path / "copy" / NAMES[0])
