"""Landings of least fuel: published figures, cvxpy, and SciPy's integrator."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.integrate

from tests.unit.teachers.flying import fly
from trc_lib.systems import Craft
from trc_lib.teachers.powered_descent import PoweredDescent

cvxpy = pytest.importorskip("cvxpy")

START = (2000.0, 0, 1500, 100, 0, -75, 1905)
LARGE = Craft(3.71, 1700.0, 4800.0, 19_200.0, 5e-4, 30.0, 180.0, 90.0)
LARGE_START = (450.0, -330, 2400, -40, 10, -10, 2000)
CRAFTS = {
    "none": Craft(), "ground": Craft(glide_slope=0), "slope": Craft(glide_slope=4),
    "all": Craft(glide_slope=4, pointing=40, most_speed=138.9), "large": LARGE,
    "upright": dataclasses.replace(LARGE, pointing=30)}
STARTS = {"large": LARGE_START, "upright": LARGE_START, "all": (2000.0, 0, 1500, 80, 30, -75, 1905)}


def solved(name, horizon, time=None):
    problem, start = PoweredDescent(CRAFTS[name], horizon), STARTS.get(name, START)
    return problem.best(start) if time is None else problem.solve(start, time)


# ---------------------------------------------------------------- published and recomputed figures

@pytest.mark.parametrize(("name", "horizon", "time", "fuel"), [
    ("none", 144, 72.0, 387.92),    # Acikmese and Ploen print 387.9
    ("slope", 144, 81.0, 399.43),   # they print 399.5
    ("large", 100, 43.7, 198.87), ("upright", 100, 55.5, 219.07)])
def test_the_fuel_in_a_given_time_is_that_of_the_literature(name, horizon, time, fuel):
    landing = solved(name, horizon, time)
    assert landing.status == "optimal" and landing.time_of_flight == time
    assert landing.fuel == pytest.approx(fuel, abs=0.05) and landing.gap < 1e-3


@pytest.mark.parametrize(("name", "start", "time", "fuel"), [
    ("none", START, 72.2, 387.94), ("ground", START, 74.5, 390.44), ("slope", START, 77.7, 398.19),
    ("slope", (2000, 500, 1500, 100, 0, -75, 1905), 77.9, 398.88),  # Blackmore prints 399.4 at 78.4
    ("large", LARGE_START, 43.7, 198.87), ("upright", LARGE_START, 55.5, 219.07)])
def test_the_best_time_of_flight_is_that_of_the_literature(name, start, time, fuel):
    landing = PoweredDescent(CRAFTS[name], 80).best(start)
    assert landing.time_of_flight == pytest.approx(time, abs=0.6)
    assert landing.fuel == pytest.approx(fuel, abs=0.2)
    for other in (time - 3, time + 3):  # it is the best: others need more
        there = PoweredDescent(CRAFTS[name], 80).solve(start, other)
        assert there.status == "infeasible" or there.fuel > landing.fuel


def test_a_toolbox_that_holds_accelerations_needs_more_and_as_much_with_short_steps():
    """It prints 373.72 kg for steps of 1 s; its limits hold at the beginning of each."""
    craft, start, time = CRAFTS["all"], np.array(STARTS["all"]), 75.0

    def held(N):
        h, burn, mass = time / N, craft.burn_rate, start[6]
        u, s, z = cvxpy.Variable((N, 3)), cvxpy.Variable(N), cvxpy.Variable(N + 1)
        r, v = cvxpy.Variable((N + 1, 3)), cvxpy.Variable((N + 1, 3))  # km, 100 m/s
        z0 = np.log(mass - burn * craft.most_thrust * np.linspace(0, time, N + 1))
        d, pull = (z - z0)[:-1], u - np.array([[0, 0, craft.gravity]])
        rules = [r[0] == start[:3] / 1e3, v[0] == start[3:6] / 100, z[0] == np.log(mass),
                 r[N] == 0, v[N] == 0, v[1:] == v[:-1] + h / 100 * pull,
                 r[1:] == r[:-1] + h / 10 * v[:-1] + h**2 / 2e3 * pull,
                 z[1:] == z[:-1] - burn * h * s, cvxpy.norm(u, axis=1) <= s, d >= 0,
                 s <= cvxpy.multiply(craft.most_thrust * np.exp(-z0[:-1]), 1 - d),
                 s >= cvxpy.multiply(craft.least_thrust * np.exp(-z0[:-1]), 1 - d + d**2 / 2),
                 u[:, 2] >= np.cos(np.radians(craft.pointing)) * s,
                 cvxpy.norm(v, axis=1) <= craft.most_speed / 100,
                 r[:, 2] >= np.tan(np.radians(4)) * cvxpy.norm(r[:, :2], axis=1)]
        problem = cvxpy.Problem(cvxpy.Maximize(z[N]), rules)
        problem.solve(cvxpy.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
        return mass - np.exp(problem.value)

    ours = solved("all", 75, time).fuel
    assert held(75) == pytest.approx(373.72, abs=0.2)
    assert ours < held(300) < held(75) and held(300) == pytest.approx(ours, abs=0.15)


def test_a_start_that_needs_more_fuel_than_there_is_is_proved_infeasible():
    start = (2000, 0, 1500, 100, 40, -75, 1905)
    problem = PoweredDescent(CRAFTS["slope"], 78)
    for time in (75, 77.6, 80, 85):
        landing = problem.solve(start, time)
        assert landing.status == "infeasible" and math.isnan(landing.fuel)
        assert bool(landing.states.isnan().all())
    best = problem.best(start)
    assert best.status == "infeasible" and best.fuel == pytest.approx(408.8, abs=0.5)


def test_without_the_cant_angle_the_fuel_is_that_of_no_lander():
    """One paper prints 4.53e-4 s/m, which forgets it."""
    wrong = dataclasses.replace(CRAFTS["slope"], burn_rate=4.53e-4)
    assert CRAFTS["slope"].burn_rate == pytest.approx(5.08628e-4, rel=1e-5)
    saved = solved("slope", 40, 80).fuel - PoweredDescent(wrong, 40).solve(START, 80).fuel
    assert saved > 20


# ---------------------------------------------------------------- held thrusts, against IPOPT

def by_ipopt(craft, start, time, guess):
    """Fuel in kg of held thrusts, by the nonconvex problem itself: no relaxation, no logarithm."""
    N = len(guess)
    casadi = pytest.importorskip("casadi")
    opti, h = casadi.Opti(), time / N
    x, T = opti.variable(7, N + 1), opti.variable(3, N)      # in hundreds of m, kg and N
    r, v, m, u = casadi.MX.sym("r", 3), casadi.MX.sym("v", 3), casadi.MX.sym("m"), \
        casadi.MX.sym("u", 3)
    pull = u / m / 100 - casadi.vertcat(0, 0, craft.gravity / 100)
    slope = casadi.Function("f", [casadi.vertcat(r, v, m), u], [casadi.vertcat(
        v, pull, -craft.burn_rate * casadi.norm_2(u))])
    opti.subject_to(x[:, 0] == np.array(start) / 100)
    opti.subject_to(x[:6, N] == 0)
    opti.subject_to(x[6, N] >= craft.dry_mass / 100)
    for k in range(N):
        at = x[:, k]
        for _ in range(3):
            k1 = slope(at, T[:, k])
            k2 = slope(at + h / 6 * k1, T[:, k])
            k3 = slope(at + h / 6 * k2, T[:, k])
            at = at + h / 18 * (k1 + 2 * (k2 + k3) + slope(at + h / 3 * k3, T[:, k]))
        size = casadi.sumsqr(T[:, k])
        opti.subject_to(x[:, k + 1] == at)
        opti.subject_to(opti.bounded((craft.least_thrust / 100) ** 2, size,
                                     (craft.most_thrust / 100) ** 2))
        if craft.pointing < 180:
            opti.subject_to(T[2, k] >= np.cos(np.radians(craft.pointing)) * casadi.sqrt(size))
        if craft.glide_slope is not None and k:
            opti.subject_to(x[2, k] >= np.tan(np.radians(craft.glide_slope))
                            * casadi.sqrt(casadi.sumsqr(x[:2, k]) + 1e-12))
        opti.set_initial(T[:, k], guess[k] / 100)
        opti.set_initial(x[:, k], np.array([*np.array(start[:6]) * (1 - k / N), start[6]]) / 100)
    opti.set_initial(x[6, N], start[6] / 100)
    opti.minimize(-x[6, N])
    opti.solver("ipopt", {"print_time": False, "ipopt.print_level": 0, "ipopt.sb": "yes"})
    return start[6] - 100 * float(opti.solve().value(x[6, N]))


@pytest.mark.parametrize(("name", "time"), [("none", 72), ("slope", 60), ("upright", 58)])
def test_held_thrusts_are_the_optimum_of_the_nonconvex_problem(name, time):
    craft, start = CRAFTS[name], STARTS.get(name, START)
    start = (1500.0, 300, 1400, 40, 10, -60, 1905) if name == "slope" else start
    landing = PoweredDescent(craft, 15, "constant").solve(start, time)
    assert landing.status == "optimal"
    noise = 1 + 0.1 * np.random.default_rng(0).normal(size=(15, 3))
    other = by_ipopt(craft, start, time, landing.thrusts.numpy() * noise)
    assert landing.fuel == pytest.approx(other, abs=0.3)


@pytest.mark.parametrize("name", ["none", "slope", "upright"])
def test_held_thrusts_keep_their_limits_and_lead_where_the_accelerations_do(name):
    craft, start = CRAFTS[name], STARTS.get(name, START)
    landing = PoweredDescent(craft, 40, "constant").best(start)
    size = landing.thrusts.norm(dim=1)
    assert float(size.min()) > craft.least_thrust * (1 - 1e-4)
    assert float(size.max()) < craft.most_thrust * (1 + 1e-4)
    flown = fly(craft, landing)
    assert flown["position"] < 1e-4 and flown["speed"] < 1e-6 and landing.slack < 1e-4
    assert flown["fuel"] == pytest.approx(landing.fuel, abs=1e-3)
    linear = PoweredDescent(craft, 40).best(start)
    assert landing.fuel == pytest.approx(linear.fuel, abs=1.5)


# ---------------------------------------------------------------- against cvxpy

def by_cvxpy(craft, start, time, N):
    """Fuel in kg: another scaling, another statement of the same limits, cvxpy's own canon."""
    h, g = time / N, np.array([0, 0, -craft.gravity])
    r, v, u = (cvxpy.Variable((N + 1, 3)) for _ in range(3))
    z, s = cvxpy.Variable(N + 1), cvxpy.Variable(N + 1)
    t = np.linspace(0, time, N + 1)
    m = start[6] - craft.burn_rate * craft.most_thrust * t
    d = z - np.log(m)
    rules = [100 * r[0] == start[:3], v[0] == start[3:6], z[0] == np.log(start[6]),
             r[N] == 0, v[N] == 0, z[N] >= np.log(craft.dry_mass),
             s <= cvxpy.multiply(craft.most_thrust / m, 1 - d), d >= 0,
             s >= cvxpy.multiply(craft.least_thrust / m, 1 - d + cvxpy.square(d) / 2),
             z <= np.log(start[6] - craft.burn_rate * craft.least_thrust * t),
             cvxpy.norm(u, axis=1) <= s, cvxpy.norm(v, axis=1) <= (craft.most_speed or 1e4),
             u[:, 2] >= np.cos(np.radians(craft.pointing)) * s]
    if craft.glide_slope is not None:
        rules.append(r[:, 2] >= np.tan(np.radians(craft.glide_slope))
                     * cvxpy.norm(r[:, :2], axis=1))
    for k in range(N):
        rules += [v[k + 1] == v[k] + h * (u[k] + u[k + 1]) / 2 + h * g,
                  100 * r[k + 1] == (100 * r[k] + h * v[k]
                                     + h**2 * (u[k] / 3 + u[k + 1] / 6 + g / 2)),
                  z[k + 1] == z[k] - craft.burn_rate * h * (s[k] + s[k + 1]) / 2]
    program = cvxpy.Problem(cvxpy.Maximize(z[N]), rules)
    program.solve(solver="CLARABEL")
    return start[6] - np.exp(z.value[N]) if program.status == "optimal" else program.status


@pytest.mark.parametrize(("name", "time"), [("none", 70), ("slope", 82), ("all", 75),
                                            ("all", 95), ("upright", 60), ("upright", 50)])
def test_it_is_the_optimum_of_the_program_in_cvxpy(name, time):
    start = np.array(STARTS.get(name, START), dtype=float)
    expected = by_cvxpy(CRAFTS[name], start, time, 15)
    landing = solved(name, 15, time)
    if landing.status == "optimal":
        assert landing.fuel == pytest.approx(expected, abs=1e-3)
    else:
        assert landing.status == expected == "infeasible"


# ---------------------------------------------------------------- what a landing is

@pytest.fixture(scope="module", params=["none", "slope", "all", "upright"])
def landing(request):
    return CRAFTS[request.param], solved(request.param, 60)


def test_the_relaxation_is_tight_and_the_thrust_within_its_limits(landing):
    craft, found = landing
    thrust = found.thrusts.norm(dim=1).numpy()
    assert found.slack < 1e-5 * craft.gravity
    assert thrust.max() < craft.most_thrust * (1 + 1e-5)
    assert thrust.min() > craft.least_thrust * (1 - 1e-5)
    assert thrust.max() > 0.97 * craft.most_thrust  # less the margin of its replacement
    assert np.isclose(thrust, craft.least_thrust, rtol=2e-2).any() or craft.pointing < 180


def test_flown_through_the_true_dynamics_it_lands_and_keeps_its_limits(landing):
    craft, found = landing
    flown = fly(craft, found)
    assert flown["position"] < 1e-3 and flown["speed"] < 1e-4
    assert 0.998 * found.fuel < flown["fuel"] < found.fuel + 1e-6
    assert flown["most_thrust"] < 1e-3 and flown["least_thrust"] < 0.02
    assert flown["dry_mass"] == 0 and flown["glide_slope"] < 0.7
    assert flown["pointing"] < 1e-3 and flown["most_speed"] < 1e-3


def test_the_flight_is_that_of_scipys_integrator(landing):
    craft, found = landing
    nodes = np.linspace(0, found.time_of_flight, 61)
    u = found.accelerations.numpy()

    def slope(t, x):
        now = np.array([np.interp(t, nodes, u[:, axis]) for axis in range(3)])
        return [*x[3:6], *(now - [0, 0, craft.gravity]),
                -craft.burn_rate * x[6] * np.linalg.norm(now)]

    path = scipy.integrate.solve_ivp(slope, (0, nodes[-1]), found.states[0].numpy(), rtol=1e-9,
                                     atol=1e-6, max_step=nodes[1] / 4)
    flown = fly(craft, found)
    assert found.states[0, 6] - path.y[6, -1] == pytest.approx(flown["fuel"], abs=1e-3)
    assert np.linalg.norm(path.y[:3, -1]) < 0.05


def test_it_says_how_far_limits_are_violated(landing):
    craft, found = landing
    harder = dataclasses.replace(
        craft, least_thrust=1.2 * craft.least_thrust, most_thrust=0.9 * craft.most_thrust,
        most_speed=50.0, pointing=10.0, glide_slope=60, dry_mass=found.states[-1, 6].item() + 5)
    flown, path = fly(harder, found), found.states.numpy()
    assert flown["most_thrust"] == pytest.approx(1 / 0.9 - 1, abs=0.035)
    assert flown["least_thrust"] == pytest.approx(1 - 1 / 1.2, abs=0.02) or craft.pointing < 180
    assert flown["dry_mass"] == pytest.approx(5, abs=0.6)
    assert flown["most_speed"] == pytest.approx(
        np.linalg.norm(path[:, 3:6], axis=1).max() - 50, abs=1)
    low = (np.tan(np.radians(60)) * np.linalg.norm(path[:, :2], axis=1) - path[:, 2]).max()
    assert flown["glide_slope"] == pytest.approx(low, rel=0.02, abs=1e-6) and flown["pointing"] > 5


@pytest.mark.parametrize(("height", "time"), [(300, 50), (600, 30), (600, 20)])
def test_where_the_relaxation_is_not_tight_the_landing_is_not_called_optimal(height, time):
    """In much time it burns for a thrust that it does not give; in little it has to turn about."""
    craft = dataclasses.replace(Craft(), least_thrust=12_000.0, most_thrust=13_000.0)
    landing = PoweredDescent(craft, 40).solve((0, 0, height, 0, 0, -20, 1905), time)
    assert landing.status == "relaxed" and landing.slack > 1
    assert fly(craft, landing)["least_thrust"] > 0.5
    least = 12_000 * craft.burn_rate * time  # what its least thrust burns in that time
    assert landing.fuel >= 0.99 * least


@pytest.mark.parametrize(("start", "changes"), [
    ((100.0, 0, 600, 0, 0, -20, 1905), {}),
    ((100.0, 0, 600, 0, 0, -20, 1905), {"least_thrust": 12_000.0, "most_thrust": 13_000.0}),
    ((-300.0, 100, 900, 0, 0, -20, 1905), {"least_thrust": 9_000.0})])
def test_a_thrust_that_turns_over_between_two_nodes_is_not_called_optimal(start, changes):
    """It is tight at every node; what it lacks between them is measured on a fine grid."""
    craft = dataclasses.replace(Craft(), **changes)
    landing = PoweredDescent(craft, 40).best(start)
    assert landing.slack < 1e-3 * craft.gravity  # tight
    assert landing.status == "relaxed" and landing.short > 0.05
    assert landing.short == pytest.approx(lacking(craft, landing), abs=2e-3)


@pytest.mark.parametrize("horizon", [20, 40, 80])
@pytest.mark.parametrize("name", ["none", "slope", "all", "large", "upright"])
def test_a_thrust_that_turns_slowly_is_optimal_with_few_steps_too(name, horizon):
    landing, craft = solved(name, horizon), CRAFTS[name]
    assert landing.status == "optimal" and 0 <= landing.short < 0.02
    assert landing.short == pytest.approx(lacking(craft, landing), abs=2e-3)


def test_a_nearly_fixed_thrust_that_turns_fast_needs_short_steps():
    """It steers by its direction alone: between few nodes it lacks more than between many."""
    craft = dataclasses.replace(CRAFTS["slope"], least_thrust=13_000.0)
    landings = [PoweredDescent(craft, N).best((1500.0, 0, 1500, 40, 40, -70, 1905))
                for N in (20, 40, 80)]
    shorts = [landing.short for landing in landings]
    assert [landing.status for landing in landings] == ["relaxed", "optimal", "optimal"]
    assert shorts[0] > 0.05 > 2 * shorts[1] > 4 * shorts[2]


def test_an_acceleration_that_is_held_lacks_nothing_between_its_nodes():
    landing = PoweredDescent(Craft(), 40, hold="constant").best((100.0, 0, 600, 0, 0, -20, 1905))
    assert landing.short == 0


def lacking(craft, landing):
    """The share of the least thrust that linear accelerations lack inside the steps, on a grid."""
    steps, within = np.arange(len(landing.states)), np.linspace(0, 1, 201)[1:-1]
    at = (steps[:-1, None] + within).ravel()
    u = np.stack([np.interp(at, steps, each) for each in landing.accelerations.numpy().T])
    mass = np.interp(at, steps, landing.states[:, 6].numpy())
    return max(0.0, 1 - (mass * np.linalg.norm(u, axis=0)).min() / craft.least_thrust)


def test_a_planet_in_other_units_has_the_same_landing():
    """All lengths 1,000 times as large, and all masses: forces a million times."""
    small = solved("slope", 40)
    craft = CRAFTS["slope"]
    large = dataclasses.replace(
        craft, gravity=1e3 * craft.gravity, dry_mass=1e3 * craft.dry_mass,
        least_thrust=1e6 * craft.least_thrust, most_thrust=1e6 * craft.most_thrust,
        burn_rate=1e-3 * craft.burn_rate)
    found = PoweredDescent(large, 40).best(1e3 * np.array(START))
    assert found.fuel == pytest.approx(1e3 * small.fuel, rel=1e-5)
    np.testing.assert_allclose(found.accelerations, 1e3 * small.accelerations, rtol=0.01, atol=50)


# ---------------------------------------------------------------- what is refused

@pytest.mark.parametrize(("changes", "message"), [
    ({"gravity": 0.0}, "gravity"), ({"dry_mass": -1.0}, "dry_mass"),
    ({"least_thrust": 2e4}, "least_thrust=20000.0 is not accepted; needs less than most_thrust"),
    ({"glide_slope": 90}, "glide_slope=90 is not accepted; needs degrees from 0 to 89"),
    ({"glide_slope": -4}, "glide_slope=-4"),
    ({"pointing": 200}, "pointing=200"), ({"most_speed": 0}, "most_speed=0")])
def test_a_craft_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Craft(**changes)


def test_problems_that_make_no_sense_are_refused():
    problem = PoweredDescent()
    with pytest.raises(ValueError, match="needs more than the dry mass, 1505 kg"):
        problem.solve((*START[:6], 1500), 70)
    with pytest.raises(ValueError, match="initial_state"):
        problem.solve(START[:6], 70)
    with pytest.raises(ValueError, match=r"initial_state has shape \[2, 7\]"):
        problem.best([START, START])
    with pytest.raises(ValueError, match="time_of_flight=300 is not accepted; needs at most"):
        problem.solve(START, 300)
    with pytest.raises(ValueError, match="time_of_flight"):
        problem.solve(START, -1)
    with pytest.raises(ValueError, match="horizon"):
        PoweredDescent(horizon=1)


@pytest.mark.parametrize("start", [(0, 0, 1, 0, 0, -300, 1905), (2000, 0, -10, 0, 0, 0, 1905),
                                   (1e6, 0, 10, 0, 0, 0, 1905), (3000, 0, 100, 0, 0, -80, 1905)])
def test_a_start_from_which_nobody_can_land_is_infeasible(start):
    landing = PoweredDescent(CRAFTS["slope"], 30).best(start)
    assert landing.status == "infeasible" and not math.isfinite(landing.gap)
