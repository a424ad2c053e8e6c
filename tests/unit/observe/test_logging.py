"""Events as log lines."""

from __future__ import annotations

import typing

import pytest

from leyden import events
from leyden.observe import logging as observe_logging
from leyden.observe.logging import _LEVELS, LogWriter


def test_every_event_has_a_level() -> None:
    assert set(typing.get_args(events.Event)) == set(_LEVELS)


def test_warnings_about_authentication_are_seen_at_the_usual_level(capsys: pytest.CaptureFixture[str]) -> None:
    LogWriter("warning")(events.AuthenticationWarning("AUTH_MODE=insecure: tokens are not checked"))
    assert "tokens are not checked" in capsys.readouterr().err


def test_text_from_outside_cannot_forge_lines(capsys: pytest.CaptureFixture[str]) -> None:
    LogWriter()(events.ClientDisconnected(1, 1000, "bye\nforged \u202e" + "x" * 1_000))
    (line,) = capsys.readouterr().err.splitlines()
    assert "\u202e" not in line
    assert len(line) < 500


def test_what_is_below_the_level_is_not_written_and_costs_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[events.Event] = []
    monkeypatch.setattr(observe_logging, "fields_of", lambda event: rendered.append(event) or {})
    event = events.ClientConnected(1, events.Peer("::1"), "electric.0.12")
    LogWriter("info")(event)
    assert (rendered, capsys.readouterr().err) == ([], "")
    LogWriter("debug")(event)
    assert rendered == [event]
    assert "client connected" in capsys.readouterr().err


def test_a_log_that_cannot_be_written_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    writer = LogWriter()

    class Broken:
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None: ...

    writer._logger._logger._file = Broken()
    writer._logger._logger._write = Broken().write
    writer(events.InsecureModeActive())
