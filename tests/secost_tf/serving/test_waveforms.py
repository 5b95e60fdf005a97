import io
import wave

import numpy as np

from secost_tf.serving.waveforms import bytes_array, encode_wav, pad_together


def test_a_wav_file_is_the_plainest_there_is():
    samples = np.array([[0.0, 1.0], [-0.5, -2.0]])
    data = encode_wav(samples, 16000)
    with wave.open(io.BytesIO(data)) as file:  # which knows no other than integer samples
        assert (
            file.getnchannels(),
            file.getsampwidth(),
            file.getframerate(),
            file.getnframes(),
        ) == (
            2,
            2,
            16000,
            2,
        )
        values = np.frombuffer(file.readframes(2), "<i2").reshape(2, 2)
    np.testing.assert_allclose(values / 32768, [[0, 1], [-0.5, -1]], atol=1 / 16384)
    assert len(data) == 44 + 8


def test_sounds_are_padded_at_their_ends():
    batch = pad_together([np.ones(1, np.float32), np.full(3, 2, np.float32)])
    np.testing.assert_array_equal(batch, [[1, 0, 0], [2, 2, 2]])
    assert batch.dtype == np.float32


def test_bytes_keep_their_zeros():
    array = bytes_array([b"a\0", b""])
    assert array.dtype == object and array.tolist() == [b"a\0", b""]
