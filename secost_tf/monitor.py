"""`python -m secost_tf.monitor --saved_model=DIR --input=FILE|-|microphone`: events as they sound.

They are those that `python -m secost_tf.localize` finds, printed as they begin and end.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence

from secost_tf import detection
from secost_tf.detection import PostProcessing, ThresholdSettings
from secost_tf.runs import EXPORTED_MODEL_HELP
from tfrecord_tools.commands import run_command
from tfrecord_tools.config import Config, setting
from tfrecord_tools.config_flags import read_flags
from tfrecord_tools.log_mel import LogMelConfig

MICROPHONE = "microphone"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MonitorSettings(Config):
    """The sound to listen to, the model, and the lines to show."""

    saved_model: str = setting("models/secost", EXPORTED_MODEL_HELP)
    input: str = setting(
        MICROPHONE,
        "A recording's file; - for raw 16-bit little-endian mono samples on standard input; or "
        "microphone (extra microphone).",
    )
    input_rate_hz: int | None = setting(
        None,
        "Sample rate of --input=-, in Hz; resampled if the model has another. Default: the "
        "model's.",
        minimum=1000,
    )
    device: str | None = setting(None, "Number or name of the microphone. Default: the system's.")
    real_time: bool | None = setting(
        None,
        "Take a file as fast as it plays. Default: on a terminal; elsewhere as fast as it can be "
        "read.",
    )
    top: int = setting(10, "Rows of the table: classes with the highest scores of late.", minimum=1)


SETTINGS = (MonitorSettings, ThresholdSettings, PostProcessing)


def open_source(settings: MonitorSettings, log_mel: LogMelConfig) -> detection.Source:
    """Return what there is to listen to.

    Raises:
        ValueError: if the input is no file, - or microphone.
    """
    rate_hz = log_mel.sample_rate_hz
    if settings.input == MICROPHONE:
        return detection.MicrophoneSource(rate_hz, settings.device)
    if settings.input == "-":
        return detection.PipeSource(sys.stdin.buffer, settings.input_rate_hz or rate_hz, rate_hz)
    if not os.path.isfile(settings.input):
        raise ValueError(
            f"input: expected a file, - or microphone; there is no file {settings.input!r}"
        )
    return detection.FileSource(settings.input, log_mel)


def main(argv: Sequence[str]) -> None:
    """Read the flags, load the model and listen."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    settings, config = read_flags(MonitorSettings), read_flags(PostProcessing)
    detector = detection.Detector.from_saved_model(settings.saved_model)
    thresholds = read_flags(ThresholdSettings).of_classes(detector.class_map, None)
    source = open_source(settings, detector.log_mel)
    real_time = sys.stdout.isatty() if settings.real_time is None else settings.real_time
    real_time = real_time and isinstance(source, detection.FileSource)  # others are anyway
    title = f"{detector.title}: {settings.input}"
    screen = detection.Screen(sys.stdout, detector.class_map.display_names, title, settings.top)
    detection.listen(source, detector, thresholds, config, screen, real_time)


def run() -> None:
    """Run the console script."""
    run_command(main, *SETTINGS, continues=False)


if __name__ == "__main__":
    run()
