"""`python -m secost_tf.client --server=host:8501 FILE...`: asks a model on TensorFlow Serving what
is heard in recordings.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence

import numpy as np

from secost_tf.serving import (
    GRPC_PORT,
    REST_PORT,
    RetryPolicy,
    ServerError,
    Transport,
    bytes_array,
    connect,
    encode_wav,
)
from tfrecord_tools.audio import AudioError, load_audio
from tfrecord_tools.commands import run_command
from tfrecord_tools.config import Config, setting
from tfrecord_tools.config_flags import read_flags
from tfrecord_tools.datasets import read_class_map

SIGNATURES = ("top_k", "wav_bytes", "serving_default")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientSettings(Config):
    """Whom to ask, and what."""

    server: str = setting(
        f"localhost:{REST_PORT}",
        f"TensorFlow Serving's address: host:port, where port {GRPC_PORT} means gRPC and others "
        f"REST, "
        "or with http://, https://, grpc:// or grpcs:// before it.",
    )
    model: str = setting("secost", "Name of the model on the server.")
    model_version: int | None = setting(
        None, "Version of the model. Default: the one that the server takes.", minimum=0
    )
    signature: str = setting(
        "top_k",
        "top_k: class names and scores. wav_bytes: scores of all classes and of all segments, the "
        "sound being sent as 16-bit wav, the least to send. serving_default: the same, the sound "
        "being sent as floats.",
        choices=SIGNATURES,
    )
    classes_csv: str | None = setting(
        None,
        "The model's class list (assets/classes.csv in its folder), for the names of signatures "
        "other than top_k. Default: numbers.",
    )
    top: int = setting(
        5, "Classes to print for each recording, the highest scores first.", minimum=1
    )
    sample_rate_hz: int = setting(
        16000,
        "Sample rate that the model expects, in Hz; recordings are resampled to it.",
        minimum=1,
    )
    timeout: float = setting(
        RetryPolicy.timeout_seconds,
        "Seconds to wait for the answer to one recording, all attempts together.",
        minimum=0.1,
    )
    retries: int = setting(
        RetryPolicy.retries,
        "Attempts after the first one, with growing pauses, where the server cannot be reached or "
        "is "
        "busy; over gRPC four at most.",
        minimum=0,
    )
    json: bool = setting(
        False, "Print a line of JSON for each recording, with all that the server answered."
    )


SETTINGS = (ClientSettings,)


def ask(
    transport: Transport, signature: str, waveform: np.ndarray, sample_rate_hz: int
) -> dict[str, np.ndarray]:
    """The answer for one mono waveform, float32 [samples] in -1..1: the signature's outputs without
    their batch.
    """
    if signature == "wav_bytes":
        inputs = {"wav_bytes": bytes_array([encode_wav(waveform, sample_rate_hz)])}
    else:
        inputs = {"waveform": waveform[None]}
    return {name: value[0] for name, value in transport.predict(signature, inputs).items()}


def describe(answer: dict[str, np.ndarray], top: int, name_of: Callable[[int], str]) -> list[str]:
    """Lines for people: the highest scores with their classes and, where segments are known, the
    time of their peaks.
    """
    if "labels" in answer:
        pairs = zip(answer["labels"], answer["scores"], strict=True)
        return [f"  {score:6.3f}  {label.decode()}" for label, score in list(pairs)[:top]]
    lines = []
    for index in np.argsort(-answer["scores"], kind="stable")[:top]:
        peak = int(answer["segment_scores"][:, index].argmax())
        lines.append(
            f"  {answer['scores'][index]:6.3f}  {name_of(int(index))}, at "
            f"{answer['segment_onsets'][peak]:.2f} s "
            f"{answer['segment_scores'][peak, index]:.3f}"
        )
    return lines


def as_json(file: str, seconds: float, answer: dict[str, np.ndarray]) -> str:
    """One line with all of an answer."""
    values = {
        name: [item.decode() for item in value] if value.dtype.hasobject else _short(value.tolist())
        for name, value in answer.items()
    }
    return json.dumps({"file": file, "seconds": round(seconds, 3), **values}, ensure_ascii=False)


def _short(values: list) -> list:
    """Six digits of each number, nested or not."""
    return [_short(value) if isinstance(value, list) else float(f"{value:.6g}") for value in values]


def main(argv: Sequence[str]) -> int:
    """Ask for each recording, print the answers; returns 1 if one of them could not be had."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # gRPC's messages import TensorFlow
    settings, files = read_flags(ClientSettings), argv[1:]
    if not files:
        raise ValueError("no recordings: name one file or more")
    classes = read_class_map(settings.classes_csv) if settings.classes_csv else None
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # the client says when it tries again
    policy = RetryPolicy(settings.timeout, settings.retries)
    transport = connect(settings.server, settings.model, settings.model_version, policy)
    failed = 0
    for file in files:
        try:
            audio = load_audio(file, settings.sample_rate_hz)
            answer = ask(transport, settings.signature, audio.waveform, settings.sample_rate_hz)
        except (AudioError, ServerError) as error:
            failed += 1
            print(f"error: {file}: {error}", file=sys.stderr)
            continue
        if settings.json:
            print(as_json(file, audio.duration_seconds, answer), flush=True)
            continue
        names = (
            (lambda index: classes.display_names[index])
            if classes
            else (lambda index: f"class {index}")
        )
        print(
            f"{file} ({audio.duration_seconds:.1f} s)",
            *describe(answer, settings.top, names),
            sep="\n",
            flush=True,
        )
    return 1 if failed else 0


def run() -> None:
    """The console script."""
    run_command(main, *SETTINGS, takes_arguments=True)


if __name__ == "__main__":
    run()
