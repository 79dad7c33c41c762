"""Does the .env parser survive every .env, and does the probe keep every value to itself?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from probes.api import Evidence, Finding, Measurement, Remember
from probes.environment.dotenv import PROBE, DotenvParams
from probes.environment.variables import hidden_cards, parse
from probes.testing import RecordedWorld, run_recorded, verify

SECRET = "hf_PlantedPlantedPlantedPlantedPlanted"


def judged(text: str, params: Mapping[str, Any] | None = None, **file: Any) -> list[str]:
    world = RecordedWorld({"files": {"/.env": {"text": text, **file}}})
    facts, end = run_recorded(PROBE, {"path": "/.env", **(params or {})}, world)
    assert end == ""
    assert SECRET not in repr(facts)
    return [f"{fact.rule}:{fact.subject}" for fact in facts if isinstance(fact, Finding)]


def test_the_contract_holds() -> None:
    assert verify(PROBE) == []


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("A=1\nB=2", {"A": "1", "B": "2"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("A=1\rB=2\r", {"A": "1", "B": "2"}),
        ("\ufeffA=1\n", {"A": "1"}),
        ("export A=1\n  export\tB = 2 \n", {"A": "1", "B": "2"}),
        ("A='# not a comment' # a comment\n", {"A": "# not a comment"}),
        ('A="say \\"hi\\"\\nthere" # bye', {"A": 'say "hi"\nthere'}),
        ("KEY='-----BEGIN\nline\n-----END'\nB=2\n", {"KEY": "-----BEGIN\nline\n-----END", "B": "2"}),
        ("A=b#c\nB=b #c\nC= # nothing\nD=#1\n", {"A": "b#c", "B": "b", "C": "", "D": "#1"}),
        ("A=\nB=''\n", {"A": "", "B": ""}),
        ("A=x=y=z\n", {"A": "x=y=z"}),
        ('JSON={"a": 1}\n', {"JSON": '{"a": 1}'}),
        ("# only\n\n   \t\n#A=1", {}),
        ("", {}),
    ],
)
def test_every_way_to_write_an_assignment_is_understood(text: str, values: Mapping[str, str]) -> None:
    found = parse(text)
    assert found.values == values
    assert found.unreadable == ()


@pytest.mark.parametrize(
    ("text", "lines", "names"),
    [
        ("A=1\nnonsense\nB=2\n", (2,), {"A", "B"}),
        ('A="never closed\nB=2\n', (1,), {"B"}),
        ("A='x'y\nB=2\n", (1,), {"B"}),
        ("A=x\0y\nB=2\n", (1,), {"B"}),
        ("1A=x\n=x\n-\nB=2", (1, 2, 3), {"B"}),
        ("K='two\nlines'\nbad\n", (3,), {"K"}),
        ("\0\0\0", (1,), set()),
    ],
)
def test_garbage_is_named_by_its_line_and_spoils_nothing_else(
    text: str, lines: tuple[int, ...], names: set[str]
) -> None:
    found = parse(text)
    assert found.unreadable == lines
    assert set(found.values) == names


def test_the_last_of_equal_names_wins_and_is_named_by_its_line() -> None:
    found = parse("A=1\nB=2\nA=3\nA=4\n")
    assert found.values["A"] == "4"
    assert found.repeated == (3, 4)


@given(st.text(st.sampled_from("AB='\"\\# \t\n\r\0export${}"), max_size=200))
def test_the_parser_ends_with_something_for_any_text(text: str) -> None:
    found = parse(text)
    assert all(1 <= line <= text.count("\n") + text.count("\r") + 1 for line in found.unreadable)


@pytest.mark.parametrize("piece", ['A="', "A='", "=", "A = ", '"', "\\", 'A="\\', "A='\n", 'A="\n', " ", "#", "A=b "])
def test_no_text_keeps_the_parser_busy(piece: str) -> None:
    started = time.process_time()
    parse(piece * (256 * 1024 // len(piece)))
    assert time.process_time() - started < 5  # it is linear: a few hundredths; what backtracks takes minutes


def test_a_well_formed_private_file_has_nothing_to_report() -> None:
    assert judged(f"HF_TOKEN={SECRET}\n", {"required": ["HF_TOKEN"]}) == []


@pytest.mark.parametrize("value", ["changeme", "your_token_here", "<token>", "xxx", "hf_xxxxxxxx", "...", "TODO"])
def test_a_placeholder_is_not_a_value(value: str) -> None:
    assert judged(f"ANY={value}\n", {"required": ["ANY"]}) == ["dotenv-variable-malformed:ANY"]


def test_a_checks_own_shape_overrules_the_known_one() -> None:
    assert judged("OPENAI_API_KEY=ollama\n") == ["dotenv-variable-malformed:OPENAI_API_KEY"]
    assert judged("OPENAI_API_KEY=ollama\n", {"shapes": {"OPENAI_API_KEY": ".+"}}) == []


def test_a_reference_to_another_variable_is_left_to_the_application() -> None:
    assert judged("HF_TOKEN=${SHARED_TOKEN}\n", {"required": ["HF_TOKEN"]}) == []


def test_a_shape_must_match_the_whole_value() -> None:
    assert judged("PORT=8080; rm -rf\n", {"shapes": {"PORT": "[0-9]+"}}) == ["dotenv-variable-malformed:PORT"]


@pytest.mark.parametrize(
    ("mode", "allowed", "exposed"),
    [(0o600, "600", False), (0o400, "600", False), (0o640, "600", True), (0o640, "640", False), (0o606, "660", True)],
)
def test_the_mode_may_permit_less_and_never_more(mode: int, allowed: str, exposed: bool) -> None:
    assert judged("", {"allowed_mode": allowed}, mode=mode) == (["dotenv-exposed:/.env"] if exposed else [])


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("0", ""),
        ("0, 1,2", ""),
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", ""),
        ("MIG-GPU-8932f937/1/2", ""),
        ("", "hides every card"),
        ("-1", "hides every card"),
        ("NoDevFiles", "hides every card"),
        ("0,-1,1", "hides every card from entry 2 on, which names none"),
        ("0,1,", "hides every card from entry 3 on, which names none"),
        ("1,1", "names a card again in entry 2, and CUDA then shows none"),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(value: str, says: str) -> None:
    assert hidden_cards(value) == says


def test_hiding_all_cards_on_purpose_can_be_said() -> None:
    assert judged("CUDA_VISIBLE_DEVICES=\n") == ["dotenv-gpus-hidden:/.env"]
    assert judged("CUDA_VISIBLE_DEVICES=\n", {"shapes": {"CUDA_VISIBLE_DEVICES": ".*"}}) == []


def test_a_file_too_long_to_be_a_dotenv_says_so() -> None:
    assert judged("#" * 300_000) == ["dotenv-unreadable-lines:/.env"]


def test_no_value_is_ever_shown_however_the_file_is_broken() -> None:
    broken = f'HF_TOKEN={SECRET} extra\nOPENAI_API_KEY=\'{SECRET}\n{SECRET}\nHF_TOKEN="{SECRET}"x\nCUDA_VISIBLE_DEVICES={SECRET}\n'
    world = RecordedWorld({"files": {"/.env": {"text": broken, "mode": 0o777}}})
    params = {"path": "/.env", "required": ["HF_TOKEN", "X"], "shapes": {"HF_TOKEN": "never"}, "owner_uid": 7}
    facts, end = run_recorded(PROBE, params, world)
    assert end == ""
    assert len([fact for fact in facts if isinstance(fact, Finding)]) >= 6
    assert SECRET not in repr(facts)
    assert SECRET not in repr(parse(broken))
    assert not any(isinstance(fact, Evidence | Remember) for fact in facts)


def test_the_states_always_add_up_to_the_watched_variables() -> None:
    world = RecordedWorld({"files": {"/.env": f"HF_TOKEN={SECRET}\nA=todo\n"}})
    facts, _ = run_recorded(PROBE, {"path": "/.env", "required": ["A", "B"], "recommended": ["C"]}, world)
    counts = {dict(fact.labels)["state"]: fact.value for fact in facts if isinstance(fact, Measurement)}
    assert counts == {"present": 1, "missing": 2, "malformed": 1}


def test_a_shape_that_is_no_regular_expression_is_refused_with_the_config() -> None:
    with pytest.raises(ValidationError, match="not a regular expression"):
        DotenvParams(path="/.env", shapes={"A": "("})
