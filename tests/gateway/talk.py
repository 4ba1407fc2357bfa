"""What clients of a desk say in many tests, and the answers that are asked for most."""

STAFF = {"roles": ["staff"]}
"""Claims of a token that may use the namespace and the collection of the same name."""


def publish(number, channel="open:a", data=None):
    return ("publish", {"id": number, "channel": channel, "data": data})


def refused(client, code):
    """The body of the one answer, an error."""
    ((kind, body),) = client.heard()
    assert (kind, body["code"]) == ("error", code)
    return body


def bye_and_close(client):
    """(code, whether to reconnect) of a bye that is followed by its close frame and nothing else."""
    *_, (kind, body), (close, code) = client.heard()
    assert (kind, close) == ("bye", "close")
    assert body["code"] == code
    return code, body["reconnect"]
