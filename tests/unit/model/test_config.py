"""Sizes are whole numbers."""

import pytest

from trc_lib.model import TRCConfig


@pytest.mark.parametrize(("change", "error", "reason"), [
    ({"H_cycles": 0}, ValueError, "H_cycles=0 is too small"),
    ({"latent_dim": 16.0}, TypeError, r"latent_dim=16\.0 is not a whole number"),
    ({"latent_dim": True}, TypeError, "latent_dim=True is not a whole number"),
])
def test_a_configuration_that_makes_no_sense_is_refused(change, error, reason):
    with pytest.raises(error, match=reason):
        TRCConfig(**change)
