import click
import pytest

from numbaglm.faces.palm.flags import FLAGS, REFUSED, read_words


def test_a_flag_takes_the_words_behind_it_up_to_the_next():
    typed = read_words(["-i", "a.nii", "-i", "b.nii", "-s", "lh.white", "1", "-T", "-C", "2.3", "-mv"])
    assert typed.files("-i") == ("a.nii", "b.nii")
    assert typed.all("-s") == [("lh.white", "1")]
    assert typed.word("-C") == "2.3"
    assert "-T" in typed
    assert (typed.words("-mv"), typed.word("-mv"), typed.word("-o")) == ((), None, None)


def test_a_number_below_0_is_no_flag():
    assert read_words(["-conskipcount", "-1"]).word("-conskipcount") == "-1"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.nii"], "Got 'a.nii' where a flag would come"),
        (["-corrmodd"], "There is no flag -corrmodd. Did you mean -corrmod"),
        (["-zzzzzzzzz"], "There is no flag -zzzzzzzzz. 'numbaglm palm --help' has all"),
        (["-n", "1", "2"], "Got '-n 1 2'. Allowed: -n NUMBER"),
        (["-T", "2"], "Got '-T 2'. Allowed: -T"),
        (["-i"], "Allowed: -i FILE"),
        (["-n", "1", "-n", "2"], "-n is there 2 times"),
        (["-inormal", "quanti"], "PALM's -inormal is not supported: transform the maps first"),
    ],
)
def test_what_is_typed_wrong_is_told(words, message):
    with pytest.raises(click.UsageError, match=message):
        read_words(words)


def test_a_flag_works_or_is_refused():
    assert not set(FLAGS) & set(REFUSED)
    assert all(flag.metavar or flag.values == (0, 0) for flag in FLAGS.values())
