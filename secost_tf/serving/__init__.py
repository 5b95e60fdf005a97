"""Exported models: make them, check them, load them, ask a server that has them."""

from typing import TYPE_CHECKING

from tfrecord_tools._lazy import lazy_names

if TYPE_CHECKING:
    from secost_tf.serving.cpp_loader import Servable
    from secost_tf.serving.exporting import FORMATS, export_run, serve_command
    from secost_tf.serving.layout import (
        EVERY_FRAME,
        LOG_MEL,
        PortableConfig,
        ServingConfig,
        read_exported,
    )
    from secost_tf.serving.quiet import quietly
    from secost_tf.serving.retries import RetryPolicy, ServerError
    from secost_tf.serving.transport import GRPC_PORT, REST_PORT, Transport, connect
    from secost_tf.serving.waveforms import bytes_array, encode_wav
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__)
