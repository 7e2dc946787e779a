"""Recall@k, MAP@R and one image a class, on descriptors that can be counted by hand."""

import numpy as np
import pytest

from tlcli.evaluation.retrieval import DEPTHS, Measured, answers, one_shot


def on_circle(*degrees: float) -> np.ndarray:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_figures_are_what_their_definitions_say() -> None:
    # From 0°: b at 2°, a at 5°, a at 9°.
    rows, labels = on_circle(0, 2, 5, 9), ("a", "b", "a", "a")
    found = answers(rows, labels)
    assert found.found[1].tolist() == [0, 0, 1], "b has no other image and asks nothing"
    assert found.found[2].tolist() == [1, 1, 1]
    # 0°: b a → (0 + 1/2)/2;  5°: b a → the same;  9°: a b → (1 + 0)/2.
    assert found.precision.tolist() == [0.25, 0.25, 0.5]
    assert found.measured == pytest.approx((1 / 3, 1 / 3))


def test_as_counted_one_by_one() -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal((60, 8))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    labels = [f"c{place}" for place in random.integers(0, 7, 60)] + []
    found = answers(rows, labels)
    for row in range(60):
        order = [n for n in np.argsort(-(rows @ rows[row]), kind="stable") if n != row]
        right = [labels[n] == labels[row] for n in order]
        others = sum(right)
        for k in DEPTHS:
            assert found.found[k][row] == any(right[:k])
        terms = [sum(right[: n + 1]) / (n + 1) * right[n] for n in range(others)]
        assert found.precision[row] == pytest.approx(sum(terms) / others)


def test_more_neighbours_find_more_and_intervals_hold_the_figure() -> None:
    random = np.random.default_rng(1)
    labels = tuple(np.repeat(["a", "b", "c", "d"], 12).tolist())
    centres = np.repeat(random.standard_normal((4, 6)), 12, axis=0)
    rows = centres + 1.5 * random.standard_normal((48, 6))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    plain = Measured.of("plain", rows, labels)
    found = plain.ranking
    values = [found.recall[k].value for k in DEPTHS]
    assert values == sorted(values)
    assert values[0] < 1
    for figure in (*found.recall.values(), found.map_at_r, found.one_shot):
        assert figure.interval[0] <= figure.value <= figure.interval[1]
    assert found.recall[1].interval[0] < found.recall[1].interval[1]
    nothing = plain.over(plain)
    assert (nothing.map_at_r.value, nothing.map_at_r.interval) == (0, [0, 0])
    clear = Measured.of("clear", centres.astype(np.float32), labels).over(plain)
    assert clear.map_at_r.interval[0] > 0


def test_one_image_a_class_names_the_others() -> None:
    rows, labels = on_circle(0, 1, 90, 91, 200), ("a", "a", "b", "b", "alone")
    assert one_shot(rows, labels).tolist() == [1.0] * 20
    mixed = on_circle(0, 90, 1, 91, 200)
    assert one_shot(mixed, labels).max() < 1


def test_fewer_images_than_neighbours_are_no_obstacle() -> None:
    found = answers(on_circle(0, 1, 90), ("a", "a", "b"))
    assert {k: found.found[k].tolist() for k in DEPTHS} == {k: [1, 1] for k in DEPTHS}
