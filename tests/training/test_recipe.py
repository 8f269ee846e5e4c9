"""Recipes: every file resolves, each row differs from its parent as the plan says, bad input is one line.

That line names the nearest valid word.
"""
import dataclasses
import json
import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phases import info
from phases.common import recipes
from phases.common.command import Field, fields_of
from phases.common.files import ROOT
from phases.training.networks import describe
from phases.training.recipe import Config, load_config
from tests.helpers.programs import call

GIT = ["git", "-C", str(ROOT), "ls-files", "recipes"]
TRACKED = subprocess.run(GIT, capture_output=True, text=True).stdout.split()
FILES = sorted((ROOT / "recipes").glob("**/*.toml"), key=lambda path: path.stem)
FILES = [p for p in FILES if not TRACKED or p.relative_to(ROOT).as_posix() in TRACKED]  # not a user's own
DATA_SETS = [p.stem for p in FILES if "\nreader = " in p.read_text()]


def flat(value: dict, where: str = "") -> dict:
    """{"train.lr": 0.1, ...} of a resolved recipe; data.protocols and data.validate are values, not tables."""
    out = {}
    for key, v in value.items():
        out |= flat(v, f"{where}{key}.") if where == "" and isinstance(v, dict) else {where + key: v}
    return out


def leaves(cls: type, where: str = "") -> dict[str, Field]:
    """{"train.lr": its Field, ...} of a recipe's dataclass."""
    found = {}
    for name, field in fields_of(cls).items():
        is_table = dataclasses.is_dataclass(field.kind)
        found |= leaves(field.kind, f"{where}{name}.") if is_table else {where + name: field}
    return found


FIELDS = flat(dataclasses.asdict(Config()))
RANGES = {name: field.range for name, field in leaves(Config).items() if field.range}
CHOICES = {name: field.choices for name, field in leaves(Config).items() if field.choices}


def resolved(*argv: str) -> dict:
    return flat(dataclasses.asdict(load_config(list(argv))))


def changes(old: dict, new: dict) -> dict:
    return {k: new[k] for k in FIELDS if k != "recipe" and old[k] != new[k]}


def complaint(*argv: str) -> str:
    """The one line that refuses a command line."""
    with pytest.raises(ValueError) as e:
        load_config(list(argv))
    line = str(e.value)
    assert line and "\n" not in line
    return line


def test_a_folder_named_by_a_date_is_a_folder():
    assert load_config(["recipe=lite_small", "raw=2024-05-01"]).raw == "2024-05-01"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_recipe_resolves_and_opens_with_its_purpose(path):
    assert path.read_text().startswith("# ") and len(path.read_text().splitlines()[0]) > 20
    assert load_config([f"recipe={path.stem}"]).recipe == path.stem
    assert load_config([f"recipe={path}"]) == load_config([f"recipe={path.stem}"])  # a path says the same


def test_the_readme_of_the_recipes_names_every_recipe():
    text = (ROOT / "recipes" / "README.md").read_text()
    assert [p.stem for p in FILES if f"`{p.stem}`" not in text] == []


@pytest.mark.parametrize("row", ["B4", "B7"])
def test_the_readme_of_the_recipes_has_the_cost_of_a_network(row):
    lines = (ROOT / "recipes" / "README.md").read_text().splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("| 60 classes, T = 64, V = 25, M = 1 |"))
    names, params, macs = ([cell.strip() for cell in lines[i].split("|")] for i in (head, head + 2, head + 3))
    column = next(i for i, name in enumerate(names) if row in name.split(", "))
    about = describe(load_config([f"recipe={row}"]))
    assert params[column] == f"{about['params'] / 1e6:.2f}" and macs[column] == f"{about['macs'] / 1e9:.2f}"


@pytest.mark.parametrize("data", DATA_SETS)
def test_a_data_set_names_itself_and_can_be_described(data, capsys):
    argv = ["recipe=lite_nano", f"data={data}"]
    assert load_config(argv).data.name == data
    try:
        call(info, *argv, "format=json")
    except ValueError as e:  # before phase 0 the skeleton of the recordings may be unknown
        assert "\n" not in str(e)
    else:
        assert json.loads(capsys.readouterr().out)["classes"] == load_config(argv).data.num_classes


PIECES = {"model.shift": "region", "model.joint_embedding": True, "model.dct_gate": True, "model.frame_gate": True}
OFF = {"model.shift": "random", "model.joint_embedding": False, "model.dct_gate": False, "model.frame_gate": False}
BARE = {"model.graph": "spatial", "model.temporal_context": False, "model.prototypes": False,
        "model.frequency_gate": False, "model.attention": "none", "model.regions": False, "model.bottleneck": False}
NARROW = {"model.width": 32, "model.drop_path": 0.05, "train.optimizer": "sgd", "train.lr": 0.1,
          "train.warmup_epochs": 3, "train.epochs": 40, "train.warmup_lr": 0.01, "train.min_lr": 1e-4,
          "train.batch": 16, "train.accumulate": 1, "train.average": "ema"}
SIXTEEN = {"view.frames": 16}
LEANING = {"distil.alpha": 0.3, "distil.beta": 0.7}
TWO, THREE = "lite_small:0,lite_small:1", "lite_small:0,lite_small:1,lite_small:2"
TENTH = {"train.epochs": 200, "probe.frozen": False, "probe.labels": 0.1}
ROWS = {  # row: (its parent in the plan, §9B and §9C, and all that it changes there)
    "L0": ("L5", OFF),
    "L1": ("L0", {"model.joint_embedding": True}), "L2": ("L0", {"model.frame_gate": True}),
    "L3": ("L0", {"model.shift": "region"}), "L4": ("L0", {"model.dct_gate": True}), "L5": ("lite_small", {}),
    "L6": ("L5", {"model.dct_gate": False}), "L7": ("L5", {"model.joint_embedding": False}),
    "L8": ("L5", {"model.shift": "random"}), "L9": ("L5", {"train.causal": 0.5}),
    "L10": ("lite_small_laste", {}), "L11": ("lite_small_base", {}), "L12": ("L11", {"init": "maskclr_small"}),
    "L12_scratch": ("L11", {"train.epochs": 220}),

    "P0": ("L5", {"view.sampling": "uniform"}), "P1": ("P0", {"view.sampling": "crop"}),
    "P2": ("P0", {"view.frames": 120}), "P3": ("P0", {"view.bodies": 2}),

    "B0": ("B7", BARE),
    "B1": ("B0", {"model.temporal_context": True}), "B2": ("B0", {"model.prototypes": True}),
    "B3": ("B0", {"model.frequency_gate": True}), "B4": ("B0", {"model.attention": "partitioned"}),
    "B5": ("B0", {"model.regions": True}), "B6": ("B0", {"model.bottleneck": True}), "B7": ("base", {}),
    "B8": ("B7", {"model.frequency_gate": False}), "B9": ("B7", {"model.prototypes": False}),
    "B10": ("B7", {"model.regions": False}), "B11": ("B7", {"model.attention": "factorized"}),
    "B12": ("B7", {"train.causal": 0.5}), "B13": ("B7", {"train.average": "swa", "train.swa_lr": 1e-4}),
    "B14": ("B7", {"streams": "all", "members": "B7"}),

    "lite_nano": ("lite_small", {"model.variant": "nano", "model.dropout": 0.10}),
    "lite_pair": ("lite_nano", {"model.variant": "pair"}),
    "base_narrow": ("base", NARROW), "B0_narrow": ("B0", NARROW),
    "base_unsmoothed": ("base", {"train.label_smoothing": 0.0}), "lite_nano_unsmoothed": ("lite_nano", {}),
    "maskclr_nano": ("maskclr_small", {"model.variant": "nano", "pretrain.after": "lite_nano_base"}),

    "lite_small_base": ("lite_small", {"distil.teacher": "base"}),
    "lite_small_laste": ("lite_small", {"distil.teacher": "last_e"}),
    "lite_small_smalls": ("lite_small", {"distil.teacher": THREE}),
    "lite_nano_base": ("lite_nano", {"distil.teacher": "base", **LEANING}),
    "lite_nano_small": ("lite_nano", {"distil.teacher": "lite_small", **LEANING}),
    "lite_nano_smalls": ("lite_nano_small", {"distil.teacher": THREE}),
    "lite_nano_dkd": ("lite_nano_small", {"distil.kind": "dkd"}),
    "lite_nano_logits": ("lite_nano_small", {"distil.gamma": 0.0}),
    "lite_small_base_dkd": ("lite_small_base", {"distil.kind": "dkd"}),
    "lite_small_base_logits": ("lite_small_base", {"distil.gamma": 0.0}),
    "lite_small_base_tau1": ("lite_small_base", {"distil.tau": 1.0}),
    "lite_small_base_tau2": ("lite_small_base", {"distil.tau": 2.0}),
    "lite_small_base_unsmoothed": ("lite_small_base", {"distil.teacher": "base_unsmoothed"}),

    "lite_small_short": ("lite_small", {"train.epochs": 40}),
    "lite_small_short_unsmoothed": ("lite_small_short", {}),
    "lite_small_short_kd": ("lite_small_short", {"distil.teacher": TWO, "distil.gamma": 0.0}),
    "lite_small_short_mimic": ("lite_small_short_kd", {"distil.gamma": 0.1}),
    "lite_small_short_dkd": ("lite_small_short_kd", {"distil.kind": "dkd"}),
    "lite_small_short_pretrained": ("lite_small", {"train.epochs": 20, "init": "maskclr_small"}),
    "lite_nano_short": ("lite_nano", {"train.epochs": 40}),
    "lite_nano_short_unsmoothed": ("lite_nano_short", {}),
    "lite_nano_short_kd": ("lite_nano_short", {"distil.teacher": TWO, "distil.gamma": 0.0, **LEANING}),
    "lite_nano_short_mimic": ("lite_nano_short_kd", {"distil.gamma": 0.1}),
    "lite_nano_short_dkd": ("lite_nano_short_kd", {"distil.kind": "dkd"}),
    "lite_nano_short_pretrained": ("lite_nano", {"train.epochs": 20, "init": "maskclr_nano"}),
    "lite_small_16": ("lite_small", SIXTEEN), "lite_nano_16": ("lite_nano", SIXTEEN),
    "lite_nano_16_base": ("lite_nano_16", {"distil.teacher": "base_narrow", **LEANING}),
    "base_16": ("base", SIXTEEN | {"model.bottleneck": False, "train.batch": 16, "train.accumulate": 1,
                                   "train.epochs": 60, "train.warmup_epochs": 6}),
    "B7_16": ("base_16", {"model.bottleneck": True, "train.epochs": 20, "train.warmup_epochs": 2}),
    "B0_16": ("B7_16", BARE), "B2_16": ("B0_16", {"model.prototypes": True}),
    "B4_16": ("B0_16", {"model.attention": "partitioned"}), "B6_16": ("B0_16", {"model.bottleneck": True}),
    "base_16_nano_alone": ("lite_nano_16", {"train.epochs": 25}),
    "base_16_nano_logits": ("base_16_nano_maps", {"distil.gamma": 0.0}),
    "base_16_nano_maps": ("base_16_nano_alone", {"distil.teacher": "base_16", **LEANING}),
    "base_16_small_alone": ("lite_small_16", {"train.epochs": 25}),
    "base_16_small_logits": ("base_16_small_maps", {"distil.gamma": 0.0}),
    "base_16_small_maps": ("base_16_small_alone", {"distil.teacher": "base_16"}),
    "base_16_small_started": ("base_16_small_maps", {"init": "maskclr_small"}),
    "nano_started": ("lite_nano", {}),
    "nano_tenth": ("lite_nano", TENTH),
    "nano_tenth_started": ("lite_nano", TENTH | {"train.lr": 0.01, "train.warmup_lr": 1e-3}),
}


def test_every_row_of_the_plan_is_in_the_table_of_this_test():
    named = {"lite_small", "base", "last_e", "maskclr_small", "finetune"}
    named |= {p.stem for p in FILES if p.stem.startswith("probe_")}
    assert {p.stem for p in FILES} - set(DATA_SETS) - named == set(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_differs_from_its_parent_as_the_plan_says(row):
    parent, differs = ROWS[row]
    assert changes(resolved(f"recipe={parent}"), resolved(f"recipe={row}")) == differs


@pytest.mark.parametrize("row", [r for r in ROWS if r[0] == "L" or r == "lite_nano"])
@pytest.mark.parametrize("data", DATA_SETS)
def test_a_network_row_differs_alike_on_every_data_set(row, data):
    parent, differs = ROWS[row]
    old, new = (resolved(f"recipe={name}", f"data={data}") for name in (parent, row))
    assert changes(old, new) == differs


def test_the_baseline_has_no_piece_and_the_full_row_has_them_all():
    assert {k: resolved("recipe=L0")[k] for k in OFF} == OFF
    full = resolved("recipe=L5")
    assert {k: full[k] for k in PIECES} == PIECES and full["train.causal"] == 0 and full["train.average"] == "none"


def test_a_row_keeps_what_it_measures_on_another_data_set():
    for row, (_, differs) in ROWS.items():
        cfg = resolved(f"recipe={row}", "data=nw_ucla")
        assert {k: cfg[k] for k in differs} == differs
        assert cfg["data.skeleton"] == "kinect20" and cfg["data.num_classes"] == 10
    assert resolved("recipe=P1", "data=nw_ucla")["view.sampling"] == "crop"
    for row, smoothing in (("lite_nano", 0.1), ("lite_nano_unsmoothed", 0.0)):
        assert resolved(f"recipe={row}", "data=utd_mhad")["train.label_smoothing"] == smoothing


def test_what_a_wrong_key_or_data_set_meant_is_found():
    assert "unknown key epochs, did you mean train.epochs?" in complaint("recipe=lite_small", "epochs=3")
    assert "did you mean data.name or model.name?" in complaint("recipe=lite_small", "name=mine")
    line = complaint("recipe=lite_small", "data=utd_mhda")
    assert "did you mean 'utd_mhad'?" in line and "lite_small" not in line


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A recipes folder of the test's own: folder(name=text, ...) writes recipes into it."""
    (tmp_path / "recipes").mkdir()
    monkeypatch.setattr(recipes, "ROOT", tmp_path)

    def write(**files: str):
        for name, text in files.items():
            (tmp_path / "recipes" / f"{name}.toml").write_text(text)
    return write


def test_a_data_set_is_above_the_root_and_below_the_rows(folder):
    folder(root="[train]\nlr = 1.0\nepochs = 1\nbatch = 1\ngrad_clip = 1.0\n",
           row='extends = "root"\n[train]\nlr = 3.0\ngrad_clip = 3.0\n',
           leaf='extends = "row"\n[train]\ngrad_clip = 5.0\n',
           set='[data]\nreader = "ntu"\n[train]\nlr = 2.0\nepochs = 2\ngrad_clip = 2.0\n')
    t = load_config(["train.batch=4", "recipe=leaf", "data=set"]).train  # words win
    assert (t.lr, t.epochs, t.batch, t.grad_clip) == (3.0, 2, 4, 5.0)
    t = load_config(["recipe=root", "data=set"]).train  # a root without rows is below the data set, too
    assert (t.lr, t.epochs, t.batch, t.grad_clip) == (2.0, 2, 1, 2.0)


def test_tables_merge_while_lists_replace(folder):
    folder(root="[data]\nleaked = [1, 2, 3]\n[data.validate]\nsubject = [1]\n",
           row='extends = "root"\n[data]\nleaked = [4]\n[data.validate]\ncamera = [2]\n')
    data = load_config(["recipe=row", "data.validate.subject=[7]"]).data
    assert data.leaked == (4,) and data.validate == {"subject": [7], "camera": [2]}


def test_a_chain_has_at_most_three_recipes_and_no_cycle(folder):
    folder(a="seed = 1", b='extends = "a"', c='extends = "b"', d='extends = "c"',
           me='extends = "me"', x='extends = "y"', y='extends = "x"')
    assert load_config(["recipe=c"]).seed == 1
    for name in ("d", "me", "x"):
        assert "more than three" in complaint(f"recipe={name}")


def test_a_broken_file_or_parent_is_named(folder):
    folder(ok="seed = 1", bad="seed = = 1", orphan='extends = "okk"')
    assert "bad.toml" in complaint("recipe=bad") and "line 1" in complaint("recipe=bad")
    assert "'okk', did you mean 'ok'?" in complaint("recipe=orphan")


def test_unknown_names_are_answered_with_the_nearest():
    assert "did you mean 'lite_small'?" in complaint("recipe=lite_smal")
    assert "did you mean 'nw_ucla'?" in complaint("recipe=L5", "data=nw_ucl")
    not_a_set = complaint("recipe=L5", "data=L4")
    assert "no data set has this name" in not_a_set and all(d in not_a_set for d in DATA_SETS) and "L5" not in not_a_set
    assert "lite_nano" in complaint("train.lr=1") and "no recipe" in complaint()


BAD = {
    # names
    "trian.lr=1": "unknown key trian, did you mean 'train'?",
    "train.batchs=1": "unknown key train.batchs, did you mean 'batch'?",
    "sed=1": "did you mean 'seed'?", "train.lr.x=1": "train.lr", "train=5": "is a table",
    "data.=1": "unknown key data.",
    # types
    "train.epochs=true": "an integer", "train.epochs=5.0": "an integer", "train.epochs=five": "an integer",
    "train.compile=1": "true or false", "train.lr=true": "a number", "train.lr=fast": "a number",
    "train.lr=[1]": "a number", "data.name=5": "a string", "seed=1.5": "an integer", "data.validate=3": "a table",
    "data.leaked=[true]": "a list of integers", "data.leaked=[1.5]": "a list of integers", "data.leaked=3": "a list",
    "view.rotate=[1, 2]": "3 numbers", "view.rotate=[1, 2, 'x']": "3 numbers", "view.rotate=[1, 2, true]": "3 numbers",
    # ranges
    "train.epochs=0": "1 to", "train.lr=nan": "must lie in", "train.lr=inf": "must lie in",
    "train.lr=-0.1": "must lie in", "view.bodies=3": "1 to 2", "seed=-1": "must lie in",
    "view.rotate=[nan, 0, 0]": "view.rotate", "view.rotate=[0, inf, 0]": "view.rotate",
    # choices
    "train.optimizer=adam": "did you mean 'adamw'?", "model.variant=smal": "did you mean 'small'?",
    "data.skeleton=ntu52": "did you mean 'ntu25'?", "view.sampling=uniforn": "did you mean 'uniform'?",
    "model.name=light": "lite", "train.average=sma": "swa", "model.streams=['bones']": "did you mean 'bone'?",
    "model.streams=[]": "at least one stream", "model.streams=['bone', 'bone']": "each of them once",
    # arguments
    "lite_small": "key=value", "=5": "key=value",
}


@pytest.mark.parametrize("arg", BAD)
def test_a_bad_override_is_refused_in_one_line(arg):
    line = complaint("recipe=L5", arg)
    assert BAD[arg] in line
    if "=" in arg and not arg.startswith("="):
        assert arg.partition("=")[0].partition(".")[0] in line  # says where


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_refuses_every_type_but_its_own(name):
    kind = type(FIELDS[name])
    samples = {bool: "true", int: "3", float: "0.5", str: "'text'", tuple: "[[0]]", dict: "{a = 1}"}
    for other, text in samples.items():
        if other is not kind and (kind, other) != (float, int) or other is tuple:
            assert name.split(".")[0] in complaint("recipe=L5", f"{name}={text}")


@pytest.mark.parametrize("name", RANGES)
def test_a_range_holds_its_ends_and_nothing_beyond(name):
    for end, direction in zip(RANGES[name], (-1, 1), strict=True):
        whole = isinstance(FIELDS[name], int)
        assert resolved("recipe=L5", f"{name}={int(end) if whole else float(end)!r}")[name] == end
        beyond = end + direction if whole else math.nextafter(end, direction * math.inf)
        assert f"{name} = " in complaint("recipe=L5", f"{name}={beyond!r}")


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_takes_each_of_its_words_bare_or_quoted(name):
    if isinstance(FIELDS[name], tuple):
        assert resolved("recipe=L5", f"{name}={json.dumps(CHOICES[name])}")[name] == tuple(CHOICES[name])
        return
    for word in CHOICES[name]:
        assert resolved("recipe=L5", f"{name}={word}")[name] == resolved("recipe=L5", f'{name}="{word}"')[name] == word


def test_every_string_with_few_sensible_values_has_choices():
    free = {"recipe", "raw", "out", "device", "members", "init", "data.name", "data.store", "data.split",
            "data.missing", "distil.teacher", "pretrain.after"}
    words = {k for k in CHOICES if isinstance(FIELDS[k], str)}
    assert {k for k, v in FIELDS.items() if isinstance(v, str)} == free | words


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([k for k in FIELDS if k != "recipe"]), st.data())
def test_a_misspelt_key_never_passes_silently(name, data):
    at, letter = data.draw(st.integers(0, len(name) - 1)), data.draw(st.sampled_from("abcxyz_"))
    before, after = name[:at], name[at + 1:]
    wrong = data.draw(st.sampled_from([before + after, before + letter + name[at:], before + letter + after]))
    if wrong not in FIELDS and not wrong.startswith(("data.validate.", "data.protocols.")):
        assert wrong.partition(".")[0] in complaint("recipe=L5", f"{wrong}=1")


@settings(max_examples=40, deadline=None)
@given(st.floats(1e-12, 100), st.integers(0, 2**31 - 1), st.text("abc/._-", min_size=1),
       st.lists(st.floats(-360, 360), min_size=3, max_size=3))
def test_an_override_is_read_as_it_was_written(lr, seed, word, angles):
    cfg = load_config(["recipe=L5", f"train.lr={lr!r}", f"seed={seed}", f"out={word}", f"view.rotate={angles}",
                       f"data.store={json.dumps(word + ' b')}"])
    assert (cfg.train.lr, cfg.seed, cfg.out, list(cfg.view.rotate)) == (lr, seed, word, angles)
    assert cfg.data.store == word + " b"


def test_an_integer_serves_where_a_number_is_wanted():
    cfg = load_config(["recipe=L5", "train.lr=1", "view.rotate=[1, 2, 3]"])
    assert type(cfg.train.lr) is float and cfg.view.rotate == (1.0, 2.0, 3.0) and type(cfg.view.rotate[0]) is float


def test_an_unknown_device_is_one_line_too():
    with pytest.raises(ValueError, match="gpu"):
        _ = load_config(["recipe=L5", "device=gpu"]).torch_device


def test_a_recipe_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_config(["recipe=L5"]).train.lr = 1.0


@pytest.mark.parametrize("program, argv", [("info", ["recipe=lite_smal"]),
                                           ("p1_train", ["recipe=lite_small", "train.epoch=5"])])
def test_a_program_answers_a_bad_recipe_with_one_line(program, argv, tmp_path):
    command = [sys.executable, "-m", f"phases.{program}", *argv]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 2 and done.stdout == "" and list(tmp_path.iterdir()) == []
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ") and "did you mean" in done.stderr


def test_the_rate_of_recordings_makes_no_other_run():
    """A run from before data.fps is finished, whatever the rate is said to be."""
    assert recipes.differences({"data": {"name": "x"}}, {"data": {"name": "x", "fps": 15.0}}) == ""
    told = recipes.differences({"data": {"name": "x"}}, {"data": {"name": "y", "fps": 15.0}})
    assert told == "data.name was 'x', is 'y'"


def test_a_setting_that_is_gone_says_what_is_done_instead():
    with pytest.raises(ValueError, match="data.fill = 5: this setting is gone.*the view closes every gap"):
        load_config(["recipe=lite_nano", "data.fill=5"])
