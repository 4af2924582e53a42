"""A page for every code: none is raised without one, and each is the one that problem documents lead to."""

from __future__ import annotations

import ast
import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.exceptions import RequestValidationError
from scripts import error_pages
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from sandgraph import errors
from sandgraph.api import problem
from sandgraph.api.problems import PAGES, TOPICS
from sandgraph.api.schemas import answers
from sandgraph.errors import NotFound, SandgraphError
from sandgraph.model.run import AttemptStatus

SOURCE = Path(__file__).parents[3]
RUNNER, PLATFORM = SOURCE / "runner_image" / "sandgraph_runner", SOURCE / "platform" / "sandgraph"

#: How problems and failures are made: what the call is of, and which argument is the code.
MAKERS = {
    "Problem": 1,
    "at": 1,
    "PydanticCustomError": 0,
    "Failure": 0,
    "CheckProblem": 1,
    "_malformed": 0,
    "_refused": 1,
    "ProblemItem": 1,
}

#: What only programs that have the platform inside can come to, and what clients never see.
ELSEWHERE = {"event_conflict", "run_not_waiting", "commit_not_found"}

#: Where clients never see what is wrong.
APART = {"embedded", "cli", "workflows", "problems"}


def files() -> Iterator[Path]:
    for file in sorted([*PLATFORM.rglob("*.py"), RUNNER / "checks.py"]):
        if not APART & set(file.parts):
            yield file


def codes() -> Iterator[tuple[str, str]]:
    """Yield each code that is written down in the source, with its file."""
    for file in files():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            given: list[ast.expr | None] = []
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                place = MAKERS.get(name)
                given += [each.value for each in node.keywords if each.arg == "code"]
                if place is not None and place < len(node.args):
                    given.append(node.args[place])
                if name == "NotFound" and isinstance(node.args[0], ast.Constant):
                    yield f"{node.args[0].value!s}_not_found", file.name
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if any(isinstance(each, ast.Name) and each.id.lower() == "code" for each in targets):
                    given.append(node.value)
            for each in given:
                if isinstance(each, ast.Constant) and isinstance(each.value, str) and each.value.isidentifier():
                    yield each.value, file.name


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    return dict(codes())


def test_every_code_that_is_raised_has_a_page(found: dict[str, str]) -> None:
    missing = {code: file for code, file in found.items() if code not in PAGES and code not in ELSEWHERE}
    assert missing == {}, "add them to sandgraph/api/problems"


def test_the_walk_finds_codes_of_every_form(found: dict[str, str]) -> None:
    assert len(found) > 90
    assert {"unknown_function", "invalid_json", "body_too_slow", "state_conflict", "syntax_error"} <= set(found)
    assert {"graph_not_found", "checkpoint_not_found", "lease_lost", "runtime_not_allowed", "queue_full"} <= set(found)


def test_every_class_of_errors_has_a_page() -> None:
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, SandgraphError)]
    assert len(classes) > 5
    assert {each.code for each in classes} <= set(PAGES)


def test_every_end_of_an_attempt_that_is_a_failure_has_a_page() -> None:
    ends = set(AttemptStatus) - {AttemptStatus.RUNNING, AttemptStatus.SUCCEEDED}
    assert {str(each) for each in ends} <= set(PAGES)
    checked = {each for each in ends if each not in {AttemptStatus.LOST, AttemptStatus.CANCELLED}}
    assert {f"check_{each}" for each in checked} <= set(PAGES)


@pytest.mark.parametrize("kind", sorted(problem._FIELDS))
def test_whatever_is_not_found_has_a_page(kind: str) -> None:
    assert NotFound(kind, "x").code in PAGES


@pytest.mark.parametrize("status", [400, 404, 405, 406, 408, 411, 413, 418, 500])
def test_errors_of_the_framework_have_pages(status: int) -> None:
    assert problem.describe(HTTPException(status))[0]["code"] in PAGES


def test_what_the_framework_finds_has_a_page_whatever_it_is() -> None:
    found = RequestValidationError([{"type": "json_invalid_somehow", "loc": ("query", "x"), "msg": "No", "input": 1}])
    members, _ = problem.describe(found)
    assert members["code"] == "invalid_value"
    assert members["errors"] == [{"path": "x", "code": "invalid_value", "message": "No."}]


def test_no_code_has_two_pages() -> None:
    pages = [page.code for each in TOPICS.values() for page in each]
    assert len(pages) == len(set(pages)) == len(PAGES)


@pytest.mark.parametrize("code", sorted(PAGES))
def test_a_page_says_what_it_means_and_what_to_do(code: str) -> None:
    page = PAGES[code]
    assert code.isidentifier()
    assert code.islower()
    for text in (page.means, page.todo):
        assert text.endswith(".")
        assert text[0].isupper() or text[0] in "`6"
    if page.statuses:
        answers.ProblemAnswer.model_validate(page.example())


def test_the_page_of_the_documentation_is_up_to_date() -> None:
    assert error_pages.PAGE.read_text(encoding="utf-8") == error_pages.render(), "run: python -m scripts.error_pages"


def test_an_error_leads_to_its_page(client: TestClient) -> None:
    refused = client.get("/graph/status/run_nowhere").json()
    page = client.get(refused["type"]).json()
    assert (page["code"], page["type"], page["title"]) == (refused["code"], refused["type"], refused["title"])
    assert 404 in page["statuses"]
    assert page["means"] == "There is no run of that id."


def test_a_browser_gets_html_that_loads_nothing(client: TestClient) -> None:
    pages = {}
    for path in ("/errors", "/errors/on_with_condition"):
        answer = client.get(path, headers={"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"})
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "unsafe" not in policy
        assert not re.search(r"<script|https?://|src=|style=", answer.text)
        assert answer.headers["vary"] == "Accept"
        pages[path] = answer.text
    assert all("<code>on_with_condition</code>" in text for text in pages.values())


def test_the_style_is_the_one_that_the_policy_allows(client: TestClient) -> None:
    answer = client.get("/errors/timeout", headers={"Accept": "text/html"})
    style = re.search("<style>(.*?)</style>", answer.text)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in answer.headers["content-security-policy"]


def test_the_list_has_every_code_or_those_of_one_status(client: TestClient) -> None:
    listed = client.get("/errors").json()["errors"]
    assert [each["code"] for each in listed] == list(PAGES)
    conflicts = client.get("/errors?status=409").json()["errors"]
    assert {each["code"] for each in conflicts} == {code for code, page in PAGES.items() if 409 in page.statuses}


def test_a_code_that_is_none_has_no_page(client: TestClient) -> None:
    for code in ("no_such_code", "<script>", "x" * 300):
        answer = client.get(f"/errors/{code}")
        assert (answer.status_code, answer.json()["code"]) == (404, "error_not_found")
