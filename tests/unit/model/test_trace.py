"""A trace shows the refinement of `forward`, each value in its place."""

import dataclasses
import threading

import pytest
import torch


def test_trace_shows_the_refinement_of_forward(scaled, problems):
    model = scaled(H_cycles=3, L_cycles=4)
    trace = model.trace(*problems)
    assert torch.equal(trace.controls, model(*problems)["cycle_controls"])
    assert trace.controls.shape == (4, 8, 15, 1) and trace.z_initial.shape == (8, 16)
    assert trace.z_H.shape == (4, 8, 16) and trace.z_L.shape == (3, 5, 8, 16)
    values = {field.name: getattr(trace, field.name) for field in dataclasses.fields(trace)}
    assert not any(value.requires_grad for value in (*values.pop("carry"), *values.values()))
    assert torch.equal(trace.initial_state, problems[0])
    assert torch.equal(trace.target_state, problems[1])


def test_trace_keeps_each_latent_in_its_place(scaled, problems):
    model = scaled(H_cycles=3, L_cycles=2)
    trace = model.trace(*problems)
    assert torch.equal(trace.z_H[0], trace.z_initial) and not trace.z_L[0, 0].any()
    assert torch.equal(trace.z_L[1:, 0], trace.z_L[:-1, -1])  # carried from cycle to cycle
    for h in range(3):
        torch.testing.assert_close(trace.z_H[h + 1], model.block(trace.z_H[h] + trace.z_L[h, -1]))


def test_the_trace_of_one_problem_is_its_share_of_the_batch(scaled, problems):
    model = scaled()
    one, alone = model.trace(*problems).one(2), model.trace(problems[0][2:3], problems[1][2:3])
    dimension = {"initial_state": 0, "target_state": 0, "controls": 1, "z_initial": 0, "z_H": 1,
                 "z_L": 2}
    for name, batch in dimension.items():
        expected = getattr(alone, name).squeeze(batch)
        torch.testing.assert_close(getattr(one, name), expected, rtol=0, atol=1e-5)


def test_a_trace_is_immutable_and_holds_nothing_of_the_callers(tiny):
    x0, xT = torch.zeros(2, 2), torch.ones(2, 2)
    trace = tiny().trace(x0, xT)
    with pytest.raises(dataclasses.FrozenInstanceError):
        trace.controls = None
    x0.fill_(5), xT.fill_(5)
    assert not trace.initial_state.any() and (trace.target_state == 1).all()


def test_a_trace_holds_nothing_of_another_thread_that_runs_the_same_network(scaled, problems):
    model, stop = scaled(H_cycles=3, L_cycles=2), threading.Event()
    expected = model.trace(*problems)

    def others():
        while not stop.is_set():
            model(problems[0][:3], problems[1][:3])

    other = threading.Thread(target=others)
    other.start()
    try:
        traces = [model.trace(*problems) for _ in range(20)]
    finally:
        stop.set()
        other.join()
    for trace in traces:
        assert torch.equal(trace.z_L, expected.z_L) and torch.equal(trace.z_H, expected.z_H)
