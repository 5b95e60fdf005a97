"""Tell which Keras this is."""

from __future__ import annotations

import keras

KERAS_3 = int(keras.__version__.split(".")[0]) >= 3
