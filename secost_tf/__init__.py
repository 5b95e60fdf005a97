"""SeCoST: sequential co-supervision for weakly labelled audio event detection, on TensorFlow and
Keras.

Importing the package loads neither TensorFlow nor Keras; the modules that need them do.
"""

import os

__version__ = "0.1.0"

# oneDNN's kernels double the training speed on processors where TensorFlow leaves them off. Read by
# TensorFlow when it is imported, hence here; a value the user has set stands.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
