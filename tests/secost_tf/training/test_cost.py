import os

import keras
import numpy as np
import pytest

from secost_tf.models.config import WelsNetConfig
from secost_tf.models.fast_layers import ConvolutionNorm
from secost_tf.models.network import wels_net
from secost_tf.runs.settings import RunOptions
from secost_tf.training import cost
from secost_tf.training.cascade import run_cascade


@pytest.mark.parametrize(
    ("config", "frames"),
    [
        (WelsNetConfig(num_classes=5, width=0.05), 200),
        (WelsNetConfig(num_classes=5, width=0.05, pooling="attention"), 97),
        (WelsNetConfig(num_classes=3, mel_bins=8, block_channels=(4, 6), block_pools=(4, 2)), 10),
    ],
)
def test_multiply_adds_are_those_of_the_layers(config, frames):
    network = wels_net(config)
    convolutions = [
        layer
        for layer in network.layers
        if isinstance(layer, keras.layers.Conv2D | ConvolutionNorm)
    ]
    outputs = keras.Model(network.input, [layer.output for layer in convolutions])(
        {"log_mel": np.zeros((1, frames, config.mel_bins)), "num_frames": np.array([frames])}
    )
    counted = sum(
        int(np.prod(output.shape[1:])) * int(np.prod(layer.kernel.shape[:3]))
        for output, layer in zip(outputs, convolutions, strict=True)
    )
    assert cost.multiply_adds(config, frames) == counted


def test_the_published_network_takes_5_5_billion_for_ten_seconds():
    assert cost.multiply_adds(WelsNetConfig(num_classes=527), 998) == pytest.approx(5.5e9, rel=0.02)


def test_the_estimate_says_what_a_cascade_costs_and_trains_nothing(
    kept_data, tmp_path, cascade_config, one_device
):
    run_dir = tmp_path / "run"
    text = cost.estimate_cost(cascade_config(2), kept_data, str(run_dir), one_device, RunOptions())
    rows = dict(line.split("  ", 1) for line in text.splitlines())
    rows = {name: value.strip() for name, value in rows.items()}
    assert rows["stages to train"] == "0, 1, 2"
    assert rows["steps"].endswith("an epoch of 4 clips, " + rows["steps"].split(", ")[1])
    assert (
        "clips/s" in rows["speed"]
        and "GB" in rows["memory"]
        and rows["time in all"].startswith("about")
    )
    assert not run_dir.exists()


def test_nothing_to_train(kept_run, kept_data, cascade_config, one_device):
    before = sorted(os.listdir(kept_run))
    text = cost.estimate_cost(cascade_config(2), kept_data, kept_run, one_device, RunOptions())
    assert text == f"nothing to train: all stages up to 2 are done in {kept_run}"
    assert sorted(os.listdir(kept_run)) == before


def test_a_later_stage_with_steps_of_its_own(
    kept_run, kept_data, tmp_path, cascade_config, one_device
):
    text = cost.estimate_cost(
        cascade_config(0, steps_per_epoch=3, validation_share=0.0),
        kept_data,
        str(tmp_path),
        one_device,
        RunOptions(),
    )
    assert "3 an epoch of 4 clips, 6 a stage; a pass is 7 steps" in text
    assert "none: the last epoch is kept" in text
    run_cascade(cascade_config(0), kept_data, str(tmp_path / "run"), one_device)
    text = cost.estimate_cost(
        cascade_config(1), kept_data, str(tmp_path / "run"), one_device, RunOptions()
    )
    assert "stages to train  1\n" in text
