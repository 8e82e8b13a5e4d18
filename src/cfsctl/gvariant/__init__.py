"""A codec for GVariant, the serialisation format of GLib.

It stands on its own: bytes in, plain values out and back, nothing about what they mean.
"""

from cfsctl.gvariant.decode import MAX_VALUES, decode, is_normal
from cfsctl.gvariant.encode import encode
from cfsctl.gvariant.types import MAX_DEPTH, GVariantError, Type, parse_type
from cfsctl.gvariant.values import Just, Value, Variant

__all__ = [
    "MAX_DEPTH",
    "MAX_VALUES",
    "GVariantError",
    "Just",
    "Type",
    "Value",
    "Variant",
    "decode",
    "encode",
    "is_normal",
    "parse_type",
]
