"""Landings as controls of a `Lander`: a teacher, a correction for guesses, and a check for all."""

import math
from concurrent.futures import ThreadPoolExecutor

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trc_lib import validation
from trc_lib.systems.lander import Craft, H, Lander, M, R, T, V, lengths
from trc_lib.systems.system import Controls, State
from trc_lib.teachers.powered_descent import PoweredDescent
from trc_lib.teachers.teacher import LONGEST, Answer, Teacher
from trc_lib.validation import ArrayLike, Whole

STRICT = (1.0, 0.5)      # m and m/s: how near the target counts as landed
TOLERANCE = 1e-3         # of a limit's own scale: how far it may be exceeded
MARGIN = 2e-4            # of the start's distance: how far above the glide slope it is corrected to
NEAR = 1e-3              # of the same: how near to the target a flight ends whose nodes are lifted
HELD = 1e-3              # of a thrust's limit: how near to it a thrust counts as at the limit
STRETCH = 0.15           # a change of all durations by this share counts as one by the most thrust
LIMITS = ("least_thrust", "most_thrust", "dry_mass", "most_speed", "glide_slope", "pointing")
STEP = 1e-5              # relative, for the slope in the durations
LITTLE = 1e-12           # added where limits leave too little freedom
LARGEST_STRETCH = 0.3    # of all durations in one iteration
THREADS = 2              # that solve at a time; the solver's own work runs beside Python's


class FuelOptimalLanding(Teacher):
    """Lands a `Lander` with the least fuel, in the time that needs the least.

    Args:
        craft: a `Craft`.
        horizon: number of steps, all equally long.
        success: as in `Teacher`; within 1 m and 0.5 m/s of the target, at any mass, if None.
    """

    reason = "cannot be reached with the fuel and within the limits"

    def __init__(self, craft: object = Craft(), horizon: Whole = 40, success: object = None):
        self.craft = craft
        validation.whole("horizon", horizon, 2, LONGEST)
        system = Lander(craft)
        if success is None:
            success = [STRICT[0]] * 3 + [STRICT[1]] * 3 + [1e9]
        super().__init__(system, horizon, success)
        self.program = PoweredDescent(craft, self.horizon, hold="constant")

    def parameters(self) -> dict:
        return {"craft": self.craft, "horizon": self.horizon, "success": self.success}

    def try_solve(self, initial_state: ArrayLike, target_state: ArrayLike) -> Answer:
        """As in `Teacher`. A cone program each, and then `correct`, which makes it exact.

        Raises:
            ValueError: if a target is not at rest. The mass of a target does not count.
        """
        x0, xT = validation.state_pair(initial_state, target_state, 7)
        leading, device = x0.shape[:-1], x0.device
        x0, xT = (states.reshape(-1, 7).cpu() for states in (x0, xT))
        if bool((xT[:, V] != 0).any()):
            raise ValueError("target_state moves; needs velocity 0")
        starts = x0.clone()
        starts[:, R] -= xT[:, R]
        guesses = torch.full((len(x0), self.horizon, 4), math.nan, dtype=torch.float64)
        enough = (starts[:, M] > self.craft.dry_mass).nonzero()[:, 0].tolist()
        with ThreadPoolExecutor(THREADS) as pool:
            for i, landing in zip(enough, pool.map(self.program.best, starts[enough])):
                if landing.status == "optimal":
                    guesses[i] = held(landing)
        solved = guesses.isfinite().all(dim=(1, 2))
        controls = guesses.clone()
        controls[solved] = correct(self.system, starts[solved], guesses[solved], 2)
        solved = solved & safe(check(self.system, starts, controls))
        controls[~solved] = math.nan
        return controls.reshape(*leading, *controls.shape[1:]).to(device), solved.reshape(
            leading).to(device)

    def cost(self, initial_state: State, target_state: State,
             controls: Controls) -> Float[Tensor, "..."]:
        """Kilograms of fuel, ``[...]``."""
        return self.system.fuel(controls)


def held(landing: object) -> Float[Tensor, "horizon 4"]:
    """The controls of a `Lander` that a `Landing` with held accelerations stands for."""
    steps = len(landing.thrusts)
    duration = torch.full((steps, 1), landing.time_of_flight / steps, dtype=torch.float64)
    return torch.cat([landing.thrusts, duration], dim=-1)


def correct(system: Lander, initial_state: Float[Tensor, "batch 7"],
            controls: Float[Tensor, "batch horizon 4"], iterations: int = 8
            ) -> Float[Tensor, "batch horizon 4"]:
    """Bring guesses to the target at rest, the origin, within all limits of the thrust.

    Newton's method for the final position and velocity, by the smallest change of thrusts and
    durations. Thrusts at a limit of their length only turn; the others also change their length.
    Where a flight that ends near the target has a node below the glide slope, the lowest one is
    brought above it in the same step. (Where it ends farther off, its last nodes will move with its
    end. To hold them up meanwhile would cost fuel.) After each iteration the controls are put
    `Lander.within` their limits.

    Args:
        system: a `Lander`.
        initial_state: float64, with the target in the origin.
        controls: the guesses, float64.
        iterations: how many.
    """
    x0, u = initial_state, system.within(controls)
    for _ in range(iterations):
        u = system.within(u - _newton(system, x0, u))
    return u


def _newton(system, x0, u):
    """The change that Newton's method takes from controls, ``[batch, horizon, 4]``."""
    craft, thrust, h = system.craft, u[..., T], u[..., H:]
    states = system.rollout_unchecked(x0, u)
    size, steps = lengths(thrust), torch.arange(u.shape[1]).to(u)[:, None] + 0.5
    mass, along = states[:, :-1, M:] - craft.burn_rate * size * h / 2, thrust / size  # in mid-step
    normal, node, short = _lowest(craft, x0, states)

    def slope(until):  # of a position (of the velocity if None) in the thrusts, [batch, N, 3, 3]
        ahead = 1.0 if until is None else ((until - steps) * h).clamp(min=0)
        weight = h / mass * ahead
        gained = thrust / mass * weight
        later = gained.sum(dim=1, keepdim=True) - gained.cumsum(dim=1) + gained / 2
        lighter = craft.burn_rate * h * along  # a longer thrust makes the craft lighter
        return weight[..., None] * torch.eye(3).to(u) + later[..., None] * lighter[..., None, :]

    above = (normal[:, None, None] @ slope(node[:, None, None].to(u)))         # [batch, N, 1, 3]
    slopes = torch.cat([slope(u.shape[1]), slope(None), above], dim=2)        # [batch, N, 7, 3]
    misses = torch.cat([states[:, -1, :6], short[:, None]], dim=1)            # [batch, 7]
    # thrusts at a limit of their length only turn
    at_limit = (size < craft.least_thrust * (1 + HELD)) | (size > craft.most_thrust * (1 - HELD))
    slopes = slopes - (slopes @ along[..., None]) * (at_limit * along)[:, :, None]
    # all durations together, measured as one thrust
    unit = STRETCH / craft.most_thrust
    longer = system.rollout_unchecked(x0, torch.cat([thrust, h * (1 + STEP)], dim=-1))
    moved = (longer - states) * (unit / STEP)
    risen = (normal * _at(moved, node)[:, R]).sum(dim=1, keepdim=True)
    in_time = torch.cat([moved[:, -1, :6], risen], dim=1)                     # [batch, 7]
    # the smallest change that moves the misses to zero, each measured by how easily it moves
    square = torch.einsum("bkic,bkjc->bij", slopes, slopes) + in_time[:, :, None] * in_time[:, None]
    scale = square.diagonal(dim1=1, dim2=2).sqrt()
    scale = scale.where(scale > 0, 1.0)
    square = square / scale[:, :, None] / scale[:, None] + LITTLE * torch.eye(7).to(u)
    factor = torch.linalg.solve_ex(square, misses / scale)[0].nan_to_num(0, 0, 0) / scale
    share = unit * (in_time * factor).sum(dim=1)[:, None, None]
    return torch.cat([(slopes.mT @ factor[:, None, :, None])[..., 0],
                      h * share.clamp(-LARGEST_STRETCH, LARGEST_STRETCH)], dim=-1)


def _lowest(craft, x0, states):
    """The node lowest over the glide slope: its normal, its number and what it is short of.

    The normal, ``[batch, 3]``, and what is short, ``[batch]``, are zero if the node is above, or
    the flight does not end near the target.
    """
    if craft.glide_slope is None:
        node = torch.zeros(len(x0), dtype=torch.long, device=x0.device)
        return torch.zeros_like(x0[:, R]), node, torch.zeros_like(x0[:, 0])
    over = _over(craft, states[:, 1:-1])
    height, node = over.min(dim=1)
    distance = x0[:, R].norm(dim=1)
    near = states[:, -1, R].norm(dim=1) < NEAR * distance
    node, low = node + 1, ((height < 0) & near).to(x0)
    position = _at(states, node)[:, R]
    away = position[:, :2].norm(dim=1, keepdim=True).clamp(min=1e-30)
    steep = math.tan(math.radians(craft.glide_slope))
    normal = torch.cat([-steep * position[:, :2] / away, torch.ones_like(away)], dim=1)
    return normal * low[:, None], node, (height - MARGIN * distance) * low


def _over(craft, states):
    """Metres above the glide slope, ``[..., nodes]``."""
    steep = math.tan(math.radians(craft.glide_slope))
    return states[..., 2] - steep * states[..., :2].norm(dim=-1)


def _at(states, node):
    """The states at one node of each trajectory, ``[batch, 7]``."""
    return states[torch.arange(len(states), device=states.device), node]


def check(system: Lander, initial_state: Float[Tensor, "batch 7"],
          controls: Float[Tensor, "batch horizon 4"], substeps: int = 10
          ) -> dict[str, Float[Tensor, " batch"]]:
    """Fly controls through the true dynamics, and report what they miss and violate.

    Args:
        system: a `Lander`.
        initial_state: with the target in the origin.
        controls: as they are flown.
        substeps: of each step, after each of which the limits are looked at.

    Returns:
        ``"position"`` (m) and ``"speed"`` (m/s) at the end, ``"fuel"`` (kg), ``"low"``, the largest
        depth below the glide slope (m); and the largest violation of each limit, zero if it is
        kept, as a share: of ``"least_thrust"``, ``"most_thrust"``, ``"dry_mass"`` and
        ``"most_speed"`` themselves, of ``"glide_slope"`` of the start's distance, of ``"pointing"``
        of half a turn.
    """
    craft = system.craft
    fine = torch.cat([controls[..., T], controls[..., H:] / substeps], dim=-1)
    states = system.rollout_unchecked(initial_state, fine.repeat_interleave(substeps, dim=-2))
    size, end, nothing = lengths(controls[..., T])[..., 0], states[:, -1], states[:, 0, 0] * 0
    low = angle = fast = nothing
    if craft.glide_slope is not None:
        low = -_over(craft, states).amin(dim=1)
    if craft.pointing < 180:
        side = controls[..., :2].norm(dim=-1)
        angle = torch.rad2deg(torch.atan2(side, controls[..., 2])).amax(dim=1) - craft.pointing
    if craft.most_speed is not None:
        fast = states[..., V].norm(dim=-1).amax(dim=1) / craft.most_speed - 1
    limits = {"least_thrust": 1 - size.amin(dim=1) / craft.least_thrust,
              "most_thrust": size.amax(dim=1) / craft.most_thrust - 1,
              "dry_mass": 1 - end[:, M] / craft.dry_mass, "most_speed": fast,
              "glide_slope": low / initial_state[:, R].norm(dim=1), "pointing": angle / 180}
    return {"position": end[:, R].norm(dim=1), "speed": end[:, V].norm(dim=1),
            "fuel": initial_state[:, M] - end[:, M], "low": low.clamp(min=0)} | {
        name: value.clamp(min=0) for name, value in limits.items()}


def safe(report: dict[str, Tensor], within: tuple = STRICT) -> Bool[Tensor, " batch"]:
    """Which of the plans that `check` reports on may fly.

    They end within so many metres and metres per second of the target at rest, and exceed no limit
    by more than 0.1 %.
    """
    kept = (report["position"] < within[0]) & (report["speed"] < within[1])
    for name in LIMITS:
        kept = kept & (report[name] <= TOLERANCE)
    return kept
