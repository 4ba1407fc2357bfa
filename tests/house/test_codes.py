"""syncd/codes.py says what protocol/codes.toml says."""

from syncd.codes import CloseCode, ErrorCode, Reason, Rejection

WEBSOCKET_OWN = {1000, 1002, 1003, 1007, 1009}
"""Close codes of RFC 6455 that a node sends; SPEC section 16 names them in its text."""


def test_error_codes_are_those_of_the_list(codes_toml):
    listed = {
        code: (entry["retryable"], entry["text"]) for code, entry in codes_toml["errors"].items()
    }
    assert {code.value: (code.retryable, code.text) for code in ErrorCode} == listed


def test_reasons_are_those_of_the_list(codes_toml):
    assert {reason.value for reason in Reason} == set(codes_toml["reasons"])


def test_rejections_are_those_of_the_list(codes_toml):
    assert {rejection.value for rejection in Rejection} == set(codes_toml["rejections"])


def test_close_codes_are_those_of_the_list(codes_toml):
    ours = {code.name.lower(): code.value for code in CloseCode if code.value not in WEBSOCKET_OWN}
    assert ours == {name: entry["code"] for name, entry in codes_toml["close"].items()}


def test_websocket_close_codes_are_named_in_the_spec(root):
    assert {code.value for code in CloseCode if code < 4000} == WEBSOCKET_OWN
    section = (root / "protocol/SPEC.md").read_text().split("## 16 Codes")[1]
    assert [code for code in WEBSOCKET_OWN if str(code) not in section] == []


def test_the_range_of_a_close_code_says_whether_to_come_back():
    own = {code: code.reconnect for code in CloseCode if code >= 4000}
    assert own == {code: code < 4500 for code in own}


def test_texts_are_one_sentence_and_name_no_value(codes_toml):
    texts = [
        entry["text"]
        for part in ("errors", "reasons", "close")
        for entry in codes_toml[part].values()
    ]
    assert [text for text in texts if not text.endswith(".") or "{" in text] == []
