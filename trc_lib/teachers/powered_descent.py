"""Landings of least fuel by second-order cone programs, and the best time of flight."""

import dataclasses
import math

import numpy as np
import torch

from trc_lib import validation
from trc_lib.systems.lander import Craft

AXES = 3
UNKNOWNS = 11        # at each node: position, velocity, log of the mass, acceleration, its bound
R, V, Z, U, S = slice(0, 3), slice(3, 6), 6, slice(7, 10), 10  # their columns
GRID = 9             # times of flight that are tried before the best one is closed in on
SOLVED = ("optimal", "relaxed")
TIGHT = 1e-3         # of gravity: the slack below which the relaxation counts as tight
SHORT = 0.05         # of the least thrust: what a thrust that turns may lack between two nodes
CLOSE = 0.002        # of the time of flight: how well the best one is found
ROUGHLY = 0.02       # the same for the search with few steps
ROUGH = 10           # steps of the program that finds about where that is
PARABOLAS = 8        # through three times of flight, one after the other, in a search
NEAR = np.array([0.96, 1.0, 1.04])  # of that time: where the search goes on
SHARE = 0.9          # of the time in which all engines at full thrust would burn the whole craft


@dataclasses.dataclass(frozen=True)
class Landing:
    """The answer to one problem.

    Attributes:
        status: "optimal"; "relaxed", where the thrust falls below its least (at a node, where the
            relaxation is not tight, or between two, where it turns far in one step), and the fuel
            is only a lower bound; "infeasible", which the solver has proved; or "undecided".
        time_of_flight: s.
        states: at the N + 1 nodes, ``[N + 1, 7]``: position (m), velocity (m/s), mass (kg). NaN
            unless optimal or relaxed, as all that follows.
        accelerations: of the thrust, T / m in m/s^2: at the nodes and linear between,
            ``[N + 1, 3]``; or held in each step, ``[N, 3]``.
        fuel: kg.
        gap: kg, between the fuel and the solver's lower bound of it.
        slack: m/s^2, the largest difference between the length of an acceleration and the bound
            that the program burns fuel for; zero where the relaxation is tight.
        short: the largest share of the least thrust that a thrust lacks between two nodes; zero if
            none does. With more than 0.05 the landing is not "optimal"; more steps may help.
    """

    status: str
    time_of_flight: float
    states: torch.Tensor
    accelerations: torch.Tensor
    fuel: float = math.nan
    gap: float = math.nan
    slack: float = math.nan
    short: float = math.nan

    @property
    def thrusts(self) -> torch.Tensor:
        """N: at the nodes, ``[N + 1, 3]``; or those that, held, give held accelerations' means."""
        mass = self.states[:, -1:]
        if len(self.accelerations) < len(mass):
            burnt = mass.diff(dim=0)
            mass = burnt / mass.log().diff(dim=0)
        return mass * self.accelerations


class PoweredDescent:
    """Lands with the least fuel, by lossless convexification.

    The thrust must stay between two lengths, a set that is not convex. In its place the program
    bounds the acceleration u = T / m by a number s, |u| <= s, keeps s between the lengths, and
    burns fuel for s; at the optimum |u| = s. With z = ln m the dynamics are linear. The limits of
    s, exponentials of z, are replaced on the safe side around the mass at full thrust, which leaves
    up to some 2 % of the largest thrust unused.

    Axes: downrange, crossrange and altitude of the target, m.

    Args:
        craft: a `Craft`.
        horizon: number N of steps.
        hold: ``"linear"`` for accelerations that are linear in each step; ``"constant"`` for ones
            that are held: see `Landing.thrusts`.

    Sources: Acikmese and Ploen (2007), Convex programming approach to powered descent guidance for
    Mars landing; Blackmore, Acikmese and Scharf (2010), Minimum-landing-error powered-descent
    guidance for Mars landing using convex optimization.
    """

    def __init__(self, craft: object = Craft(), horizon: object = 40, hold: object = "linear"):
        self.craft = validation.instance("craft", craft, Craft)
        self.horizon = validation.whole("horizon", horizon, 2)
        self.hold = validation.one_of("hold", hold, ("linear", "constant"))

    def solve(self, initial_state: object, time_of_flight: object) -> Landing:
        """The landing of least fuel in a given time.

        Args:
            initial_state: position (m), velocity (m/s) and mass (kg), ``[7]``. The target is at
                rest in the origin.
            time_of_flight: s.

        Raises:
            TypeError, ValueError: for values that are not accepted.
        """
        x0 = self._state(initial_state)
        time = validation.positive("time_of_flight", time_of_flight)
        if time > (longest := self._longest(x0)):
            raise ValueError(f"time_of_flight={time:g} is not accepted; needs at most "
                             f"{longest:.4g} s, {SHARE:.0%} of the time in which full thrust "
                             "would burn the whole mass")
        return self._solve(x0, time, dry=True)

    def best(self, initial_state: object) -> Landing:
        """The landing of least fuel in the best time, which is found to 0.2 %.

        The fuel has one minimum in the time of flight. It is searched for as if the tanks were
        larger; an answer that needs more fuel than there is is "infeasible", and so is a start for
        which every time tried is. Its ``fuel`` is then what would be needed, if that is known.
        """
        x0 = self._state(initial_state)
        shortest, longest = self._shortest(x0), self._longest(x0)
        if shortest >= longest:
            return self._none("infeasible", shortest)
        everywhere = np.geomspace(shortest, longest, GRID)
        few = PoweredDescent(self.craft, min(self.horizon, ROUGH), self.hold)
        rough = few._search(x0, everywhere, ROUGHLY)
        tried = []
        if rough.status in SOLVED:
            tried.append(self._search(x0, rough.time_of_flight * NEAR, CLOSE))
            inside = NEAR.min() < tried[0].time_of_flight / rough.time_of_flight < NEAR.max()
        if not tried or tried[0].status not in SOLVED or not inside:
            tried.append(self._search(x0, everywhere, CLOSE))
        best = min(tried, key=lambda each: (each.status not in SOLVED, each.fuel))
        if best.status in SOLVED and best.fuel > x0[-1] - self.craft.dry_mass:
            return dataclasses.replace(self._none("infeasible", best.time_of_flight),
                                       fuel=best.fuel)
        return best

    def _search(self, x0, times, close):
        """The landing of least fuel between the ``times``; ``close`` is relative to its own.

        The tanks are as large as needed.
        """
        known = {}

        def fuel(time):
            if time not in known:
                known[time] = self._solve(x0, time, dry=False)
            return known[time].fuel if known[time].status in SOLVED else math.inf

        fuels = [fuel(time) for time in times]
        first = int(np.argmin(fuels))
        if math.isinf(fuels[first]):
            undecided = any(each.status == "undecided" for each in known.values())
            return self._none("undecided" if undecided else "infeasible", times[first])
        low, high = times[max(first - 1, 0)], times[min(first + 1, len(times) - 1)]
        most = 2 * x0[-1]  # in place of infinity, which the search cannot read
        for _ in range(PARABOLAS):
            lowest = _vertex(sorted((time, min(each.fuel, most)) for time, each in known.items()
                                    if each.status in SOLVED))
            if lowest is None:
                import scipy.optimize

                scipy.optimize.minimize_scalar(lambda time: min(fuel(time), most),
                                               bounds=(low, high), method="bounded",
                                               options={"xatol": close * times[first]})
                break
            if min(abs(lowest - time) for time in known) < close * lowest:
                break
            fuel(lowest)
        return min((each for each in known.values() if each.status in SOLVED),
                   key=lambda landing: landing.fuel)

    def _state(self, given):
        x0 = validation.array("initial_state", given, (7,), torch.float64)
        if x0.ndim != 1:
            raise ValueError(f"initial_state has shape {list(x0.shape)}; needs [7], one problem")
        if x0[-1] <= self.craft.dry_mass:
            raise ValueError(f"initial_state has the mass {x0[-1]:g} kg; needs more than the "
                             f"dry mass, {self.craft.dry_mass:g} kg")
        return x0.detach().cpu().numpy()

    def _longest(self, x0):
        craft = self.craft
        return SHARE * x0[-1] / (craft.burn_rate * craft.most_thrust)

    def _shortest(self, x0):
        """No landing takes less: it must brake, and cover the distance."""
        most = self.craft.most_thrust / self.craft.dry_mass + self.craft.gravity
        speed, distance = (np.linalg.norm(x0[part]) for part in (V, R))
        return max(speed / most, (2 * distance / most) ** 0.5 / 2, 1e-3 * self._longest(x0))

    def _none(self, status, time):
        nodes = self.horizon + 1
        return Landing(status, float(time), *(
            torch.full(shape, math.nan, dtype=torch.float64)
            for shape in ((nodes, 7), (nodes - (self.hold == "constant"), 3))))

    def _solve(self, x0, time, dry):
        import clarabel  # these take half a second, which not every user of this package needs
        import scipy.sparse

        units = _Units(self.craft.gravity, time)
        A, b, cones = self._program(x0, time, units, dry)
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        nothing = scipy.sparse.csc_matrix((A.shape[1], A.shape[1]))
        objective = np.zeros(A.shape[1])
        objective[UNKNOWNS * self.horizon + Z] = -1.0
        made = [getattr(clarabel, kind)(size) for kind, size in cones]
        found = clarabel.DefaultSolver(nothing, objective, A, b, made, settings).solve()
        status = {"Solved": "optimal", "PrimalInfeasible": "infeasible"}.get(
            str(found.status), "undecided")
        if status != "optimal":
            return self._none(status, time)
        x = np.array(found.x).reshape(-1, UNKNOWNS)
        mass = x0[-1] * np.exp(x[:, Z])
        states = np.column_stack([x[:, R] * units.length, x[:, V] * units.speed, mass])
        x = x if self.hold == "linear" else x[:-1]
        u = x[:, U] * self.craft.gravity
        slack = np.abs(x[:, S] * self.craft.gravity - np.linalg.norm(u, axis=1)).max()
        short = _short(u, mass, self.craft.least_thrust) if self.hold == "linear" else 0.0
        tight = slack < TIGHT * self.craft.gravity and short < SHORT
        status = "optimal" if tight else "relaxed"
        return Landing(status, float(time), torch.from_numpy(states), torch.from_numpy(u),
                       float(x0[-1] - mass[-1]),
                       float(mass[-1] * abs(found.obj_val - found.obj_val_dual)), float(slack),
                       float(short))

    def _program(self, x0, time, units, dry):
        """A, b and the cones of ``b - A x`` in the cones, in units of gravity and flight time."""
        craft, N = self.craft, self.horizon
        nodes, h = N + 1, time / N
        t = np.linspace(0, time, nodes)
        when = t if self.hold == "linear" else (t[:-1] + t[1:]) / 2  # where the limits of s hold
        full = x0[-1] - craft.burn_rate * craft.most_thrust * when   # the mass at full thrust
        lowest = np.log(full / x0[-1])
        least, most = (thrust / full / craft.gravity
                       for thrust in (craft.least_thrust, craft.most_thrust))
        build = _Rows(nodes)
        # the motion: exact for accelerations that are linear in each step, or held
        step = h / units.time
        fall = np.zeros((N, AXES))
        fall[:, 2] = -1
        k = np.arange(N)
        first, second = (1 / 3, 1 / 6) if self.hold == "linear" else (1 / 2, 0)  # of u in r
        before, after = (1 / 2, 1 / 2) if self.hold == "linear" else (1, 0)      # in v and z
        for axis in range(AXES):
            r, v, u = axis, 3 + axis, 7 + axis
            build.equal([(k, r, -1), (k + 1, r, 1), (k, v, -step), (k, u, -first * step**2),
                         (k + 1, u, -second * step**2)], fall[:, axis] * step**2 / 2)
            build.equal([(k, v, -1), (k + 1, v, 1), (k, u, -before * step),
                         (k + 1, u, -after * step)], fall[:, axis] * step)
        burn = craft.burn_rate * craft.gravity * h
        build.equal([(k, Z, -1), (k + 1, Z, 1), (k, S, before * burn), (k + 1, S, after * burn)],
                    np.zeros(N))
        if self.hold == "constant":  # those of the last node are not used
            for column in range(U.start, UNKNOWNS):
                build.equal([(np.array([N]), column, 1)], np.zeros(1))
        start = np.concatenate([x0[R] / units.length, x0[V] / units.speed, [0.0]])
        for column, value in enumerate(start):
            build.equal([(np.array([0]), column, 1)], np.array([value]))
        for column in range(6):
            build.equal([(np.array([N]), column, 1)], np.zeros(1))
        # linear limits
        k = np.arange(nodes)
        build.at_most([(k, Z, 1)], np.log1p(-craft.burn_rate * craft.least_thrust * t / x0[-1]))
        build.at_most([(k, Z, -1)], -np.log1p(-craft.burn_rate * craft.most_thrust * t / x0[-1]))
        if dry:
            build.at_most([(np.array([N]), Z, -1)], np.array([-np.log(craft.dry_mass / x0[-1])]))
        j = np.arange(len(when))

        def mass(factor):  # the logarithm of the mass at those times
            return [(j, Z, factor)] if self.hold == "linear" else [
                (j, Z, factor / 2), (j + 1, Z, factor / 2)]

        build.at_most([(j, S, 1), *mass(most)], most * (1 + lowest))
        if craft.pointing < 180:
            build.at_most([(j, U.start + 2, -1), (j, S, math.cos(math.radians(craft.pointing)))],
                          np.zeros(len(j)))
        # cones: the first row at least as long as the rest
        build.cone([[(j, S, -1)], *([(j, 7 + axis, -1)] for axis in range(AXES))], np.zeros(4))
        # s >= least (1 - d + d^2 / 2) with d = z - lowest
        line = [(j, S, -1 / least), *mass(-1)]
        build.cone([line, mass(-1), line],
                   np.stack([-0.5 - lowest, -lowest, -1.5 - lowest], axis=1))
        if craft.glide_slope is not None:
            steep = math.tan(math.radians(craft.glide_slope))
            build.cone([[(k, 2, -1)], [(k, 0, -steep)], [(k, 1, -steep)]], np.zeros(3))
        if craft.most_speed is not None:
            build.cone([[], *([(k, 3 + axis, -1)] for axis in range(AXES))],
                       np.array([craft.most_speed / units.speed, 0, 0, 0]))
        return build.whole()


def _short(u, mass, least):
    """The largest share of the least thrust that accelerations, linear in each step, lack inside.

    The shortest one between two nodes is the point of a straight line that is nearest to zero.
    """
    turn = np.diff(u, axis=0)
    length = np.maximum((turn**2).sum(1), np.finfo(float).tiny)
    where = np.clip(-(u[:-1] * turn).sum(1) / length, 0, 1)
    shortest = np.linalg.norm(u[:-1] + where[:, None] * turn, axis=1)
    thrust = shortest * (mass[:-1] + where * np.diff(mass))
    inside = (where > 0) & (where < 1)
    return np.where(inside, least - thrust, 0).max().clip(min=0) / least


def _vertex(points):
    """Where the parabola through the lowest of some points and its neighbours is lowest.

    None if the lowest point is outermost.
    """
    best = min(range(len(points)), key=lambda i: points[i][1])
    if not 0 < best < len(points) - 1:
        return None
    (a, A), (b, B), (c, C) = points[best - 1:best + 2]
    left, right = (b - a) * (B - C), (b - c) * (B - A)
    return b - ((b - a) * left - (b - c) * right) / (2 * (left - right))


class _Units:
    """Units in which positions, velocities and times of the program are of size one."""

    def __init__(self, gravity, time):
        self.time = time / 8
        self.speed = gravity * self.time
        self.length = self.speed * self.time


class _Rows:
    """The rows of a cone program, gathered kind by kind.

    A term is (nodes, column, factors): the unknown of that column at each of the nodes.
    """

    def __init__(self, nodes):
        self.width, self.count = UNKNOWNS * nodes, 0
        self.entries, self.right, self.cones = [], [], []

    def _add(self, rows, terms):
        for nodes, column, factors in terms:
            columns = UNKNOWNS * nodes + column
            factors = np.full(len(columns), factors) if np.isscalar(factors) else factors
            self.entries.append((rows[:len(columns)], columns, factors))

    def _end(self, right, cones):
        self.right.append(right)
        self.cones += cones
        self.count += len(right)

    def equal(self, terms, right):
        self._add(self.count + np.arange(len(right)), terms)
        self._end(right, [("ZeroConeT", len(right))])

    def at_most(self, terms, right):
        self._add(self.count + np.arange(len(right)), terms)
        self._end(right, [("NonnegativeConeT", len(right))])

    def cone(self, components, right):
        """One second-order cone a node; the first component bounds the length of the others."""
        size, nodes = len(components), len(next(filter(None, components))[0][0])
        for i, terms in enumerate(components):
            self._add(self.count + i + size * np.arange(nodes), terms)
        right = np.broadcast_to(right, (nodes, size)).ravel()
        self._end(right, [("SecondOrderConeT", size)] * nodes)

    def whole(self):
        import scipy.sparse

        rows, columns, values = (np.concatenate(each) for each in zip(*self.entries))
        A = scipy.sparse.csc_matrix((values, (rows, columns)), shape=(self.count, self.width))
        return A, np.concatenate(self.right), self.cones
