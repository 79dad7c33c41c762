"""Does a log line hide every secret, however it is quoted?"""

from __future__ import annotations

import logging

import pytest

from exporter import logs
from exporter.redaction import Redactor


@pytest.mark.parametrize("form", ["logfmt", "json"])
@pytest.mark.parametrize("secret", ['pa"ss"word', "pa\\ss\\word", "two\nlines", "plain-one"])
def test_a_secret_is_hidden_also_in_a_traceback_and_when_quoted(form, secret, capsys, monkeypatch):
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", list(root.handlers))
    level = root.level
    logs.set_up("info", form, Redactor([secret]))
    try:
        raise RuntimeError(secret)
    except RuntimeError:
        logging.getLogger("gpu_canary.toy").exception("it said %s", secret, extra={"why": secret})
    finally:
        root.setLevel(level)
    told = capsys.readouterr().err
    assert told.count("<redacted>") >= 3
    assert "word" not in told
    assert "lines" not in told
    assert "plain-one" not in told
