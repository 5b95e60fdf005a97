from tfrecord_tools.messages import make_message_classes

CLASSES = make_message_classes(
    "zoo", {"Cat": "string name 1, Cat[] kittens 2", "Zoo": "Cat{} cat_of_cage 3, int64[] days 4"}
)


def test_the_bytes_by_hand():
    tim = CLASSES["Cat"](name="Tim")
    zoo = CLASSES["Zoo"](cat_of_cage={"A": CLASSES["Cat"](name="Tom", kittens=[tim])}, days=[1, 2])
    tom = b"\n\x03Tom" + b"\x12\x05" + b"\n\x03Tim"
    entry = b"\n\x01A" + b"\x12\x0c" + tom
    assert zoo.SerializeToString() == b"\x1a\x11" + entry + b"\x22\x02\x01\x02"


def test_a_map_comes_back():
    zoo = CLASSES["Zoo"]()
    for cage in "BA":
        zoo.cat_of_cage[cage].name = f"of {cage}"
    back = CLASSES["Zoo"].FromString(zoo.SerializeToString(deterministic=True))
    assert {cage: cat.name for cage, cat in back.cat_of_cage.items()} == {"A": "of A", "B": "of B"}
