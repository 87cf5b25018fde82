"""`millrace why`: one prediction with all that it came from, and where a row is that has none."""

from __future__ import annotations

from datetime import date

import pytest

from tasks.absent import whereabouts
from tasks.command.explain import why_report
from tasks.domain.explained import WhyResult
from tasks.errors import NotFoundError, UsageError
from tasks.explain import why
from tasks.lake.vacuum import vacuum
from tasks.settings import load_pipeline
from tests.support.pipelines import deliver
from tests.support.project import Project
from tests.support.rows import later, replace_again

NAME, DAY = "late_orders", "2024-02-03"
ORDER = "20240203-007"
PREDICTIONS = f"{NAME}/predictions"
BAD = "x-1,s1,5000\n"


@pytest.fixture(scope="module")
def scored(first_champion: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A day scored without reasons, and the next with two of each prediction; a row of the first was quarantined."""
    project = first_champion.copy(tmp_path_factory.mktemp("why") / "project")
    deliver(project.incoming, date(2024, 2, 1), date(2024, 2, 4))
    orders = project.incoming / "orders" / f"{DAY}.csv"
    orders.write_text(orders.read_text() + BAD)
    project.load({"orders": "2024-02-01..2024-02-04", "arrivals": "2024-02-01..2024-02-03"})
    project.run("score", NAME, DAY, run_id="nightly")
    spec = project.settings.config / "pipelines" / NAME / "pipeline.yaml"
    spec.write_text(spec.read_text() + "score: {reasons: 2}\n")
    project.run("score", NAME, "2024-02-04")
    return project


def ask(project: Project, order: str = ORDER, day: str = DAY) -> WhyResult:
    spec = load_pipeline(project.settings.config, NAME)
    return why(spec=spec, partition=spec.partition(day), entity={"order_id": order}, lake=project.lake, threads=1)


def test_a_prediction_is_told_with_its_row_model_promotion_and_snapshots(scored: Project):
    found = ask(scored)
    (row,) = [row for row in scored.rows(PREDICTIONS, (DAY,)) if row["order_id"] == ORDER]
    meta = scored.entry(PREDICTIONS, DAY).meta
    assert found.prediction == {"order_id": ORDER, "score": row["score"], "model_version": 1}
    published = found.published
    assert (published.run_id, published.actor, published.version) == ("nightly", "tester", 1)
    assert (published.driving, published.rows, published.quarantined, published.filtered) == (41, 40, 1, {})
    assert found.snapshots == meta["inputs"] and published.as_of == meta["as_of"]
    assert (found.model.version, found.model.digest) == (1, meta["model_digest"])
    assert found.model.train[1] < found.model.holdout[0] and found.model.environment["threads"] == 2
    event = scored.lake.ledger(NAME).events()[0]
    promotion = found.promotion
    assert (promotion.number, promotion.digest, promotion.actor) == (1, event["digest"], "tester")
    assert promotion.reason == event["reason"] and promotion.seen["evidence"]["metric"] == "auc"
    assert scored.lake.objects.exists(promotion.evidence_at) and scored.lake.objects.exists(promotion.event)
    assert found.notes == ()


def test_features_are_those_that_were_scored_and_reasons_that_were_not_stored_add_up_to_the_margin(scored: Project):
    import numpy as np

    found = ask(scored)
    view = scored.entry(PREDICTIONS, DAY).meta["view"]
    (row,) = [r for r in scored.rows(f"{NAME}/features/{view}", (DAY,)) if r["order_id"] == ORDER]
    assert found.features == {name: row[name] for name in ("amount", "size")}
    assert found.reasons_from.startswith("computed now")
    assert {one.feature for one in found.reasons} == {"amount", "size"}
    assert abs(found.reasons[0].contribution) >= abs(found.reasons[1].contribution)
    assert found.reasons[0].contribution
    # of another row of the day: the bias is common, so margins differ as the sums of contributions do
    other = ask(scored, "20240203-008")
    margin = [float(np.log(one.prediction["score"] / (1 - one.prediction["score"]))) for one in (found, other)]
    sums = [sum(one.contribution for one in each.reasons) for each in (found, other)]
    assert margin[0] - margin[1] == pytest.approx(sums[0] - sums[1], abs=1e-4)


def test_reasons_that_were_stored_are_told_as_they_stand(scored: Project):
    found = ask(scored, "20240204-007", "2024-02-04")
    (row,) = [r for r in scored.rows(PREDICTIONS, ("2024-02-04",)) if r["order_id"] == "20240204-007"]
    assert found.reasons_from == "stored with the prediction"
    assert [vars(one) for one in found.reasons] == row["reasons"] and "reasons" not in found.prediction


def test_the_validations_are_of_every_delivery_that_was_visible_and_of_no_other(scored: Project):
    found = ask(scored)
    by_source = {name: [one for one in found.validations if one.source == name] for name in ("orders", "arrivals")}
    # three days of lookback; the night's arrivals are those of the day before
    assert [one.key for one in by_source["orders"]] == ["2024-01-31", "2024-02-01", "2024-02-02", DAY]
    assert [one.key for one in by_source["arrivals"]] == ["2024-01-31", "2024-02-01", "2024-02-02"]
    today = by_source["orders"][-1]
    assert (today.rows_in, today.clean, today.quarantined, today.status) == (41, 40, 1, "published")
    assert scored.lake.objects.exists(today.docs) and today.suite and today.statistics
    text = why_report(found)
    assert f"orders {DAY} revision 1" in text and "1 of 41 rows quarantined" in text and today.docs in text


def test_a_row_without_a_prediction_is_looked_for_where_it_went(scored: Project):
    with pytest.raises(NotFoundError, match="quarantined: expect_column_values_to_be_between on amount") as caught:
        ask(scored, "x-1")
    assert "(line 42 of " in str(caught.value) and not caught.value.retry
    with pytest.raises(NotFoundError, match=f"no delivery of orders .* .looked in {DAY} revision 1"):
        ask(scored, "nobody")
    with pytest.raises(NotFoundError, match="2024-02-02 is not published .*millrace run pin"):
        ask(scored, day="2024-02-02")


def test_a_row_that_is_clean_and_was_not_returned_by_the_sql_was_filtered(scored: Project):
    spec = load_pipeline(scored.settings.config, NAME)
    meta = scored.entry(PREDICTIONS, DAY).meta
    request = {"spec": spec, "partition": spec.partition(DAY), "meta": meta, "lake": scored.lake}
    said = whereabouts(entity={"order_id": ORDER}, **request)
    assert said.startswith("it was filtered: it is in sources/orders/clean@")
    with pytest.raises(UsageError, match="'much' is no double as amount is"):
        whereabouts(entity={"amount": "much"}, **request)


def test_the_command_answers_in_text_and_json_and_knows_wrong_words(scored: Project):
    text = scored.command("why", NAME, f"order_id={ORDER}", DAY)
    assert text.code == 0, text.err
    titles = [line for line in text.out.splitlines() if line and not line.startswith(" ")]
    assert titles[0] == f"{NAME} {DAY}, order_id {ORDER}" and len(titles) == 10
    value = scored.command("why", NAME, ORDER, DAY, "--json").json
    assert value["model"]["version"] == 1 and value["promotion"]["number"] == 1
    gone = scored.command("why", NAME, "nobody", DAY)
    assert gone.code == 1 and "has no prediction of order_id=nobody" in gone.err


def test_what_is_no_longer_kept_is_noted_and_the_rest_is_told(champion: Project):
    deliver(champion.incoming, date(2024, 2, 1), date(2024, 2, 3))
    champion.load({"orders": "2024-02-01..2024-02-03", "arrivals": "2024-02-01..2024-02-02"})
    champion.run("score", NAME, DAY)
    version = champion.entry(PREDICTIONS, DAY).meta["view"]
    replace_again(champion.table(f"{NAME}/features/{version}"), (DAY,))
    vacuum(champion.table(f"{NAME}/features/{version}"), before=later(1))
    for info in champion.lake.objects.list("evidence/"):
        champion.lake.objects.put(info.key, b"{}")
    found = ask(champion)
    assert found.features is None and found.reasons == () and found.prediction["order_id"] == ORDER
    assert "no longer kept" in found.notes[0] and "not what was written" in found.notes[1] and len(found.notes) == 2
    assert found.promotion.seen is None and "no longer kept" in why_report(found)
