"""The sizes and switches of the networks."""

import dataclasses

from trc_lib import checking

LARGEST = 10_000  # size or count in a network: what is beyond is a slip of the pen, and would fill the memory or never end


def check_fields(config):
    """Every field of a configuration a whole number or True or False, as its type says; raises, naming the field."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.type is int:  # a plain int, for NumPy's own would make the checkpoint unreadable
            object.__setattr__(config, field.name, checking.whole(field.name, value, at_most=LARGEST))
        else:
            checking.switch(field.name, value)


@dataclasses.dataclass(frozen=True)
class TRCConfig:
    """The sizes and switches of a `TinyRecursiveControl`; the defaults are those of the medium network.

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
        feedback: simulate the controls before each cycle and feed the final error back.
        proportional: feed the error back as its direction and the logarithm of its size, and make each correction
            proportional to that size, so that the controls rest where they arrive.
        last_cycle_gradient: let gradients flow through the last H cycle only, as TRM does.
        single_latent: one latent vector in both parts, z_H the same as z_L.
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
    feedback: bool = True
    proportional: bool = False
    last_cycle_gradient: bool = False
    single_latent: bool = False

    def __post_init__(self):
        check_fields(self)
        if self.proportional and not self.feedback:
            raise ValueError("proportional=True needs feedback=True: without an error there is nothing to be in proportion to")
