"""Protobuf messages declared in a line each, in place of generated code.

They live in a descriptor pool of their own, beside those of other libraries, and declare no more
fields than are needed; on the wire they are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto


def make_message_classes(package: str, declarations: Mapping[str, str]) -> dict[str, Any]:
    """Return the class of each message.

    Args:
        package: what the messages' full names begin with.
        declarations: {message: "type name number, ..."}. A type is that of a number, bytes or
            string (`int64`, `float`, ...) or another of the messages; `[]` behind it marks a list,
            `{}` a map from strings.

    Example:
        >>> classes = make_message_classes("zoo", {"Cat": "string name 1, Cat[] kittens 2"})
        >>> classes["Cat"](name="Tom", kittens=[classes["Cat"](name="Tim")]).SerializeToString()
        b'\\n\\x03Tom\\x12\\x05\\n\\x03Tim'
    """
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto", package=package, syntax="proto3"
    )
    for name, fields in declarations.items():
        message = file.message_type.add(name=name)
        for kind, field_name, number in map(str.split, fields.split(",")):
            plain = kind.rstrip("[]{}")
            of_value = (
                {"type": _Field.TYPE_MESSAGE, "type_name": f".{package}.{plain}"}
                if plain in declarations
                else {"type": getattr(_Field, f"TYPE_{plain.upper()}")}
            )
            field = message.field.add(name=field_name, number=int(number))
            field.label = _Field.LABEL_OPTIONAL if kind == plain else _Field.LABEL_REPEATED
            if kind.endswith("{}"):
                _add_map_entry(message, f".{package}.{name}", field, of_value)
            else:
                field.MergeFrom(_Field(**of_value))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in declarations
    }


def _add_map_entry(
    message: descriptor_pb2.DescriptorProto, scope: str, field: Any, of_value: Mapping[str, Any]
) -> None:
    """Make a field a map: a list of entries of a type of their own, as protobuf does."""
    entry = message.nested_type.add(name=f"{field.name.title().replace('_', '')}Entry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL, type=_Field.TYPE_STRING)
    entry.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL, **of_value)
    field.type, field.type_name = _Field.TYPE_MESSAGE, f"{scope}.{entry.name}"
