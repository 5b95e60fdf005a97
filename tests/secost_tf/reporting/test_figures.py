import numpy as np
import pytest

from secost_tf.evaluation.intervals import mean_interval
from secost_tf.reporting import figures
from tfrecord_tools import plots


def lines(axis) -> dict[str, list[float]]:
    return {line.get_label(): list(line.get_ydata()) for line in axis.get_lines()}


def test_stages_have_means_intervals_and_every_seed():
    curve = np.array([[0.4, 0.5, 0.6], [0.5, 0.7, 0.7]])
    figure = figures.stages_figure(
        {"one": curve, "two": curve[:, :2] + 0.1}, {"long": np.array([0.45, 0.55])}
    )
    axis = figure.axes[0]
    drawn = lines(axis)
    assert drawn["one"] == pytest.approx([0.45, 0.6, 0.65])
    assert drawn["two"] == pytest.approx([0.55, 0.7])
    assert drawn["long"] == pytest.approx([0.5, 0.5])
    dots = [line for line in axis.get_lines() if line.get_marker() == "."]
    assert sum(len(line.get_ydata()) for line in dots) == 6 + 4
    band = axis.collections[0].get_paths()[0].vertices[:, 1]
    interval = mean_interval(curve[:, 0])
    assert (band.min() <= interval.low) and band.max() >= interval.high
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["0", "1", "2"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("stage", "mAP")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two", "long"]


def test_one_seed_has_a_line_alone():
    axis = figures.stages_figure({"one": np.array([[0.4, 0.5]])}).axes[0]
    assert len(axis.get_lines()) == 1 and not axis.collections and not axis.figure.legends


def test_alphas_run_from_the_labels_to_the_teacher():
    axis = figures.alpha_figure(
        [0.0, 0.5, 1.0], np.array([[0.3, 0.2, 0.1], [0.5, 0.4, 0.3]]), np.array([0.1, 0.2])
    ).axes[0]
    line = axis.get_lines()[0]
    assert list(line.get_xdata()) == [0.0, 0.5, 1.0]
    assert list(line.get_ydata()) == pytest.approx([0.2, 0.3, 0.4])
    assert lines(axis)["stage 0"] == pytest.approx([0.15, 0.15])
    assert "1 − α" in axis.get_xlabel() and axis.get_ylabel() == "mAP"


def test_calibration_and_ranges_say_their_figures():
    axis = figures.calibration_figure(
        {"stage 0": (np.array([0.1, 0.9]), np.array([0.2, 0.6]), 0.2)}
    ).axes[0]
    assert "stage 0: error 0.2000" in lines(axis)
    axis = figures.ranges_figure(["0 to 0.1", "0.1 to 0.2"], [0.05, -0.02], [3, 4]).axes[0]
    assert [bar.get_height() for bar in axis.patches] == [0.05, -0.02]
    assert [text.get_text() for text in axis.texts] == ["3", "4"]


def test_files_are_the_same_each_time():
    def draw():
        return figures.gain_figure(np.array([-0.1, 0.0, 0.2]))

    assert plots.to_svg(draw()) == plots.to_svg(draw())
    assert plots.to_png(draw())[:8] == b"\x89PNG\r\n\x1a\n" and plots.to_png(
        draw()
    ) == plots.to_png(draw())
