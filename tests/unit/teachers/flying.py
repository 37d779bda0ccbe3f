"""Landings flown by another integrator than the library's, with accelerations between nodes."""

import itertools
import math

import numpy as np

R, V, Z = slice(0, 3), slice(3, 6), 6  # of a state: position, velocity, mass


def fly(craft, landing, substeps=20):
    """Fly a landing through the true dynamics, and report what it misses and violates.

    The engines give T = m u with the accelerations u of the landing, linear between its nodes; the
    mass falls by ``burn_rate`` |T|. Integrated by Runge-Kutta steps of fourth order.

    Returns:
        ``"position"`` (m) and ``"speed"`` (m/s) at the end, ``"fuel"`` (kg); and the largest
        violation of each limit, zero if it is kept: ``"most_thrust"`` and ``"least_thrust"``,
        relative, ``"dry_mass"`` (kg), ``"glide_slope"`` (m of altitude), ``"pointing"`` (degrees),
        ``"most_speed"`` (m/s).
    """
    nodes = landing.accelerations.numpy()
    steps = len(landing.states) - 1
    pairs = zip(nodes, nodes) if len(nodes) == steps else itertools.pairwise(nodes)
    dt = landing.time_of_flight / steps / substeps
    gravity = np.array([0.0, 0.0, -craft.gravity])

    def slope(x, u):
        return np.concatenate([x[V], u + gravity, [-craft.burn_rate * x[Z] * np.linalg.norm(u)]])

    x, path, us = landing.states[0].numpy(), [], []
    for before, after in pairs:
        for k in range(substeps):
            u1, u2, u3 = (before + (after - before) * (k + part) / substeps
                          for part in (0, 0.5, 1))
            path.append(x)
            us.append(u1)
            k1 = slope(x, u1)
            k2 = slope(x + dt / 2 * k1, u2)
            k3 = slope(x + dt / 2 * k2, u2)
            x = x + dt / 6 * (k1 + 2 * (k2 + k3) + slope(x + dt * k3, u3))
    path, us = np.array([*path, x]), np.array([*us, nodes[-1]])
    size, away = np.linalg.norm(us, axis=1), np.linalg.norm(path[:, :2], axis=1)
    thrust = path[:, Z] * size
    angle = np.degrees(np.arccos((us[:, 2] / size).clip(-1, 1)))
    low = np.zeros(1)
    if craft.glide_slope is not None:
        low = math.tan(math.radians(craft.glide_slope)) * away - path[:, 2]
    over = {"most_thrust": thrust / craft.most_thrust - 1,
            "least_thrust": 1 - thrust / craft.least_thrust,
            "dry_mass": craft.dry_mass - path[:, Z], "glide_slope": low,
            "pointing": angle - craft.pointing,
            "most_speed": np.linalg.norm(path[:, V], axis=1) - (craft.most_speed or math.inf)}
    return {"position": float(np.linalg.norm(x[R])), "speed": float(np.linalg.norm(x[V])),
            "fuel": float(path[0, Z] - x[Z])} | {
        name: max(float(values.max()), 0.0) for name, values in over.items()}
