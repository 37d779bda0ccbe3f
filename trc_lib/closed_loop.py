"""In closed loop: plan, act, look where it led, plan again."""

import torch

from trc_lib import checking

LONGEST = 100_000  # steps of a drive


@torch.no_grad()
def closed_loop(planner, plant, initial_state, target_state, steps, every=1, noise=0.0, seed=0):
    """Drive a plant by plans that are made anew from the state that was really reached.

    Every plan reaches over its whole horizon again (a receding horizon); ``every`` equal to ``steps`` is open loop.

    Args:
        planner: a function from states and targets ``[n, state_dim]`` to controls ``[n, horizon, control_dim]``, such as
            ``teacher.solve`` or ``model.solve``.
        plant: the `System` that is really driven; its limits cut what the planner asks for.
        initial_state, target_state: ``[n, state_dim]``.
        steps: how many steps to drive.
        every: steps of each plan that are carried out before the next is made.
        noise: standard deviation of what is added to each component of the state after every step.
        seed: of the noise; the same seed, the same noise, whoever plans.

    Returns:
        states ``[n, steps + 1, state_dim]`` and controls ``[n, steps, control_dim]``, in float64.

    Raises:
        ValueError: if a plan is too short to be carried out until the next one, or has another shape.
    """
    checking.like("planner", planner, "a function", "__call__")
    checking.like("plant", plant, "a System", "advance", "control_limit")
    state, target = checking.state_pair(initial_state, target_state, plant.state_dim)
    steps, every = checking.whole("steps", steps, at_most=LONGEST), checking.whole("every", every)
    noise = checking.positive("noise", noise, or_zero=True)
    generator = torch.Generator().manual_seed(checking.whole("seed", seed, at_least=0))
    states, controls = [state], []
    for step in range(steps):
        if step % every == 0:
            plan = checking.array("planner's controls", planner(state, target), (None, plant.control_dim), torch.float64)
            if plan.shape[:-2] != state.shape[:-1] or plan.shape[-2] < min(every, steps - step):
                raise ValueError(f"planner gave controls {list(plan.shape)} for states {list(state.shape)}; "
                                 f"needs one plan a state, of at least every={every} steps")
        control = plan[..., step % every, :]
        if plant.control_limit is not None:
            limit = plant.control_limit.to(control)
            control = control.clamp(-limit, limit)
        disturbance = torch.randn(state.shape, generator=generator, dtype=torch.float64)   # drawn without noise, too: same order
        state = plant.advance(state, control) + noise * disturbance.to(state)
        states.append(state)
        controls.append(control)
    states, controls = torch.stack(states, dim=-2), torch.stack(controls, dim=-2)
    return checking.result("the states", states, "initial_state, target_state or noise is"), controls
