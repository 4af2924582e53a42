"""Records: what `dataclasses` would do."""

from __future__ import annotations

import pytest

from sandgraph_runner.records import Record, record, replace


@record
class Point(Record):
    x: int
    y: int = 2


@record
class Line(Record):
    points: tuple[Point, ...] = ()


def test_values_by_place_by_name_and_by_default() -> None:
    assert (Point(1).x, Point(1).y, Point(1, 3).y, Point(y=4, x=5).x) == (1, 2, 3, 5)
    assert repr(Point(1)) == "Point(x=1, y=2)"


@pytest.mark.parametrize(("args", "named"), [((), {}), ((1, 2, 3), {}), ((1,), {"z": 1}), ((1,), {"x": 1})])
def test_what_does_not_fit(args: tuple[int, ...], named: dict[str, int]) -> None:
    with pytest.raises(TypeError, match="Point"):
        Point(*args, **named)


def test_equality_and_hash() -> None:
    assert Point(1) == Point(1, 2)
    assert Point(1) != Point(2)
    assert Point(1) != (1, 2)
    assert len({Point(1), Point(1, 2), Point(3)}) == 2


def test_it_cannot_be_changed() -> None:
    point = Point(1)
    with pytest.raises(AttributeError, match="Point cannot be changed"):
        point.x = 2  # type: ignore[misc]
    assert replace(point, x=2) == Point(2)
    assert point == Point(1)


def test_it_can_be_matched() -> None:
    match Point(1, 7):
        case Point(x, y):
            assert (x, y) == (1, 7)


def test_the_json_form_is_made_of_objects_and_lists() -> None:
    assert Line((Point(1), Point(2))).to_meta() == {"points": [{"x": 1, "y": 2}, {"x": 2, "y": 2}]}
