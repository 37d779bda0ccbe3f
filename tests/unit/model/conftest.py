"""Networks and problems that the tests of the model share."""

import pytest

from tests.unit.model.by_hand import SMALL
from trc_lib.model import FinalError, TinyRecursiveControl
from trc_lib.systems import DoubleIntegrator


@pytest.fixture
def problems(dataset):
    return dataset.initial_states[:8].float(), dataset.target_states[:8].float()


@pytest.fixture
def scaled(dataset):
    """Makes a tiny network with the scaling of a dataset, so that a forgotten scale shows."""
    def make(network=TinyRecursiveControl, feedback=FinalError, system=None, **changes):
        system = DoubleIntegrator() if system is None else system
        model = network.create_two_level_small(
            system, feedback=feedback(system), **SMALL | changes)
        model.set_scaling(dataset)
        return model
    return make
