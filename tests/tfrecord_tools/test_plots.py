import numpy as np
import pytest
from matplotlib.figure import Figure

from tfrecord_tools.log_mel import LogMelConfig, hertz_to_mel, mel_to_hertz
from tfrecord_tools.plots import band_of, draw_log_mel


def test_band_of_a_frequency():
    """The centres of the first and the last band, from the same edges as the mel matrix."""
    config = LogMelConfig()
    edges = np.linspace(hertz_to_mel(50), hertz_to_mel(8000), 66)
    assert band_of(mel_to_hertz(edges[1]), config) == pytest.approx(0)
    assert band_of(mel_to_hertz(edges[64]), config) == pytest.approx(63)


def test_axes_are_in_seconds_and_hertz():
    config = LogMelConfig(mel_bins=32)
    axis = Figure().subplots()
    log_mel = np.arange(200 * 32, dtype=np.float32).reshape(200, 32)
    image = draw_log_mel(axis, log_mel, config, 0.0, 10.0)
    assert axis.get_xlim() == (0, pytest.approx(2.0))
    np.testing.assert_array_equal(image.get_array(), log_mel.T)
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "125",
        "500",
        "1000",
        "2000",
        "4000",
    ]
    np.testing.assert_allclose(axis.get_yticks()[2], band_of(1000, config))
