"""The codec as tests look at it: what its hot lane left encoded is decoded."""

import msgpack

from syncd.wire import codec
from syncd.wire.messages import EncodedPublish, Publish


def decode(payload):
    """Decode a frame; `EncodedPublish` comes as the `Publish` it stands for."""
    return [in_full(message) for message in codec.decode(payload)]


def in_full(message):
    if not isinstance(message, EncodedPublish):
        return message
    data = msgpack.unpackb(bytes(message.data), raw=False)
    return Publish(message.id, message.channel, data, message.name, message.key, message.uid)
