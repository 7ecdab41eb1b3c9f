import numpy as np

from numbaglm import plotting


def test_the_critical_value_is_the_one_to_exceed():
    figure = plotting.null_histograms({"max_t": np.arange(1.0, 101.0)}, {"max_t": 100.0}, alpha=0.05)
    # 96 is reached by 5 of 100 shufflings: p = 0.05. 95 by 6 of them.
    assert [line.get_xdata()[0] for line in figure.axes[0].lines] == [95.0, 100.0]
    assert figure.axes[0].get_xlabel() == "maximum t"
    # Ten shufflings can't reach 0.05.
    few = plotting.null_histograms({"mine": np.arange(10.0)}, {"mine": 9.0}, alpha=0.05)
    assert len(few.axes[0].lines) == 1


def test_a_null_far_below_what_was_observed_is_still_seen():
    null = np.r_[900.0, np.zeros(10), np.repeat(np.arange(1.0, 31.0), 10)]
    (axes,) = plotting.null_histograms({"max_size": null}, {"max_size": 900.0}).axes
    assert axes.get_xscale() == "log"
    assert "not drawn: 10 at 0" in [text.get_text() for text in axes.texts]
    left, right = np.log(axes.get_xlim())
    assert (np.log(30) - left) / (right - left) > 0.4, "the null has room"
    near = plotting.null_histograms({"max_size": null}, {"max_size": 20.0}).axes[0]
    assert near.get_xscale() == "linear"
    assert near.get_xlim()[1] < 40
    assert "not drawn: 1 above" in near.texts[0].get_text()
