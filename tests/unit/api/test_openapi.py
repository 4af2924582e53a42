"""The API's description: whole, true, and with examples that work."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from sandgraph.api.schemas import (
    access,
    access_answers,
    answers,
    code,
    code_answers,
    control,
    error_answers,
    graph,
    keys,
    run,
    tenant,
    webhook,
)
from sandgraph.api.schemas import annotations as noted
from sandgraph.api.schemas.graph import Retryable, RetryDocument
from sandgraph.api.schemas.validation import Submitted
from sandgraph.model.retry import RETRYABLE, Retry

OpenApi = dict[str, Any]

MODELS = {
    name: model
    for module in (
        noted,
        access,
        access_answers,
        answers,
        code_answers,
        error_answers,
        code,
        control,
        graph,
        keys,
        run,
        tenant,
        webhook,
    )
    for name, model in vars(module).items()
    if isinstance(model, type) and issubclass(model, BaseModel)
}


def operations(openapi: OpenApi) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def references(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def test_every_reference_leads_somewhere(openapi: OpenApi) -> None:
    parts = openapi["components"]
    known = {f"#/components/{kind}/{name}" for kind in ("schemas", "examples") for name in parts[kind]}
    assert set(references(openapi)) <= known


def test_every_operation_is_described_and_named_once(openapi: OpenApi) -> None:
    described = dict(operations(openapi))
    assert all(
        operation["summary"] and operation["description"] and operation["tags"] for operation in described.values()
    )
    names = [operation["operationId"] for operation in described.values()]
    assert len(set(names)) == len(names)
    assert {tag for operation in described.values() for tag in operation["tags"]} == {
        tag["name"] for tag in openapi["tags"]
    }


def test_every_body_has_an_example_and_every_field_of_a_body_a_description(openapi: OpenApi) -> None:
    schemas = openapi["components"]["schemas"]
    bodies = [operation["requestBody"] for _, operation in operations(openapi) if "requestBody" in operation]
    assert len(bodies) == 15
    for body in bodies:
        name = body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert schemas[name]["examples"]
        assert schemas[name]["additionalProperties"] is False
        assert all("description" in field for field in schemas[name]["properties"].values())


def test_every_answer_has_an_example(openapi: OpenApi) -> None:
    schemas = openapi["components"]["schemas"]
    for name, operation in operations(openapi):
        for answer in operation["responses"].values():
            for kind, content in answer.get("content", {}).items():
                if not kind.endswith("json"):
                    assert content["example"], f"{name}: {kind}"
                    continue
                model = content["schema"]["$ref"].rpartition("/")[2]
                assert schemas[model].get("examples"), f"{name}: {model}"


def test_every_example_is_read_by_its_own_schema(openapi: OpenApi) -> None:
    with_examples = {
        name: schema["examples"] for name, schema in openapi["components"]["schemas"].items() if "examples" in schema
    }
    bodies = {name for name, model in MODELS.items() if issubclass(model, Submitted)}
    assert {"FunctionSource", "ToolSource", "GraphDocument", "NodeDocument", "EdgeDocument", "RunDocument"} <= bodies
    assert {"EventDocument", "ForkDocument", "ResumeDocument", "ReplayDocument"} <= set(with_examples) & bodies
    for name, examples in with_examples.items():
        for example in examples:
            MODELS[name].model_validate(example)


def test_every_error_is_a_problem(openapi: OpenApi) -> None:
    for name, operation in operations(openapi):
        for status, answer in operation["responses"].items():
            if (name, status) == ("get /metrics", "200"):
                assert set(answer["content"]) == {"text/plain", "application/openmetrics-text"}
                continue
            if status == "204":
                assert answer["content"] == {}, name
                continue
            if status == "304":
                assert "content" not in answer
                continue
            wanted = "application/problem+json" if status >= "400" else "application/json"
            others = {"text/html"} if "/errors" in name and status == "200" else set()
            if "/logs" in name and status == "200":
                others = {"text/plain", "text/event-stream", "application/x-ndjson"}
            assert {*answer["content"]} - others == {wanted}, name


def test_no_name_of_the_framework_shows(openapi: OpenApi) -> None:
    assert not re.search(r"HTTPValidationError|ValidationError", str(openapi))


def test_the_retryable_statuses_are_the_models() -> None:
    assert set(get_args(Retryable)) == {status.value for status in RETRYABLE}
    assert set(RetryDocument().on) == {status.value for status in Retry().on}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_says_what_it_is(name: str) -> None:
    assert MODELS[name].__doc__


def test_every_parameter_has_a_description_and_an_example_that_fits(openapi: OpenApi) -> None:
    for name, operation in operations(openapi):
        for parameter in operation.get("parameters", ()):
            where = f"{name}: {parameter['name']}"
            assert parameter.get("description"), where
            shown = [parameter.get("example"), parameter.get("examples"), parameter["schema"].get("examples")]
            assert any(each is not None for each in shown), f"{where} has no example: sandgraph/api/operations.py"


def test_every_problem_of_every_operation_names_the_codes_that_it_may_have(openapi: OpenApi) -> None:
    for name, operation in operations(openapi):
        for status, answer in operation["responses"].items():
            assert answer["description"], (name, status)
            if status >= "400":
                examples = answer["content"]["application/problem+json"]["examples"]
                assert examples, (name, status)
                for code in examples:
                    value = openapi["components"]["examples"][code]["value"]
                    assert value["code"] == code
        assert {"422", "429", "500"} <= set(operation["responses"]), name


def test_every_header_of_an_answer_is_described_with_an_example(openapi: OpenApi) -> None:
    for name, operation in operations(openapi):
        for answer in operation["responses"].values():
            for header, said in answer.get("headers", {}).items():
                assert said["description"], (name, header)
                assert said["schema"], (name, header)
