"""What is said of a training that was done again: `same bytes` only where everything agrees."""

import pytest

from tasks.domain.reproduction import COMPARED, Comparison, differences, verdict

HERE = dict.fromkeys(COMPARED, "x") | {"workers": 1}
SAME, NEAR, FAR = (Comparison(*one, 0.001, 9) for one in ((True, 0.0), (False, 0.0005), (False, 0.2)))


@pytest.mark.parametrize(
    ("then", "workers", "comparison", "said"),
    [
        (HERE, 1, SAME, "same bytes"),
        (HERE, 1, NEAR, "different"),  # where the bytes must be the same, near is not enough
        (HERE | {"threads": 4}, 1, SAME, "within tolerance"),
        (HERE | {"lock": "y"}, 1, NEAR, "within tolerance"),
        (HERE | {"lock": "y"}, 1, FAR, "different"),
        (HERE | {"workers": 2}, 2, SAME, "within tolerance"),
        ({}, 1, SAME, "within tolerance"),
        (HERE | {"code": "y"}, 1, Comparison(False, float("nan"), 0.001, 9), "different"),
    ],
)
def test_the_bytes_are_called_the_same_only_where_everything_agrees_and_one_worker_trained(
    then, workers, comparison, said
):
    assert verdict(differences(then, HERE), workers, comparison)[0] == said


def test_workers_that_add_up_in_no_fixed_order_promise_no_bytes_even_in_the_same_environment():
    several = HERE | {"workers": 4}
    assert verdict(differences(several, several), 4, SAME)[0] == "within tolerance"


def test_every_difference_is_named_and_what_was_not_recorded_is_one():
    found = differences({**HERE, "threads": 4, "python": None}, HERE)
    assert [(one.name, one.then, one.now) for one in found] == [("python", None, "x"), ("threads", 4, "x")]
    assert "the environment differs (python, threads)" in verdict(found, 1, NEAR)[1]
    unknown = HERE | {"lock": None}  # on neither side: an installed package has no lock file beside it
    assert [one.name for one in differences(unknown, unknown)] == ["lock"]
