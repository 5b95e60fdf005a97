"""Audio and weak labels in, log-mel TFRecord shards out. Nothing here needs TensorFlow for local
files.
"""
