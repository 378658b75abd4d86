"""What tests of whole commands share with those of runs."""

from tests.experiment.conftest import no_plots, undrawn  # noqa: F401 - fixtures
