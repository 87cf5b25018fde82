"""Great Expectations on pandas, by itself: what our validation must equal."""

from contextlib import suppress

from tasks.quality.building import build, id_of
from tasks.quality.great import great_expectations, new_context, quietly
from tasks.quality.plain import plain
from tasks.quality.validation import _declared, _exception, to_pandas


class GxOnPandas:
    """Its own engine over the whole data frame, made once and asked often."""

    def __init__(self):
        self.source = new_context().data_sources.add_pandas("reference")
        self.batches = self.source.add_dataframe_asset("a").add_batch_definition_whole_dataframe("b")

    def results(self, table, suite, result_format="BASIC"):
        """The outcome of each expectation in the suite's order, as `said` tells it."""
        gx = great_expectations()
        configurations = [one.configuration for one in build(suite, _declared(table.schema))]
        with quietly():
            batch = self.batches.get_batch(batch_parameters={"dataframe": to_pandas(table)})
            outcome = batch.validate(gx.ExpectationSuite("s", configurations), result_format=result_format)
        by_id = {str(result.expectation_config.id): result for result in outcome.results}
        return [said(by_id[id_of(i)]) for i in range(len(configurations))]


def said(result):
    """What a result says: success, the message of what it could not evaluate, and everything observed."""
    with suppress(TypeError, ValueError):  # its own conversion of some values
        return bool(result.success), _exception(result), plain(result.to_json_dict()["result"])
    return bool(result.success), _exception(result), plain(result.result)
