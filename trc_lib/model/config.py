"""The sizes of the networks."""

import dataclasses

from trc_lib import validation

LARGEST = 10_000  # accepted size or count in a network


def check_fields(config: object) -> None:
    """Raise an error naming a field that is not a whole number from 1 to `LARGEST`."""
    for field in dataclasses.fields(config):
        value = validation.whole(field.name, getattr(config, field.name), at_most=LARGEST)
        object.__setattr__(config, field.name, value)  # an int: checkpoints hold no NumPy numbers


@dataclasses.dataclass(frozen=True)
class TRCConfig:
    """The sizes of a `TinyRecursiveControl`; the defaults are those of the medium network.

    Attributes:
        state_dim: components of the state, n.
        control_dim: components of the control, m.
        horizon: number of control steps, N.
        latent_dim: width of z_initial, z_H and z_L.
        block_layers: residual layers in the shared block.
        block_hidden: width inside each layer of the block.
        head_hidden: width inside the encoder, the initial generator and the decoder.
        H_cycles: outer cycles, each of which corrects the controls once.
        L_cycles: inner steps in each outer cycle.
    """

    state_dim: int = 2
    control_dim: int = 1
    horizon: int = 15
    latent_dim: int = 128
    block_layers: int = 2
    block_hidden: int = 384
    head_hidden: int = 384
    H_cycles: int = 3
    L_cycles: int = 4

    def __post_init__(self):
        check_fields(self)
