"""What the command line refuses, and its help."""

import re

import pytest

from trc_lib.__main__ import main


@pytest.mark.parametrize("words, code, message", [
    (["generate", "--horizon", "100000", "--out", "unused"], 1, "horizon=100000 is too long"),
    (["generate", "--num-samples", "1000000000000", "--out", "unused"], 1, "error: "),
    ([], 2, "COMMAND"),
    (["dance"], 2, "dance"),
    (["generate", "--num-samples", "many"], 2, "--num-samples"),
    (["course", "--lane", "fast"], 2, "fast"),
    (["generate", "--num-samples", "0", "--out", "unused"], 1, "num_samples=0"),
    (["generate", "--dt", "-1", "--out", "unused"], 1, "dt=-1"),
    (["generate", "--horizon", "1", "--out", "unused"], 1, "needs at least 2 steps"),
    (["train", "--data", "nowhere"], 1, "nowhere"),
    (["train", "--proportional", "--no-feedback"], 1, "--proportional needs feedback"),
    (["train", "--data", "nowhere", "--device", "tpu"], 1, "nowhere"),
    (["evaluate", "--checkpoint", "nowhere.pt"], 1, "nowhere.pt does not exist"),
    (["sweep", "--only", "recursive", "both"], 1, "--only both is unknown; the study sweep has"),
    (["sweep", "--workers", "0"], 1, "workers=0"),
])
def test_wrong_words_give_two_and_failed_commands_give_one(
        words, code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        returned = main(words)
    except SystemExit as stop:
        returned = stop.code
    assert returned == code and message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["generate", "train", "evaluate", "export", "course", "sweep"])
def test_help_describes_every_option_and_names_its_default_where_it_has_one(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    usage, told = capsys.readouterr().out.split("\noptions:\n")
    assert stop.value.code == 0
    assert "(default: " in told and not re.search(r"default:\s+(None|False|\[\])", told)
    for option in re.findall(r"--[\w-]+", usage):
        described = rf"^  (-.*, )?{option}\b.*(  \w|\n {{20}})"
        assert re.search(described, told, re.MULTILINE), option
