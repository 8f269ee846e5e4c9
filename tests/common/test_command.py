"""One parser for command lines and recipes: each message once, values as they were written, how a program ends."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phases.common.command import (
    build,
    fields_of,
    manual,
    nearest,
    overrides,
    parse,
    parse_known,
    with_words,
    words,
)

ROOT = Path(__file__).resolve().parents[2]
SKELETONS = {"ntu25": 25, "kinect20": 20}


@dataclass(frozen=True)
class Options:
    clip: Annotated[str, "a file or a folder"]
    format: Annotated[Literal["text", "csv", "json"], "of the answer"] = "text"
    jobs: Annotated[int, (1, 1024), "runs side by side"] = 1
    sure: Annotated[float, (0, 1)] = 0.8
    gain: float = 1.0
    dry: bool = False
    seeds: Annotated[tuple[int, ...], (0, 99), "comma-separated"] = (0,)
    model: Annotated[tuple[str, ...], "files, separated by commas"] = ()
    show: tuple[Literal["L", "B"], ...] = ("L", "B")
    skeleton: Annotated[str, SKELETONS] = "ntu25"
    out: Annotated[Path, "a folder"] = Path("page")
    serve: Annotated[int | None, (1, 65535), "a port"] = None
    store: Path | None = Path("stores")
    html: str | None = None


@dataclass(frozen=True)
class Train:
    lr: Annotated[float, (1e-12, 100)] = 0.1
    optimizer: Literal["sgd", "adamw"] = "sgd"
    rotate: tuple[float, float, float] = (15.0, 15.0, 15.0)


@dataclass(frozen=True)
class Data:
    name: str = "ntu60"
    protocols: dict = field(default_factory=dict)
    leaked: tuple[int, ...] = ()


@dataclass(frozen=True)
class Config:
    seed: Annotated[int, (0, 2**31 - 1)] = 0
    data: Data = Data()
    train: Train = Train()


def options(*argv: str) -> Options:
    return parse(Options, ["clip=x", *argv])


def complaint(make, *given) -> str:
    """The one line that refuses an input."""
    with pytest.raises(ValueError) as e:
        make(*given)
    line = str(e.value)
    assert line and "\n" not in line
    return line


# ---------------------------------------------------------------------------------------------------------------------
# Options
# ---------------------------------------------------------------------------------------------------------------------

def test_what_is_not_given_keeps_its_default():
    assert parse(Options, ["clip=x"]) == Options("x")


@pytest.mark.parametrize("word, key, value", [
    ("clip=a b.npy", "clip", "a b.npy"), ("clip=007", "clip", "007"), ("clip=true", "clip", "true"),
    ("clip=2024-05-01", "clip", "2024-05-01"), ("clip=a=b", "clip", "a=b"), ('clip="a\\tb"', "clip", "a\tb"),
    ("clip='7'", "clip", "7"), ('clip=""', "clip", ""), ("clip=1\nx = 2", "clip", "1\nx = 2"),
    ("clip=[1]", "clip", "[1]"), ("format=csv", "format", "csv"), ("jobs=0x10", "jobs", 16), ("dry=true", "dry", True),
    ("sure=1", "sure", 1.0), ("sure=5e-1", "sure", 0.5), ("out=7", "out", Path("7")), ("serve=80", "serve", 80),
    ("seeds=0,1, 2,", "seeds", (0, 1, 2)), ("seeds=[3, 4]", "seeds", (3, 4)), ("seeds=", "seeds", ()),
    ("model=a, 2", "model", ("a", "2")), ('model="a,b"', "model", ("a,b",)), ("show=B", "show", ("B",)),
    ("serve=", "serve", None), ("store=", "store", None), ("html=", "html", ""),
    ("skeleton=kinect20", "skeleton", "kinect20")])
def test_a_word_is_read_in_the_type_of_its_field(word, key, value):
    found = getattr(parse(Options, [word] if key == "clip" else ["clip=x", word]), key)
    assert found == value and type(found) is type(value)


BAD = {
    "lite_small": "argument 'lite_small': give key=value, such as clip=...", "=5": "argument '=5': give key=value",
    "jbos=2": "unknown key jbos, did you mean 'jobs'? (known: clip, dry, format,",
    "zzzz=2": "unknown key zzzz (known: clip,", "clip=y": "clip= is given twice",
    "jobs=two": 'jobs = "two": must be an integer, like the default 1',
    "jobs=true": "must be an integer", "jobs=1.0": "must be an integer", "jobs=": "must be an integer",
    "jobs=2024-05-01": "must be an integer", "jobs=1\ny = 2": "must be an integer",
    "serve=http": 'serve = "http": must be an integer.',
    "sure=high": "must be a number, like the default 0.8",
    "dry=1": "must be true or false, like the default false", "dry=True": "must be true or false",
    "seeds=0,a": 'seeds = [0, "a"]: must be a list of integers, like the default [0]',
    "out=": 'out = "": must be a path, like the default "page"',
    "format=cvs": "format = 'cvs', did you mean 'csv'? (known: csv, json, text)",
    "show=L,X": "show = 'X' (known: B, L)",
    "skeleton=ntu52": "did you mean 'ntu25'? (known: kinect20, ntu25)",
    "jobs=0": "jobs = 0: must lie in 1 to 1024", "seeds=1,100": "seeds = 100: must lie in 0 to 99",
    "sure=nan": "sure = nan: must lie in 0 to 1", "serve=65536": "must lie in 1 to 65535",
    "gain=inf": "gain = inf: must be a finite number", "gain=1" + 400 * "0": "gain = inf: must be a finite number",
    "seeds=" + 5000 * "[": "must be a list of integers", "jobs=" + 5000 * "9": "must be an integer",
}


@pytest.mark.parametrize("word", BAD, ids=lambda word: word[:20].replace("\n", " "))
def test_a_bad_word_is_refused_in_one_line(word):
    assert BAD[word] in complaint(options, word) + "."


@pytest.mark.parametrize("argv, line", [
    ([], "no clip: give clip=... (a file or a folder)"), (["clip="], "no clip: give clip=... (a file or a folder)"),
    (["clpi=x"], "unknown key clpi, did you mean 'clip'?")])
def test_a_missing_option_is_named_with_its_help(argv, line):
    assert complaint(parse, Options, argv).startswith(line)


def test_options_may_check_themselves():
    @dataclass(frozen=True)
    class Either(Options):
        def __post_init__(self):
            if self.dry and self.jobs > 1:
                raise ValueError("dry = true: give jobs=1")

    assert complaint(parse, Either, ["clip=x", "dry=true", "jobs=2"]) == "dry = true: give jobs=1"


def test_words_of_a_recipe_are_passed_on_in_order():
    argv = ["train.lr=1", "clip=x", "seed=3", "jobs=2", "data=ntu60"]
    assert parse_known(Options, argv) == (Options("x", jobs=2), ["train.lr=1", "seed=3", "data=ntu60"])


@pytest.mark.parametrize("argv, line", [
    (["clip=x", "seed=1", "seed=2"], "seed= is given twice"), (["clip=x", "clip=y"], "clip= is given twice"),
    (["clip=x", "lite_small"], "such as recipe=lite_small or train.epochs=5"), (["seed=1"], "no clip: give clip=")])
def test_words_to_pass_on_are_checked_for_their_form(argv, line):
    assert line in complaint(parse_known, Options, argv)


@pytest.mark.parametrize("argv, line", [
    (["clip=x", "sed=1"], "unknown key sed, did you mean 'seed'? (known: data, seed, train)"),
    (["clip=x", "seds=1"], "unknown key seds, did you mean 'seeds'? (options: clip, format, jobs, "),
    (["clp=x"], "no clip: give clip=... (a file or a folder); no option clp, did you mean 'clip'? (options: clip, "),
    (["clip=x", "train.lrr=1"], "unknown key train.lrr, did you mean 'lr'?"), (["seed=1"], "no clip: give clip=")])
def test_a_misspelt_option_is_none_of_a_recipe(argv, line):
    """Programs that pass words on to a recipe named the keys of recipes only."""
    def main(options: Options, recipe: list[str]) -> None:
        table: dict = {}
        for key, value in overrides(recipe).items():
            for part in reversed(key.split(".")):
                value = {part: value}
            table |= value
        build(Config, table)

    said = complaint(with_words, main, Options, argv)
    assert said.startswith(line) and said.count("did you mean") == (argv != ["seed=1"])


def test_fields_are_read_once_for_a_class():
    assert fields_of(Options) is fields_of(Options)


TEXT = st.text(max_size=8) | st.text("'\"#,[] \\\n=01\x7f", max_size=8)
ITEMS = st.lists(TEXT, max_size=3).map(tuple)
PATHS = st.text("ab/.'\" ,[1]=", min_size=1, max_size=8).map(Path)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
ANY = st.builds(Options, clip=TEXT, format=st.sampled_from(["text", "csv", "json"]), jobs=st.integers(1, 1024),
                sure=st.floats(0, 1), gain=FINITE, dry=st.booleans(),
                seeds=st.lists(st.integers(0, 99), max_size=3).map(tuple), model=ITEMS,
                show=st.lists(st.sampled_from("LB")).map(tuple), skeleton=st.sampled_from(list(SKELETONS)), out=PATHS,
                serve=st.none() | st.integers(1, 65535), store=st.none() | PATHS, html=st.none() | TEXT)


@given(ANY)
def test_options_written_as_words_are_read_as_they_were(chosen):
    assert parse(Options, words(chosen)) == chosen


def test_words_leave_out_defaults_and_read_as_one_types_them():
    chosen = Options("a b", jobs=2, seeds=(0, 1), dry=True, out=Path("x/y"), store=None)
    assert words(chosen) == ["clip=a b", "jobs=2", "dry=true", "seeds=0,1", "out=x/y", "store="]


@given(st.sampled_from([name for name in fields_of(Options) if name != "clip"]), TEXT)
def test_any_text_is_a_value_or_one_line(name, text):
    try:
        found = options(f"{name}={text}")
    except ValueError as e:
        assert name in str(e)
    else:
        assert parse(Options, words(found)) == found


# ---------------------------------------------------------------------------------------------------------------------
# Recipes
# ---------------------------------------------------------------------------------------------------------------------

def test_a_table_becomes_nested_dataclasses():
    table = {"seed": 3, "data": {"leaked": [1, 2], "protocols": {"xsub": {"train": [1]}}}, "train": {"lr": 1}}
    assert build(Config, table) == Config(3, Data(protocols={"xsub": {"train": [1]}}, leaked=(1, 2)), Train(lr=1.0))


def test_integers_in_a_list_of_numbers_become_floats():
    rotate = build(Train, {"rotate": [1, 2, 3]}).rotate
    assert rotate == (1.0, 2.0, 3.0) and {type(x) for x in rotate} == {float}


BAD_TABLES = {
    "a key": ({"train": {"lrr": 1}}, "unknown key train.lrr, did you mean 'lr'? (known: lr, optimizer, rotate)"),
    "a key of a table": ({"lr": 1}, "unknown key lr, did you mean train.lr?"),
    "no table": ({"train": 5}, "train = 5: is a table, give train.<key>"),
    "a string": ({"data": {"name": 5}}, 'data.name = 5: must be a string, like the default "ntu60"'),
    "null": ({"seed": None}, "seed = null: must be an integer, like the default 0"),
    "a number": ({"train": {"lr": True}}, "train.lr = true: must be a number, like the default 0.1"),
    "a dict": ({"data": {"protocols": 3}}, "data.protocols = 3: must be a table, like the default {}"),
    "a length": ({"train": {"rotate": [1, 2]}}, "train.rotate = [1.0, 2.0]: must be a list of 3 numbers, like"),
    "an item": ({"data": {"leaked": [1.5]}}, "data.leaked = [1.5]: must be a list of integers, like the default []"),
    "a nested list": ({"data": {"leaked": [[1]]}}, "data.leaked = [[1]]: must be a list of integers"),
    "no list": ({"data": {"leaked": 3}}, "data.leaked = 3: must be a list of integers"),
    "a choice": ({"train": {"optimizer": "adam"}}, "train.optimizer = 'adam', did you mean 'adamw'? (known: adamw, s"),
    "a range": ({"train": {"lr": 0}}, "train.lr = 0.0: must lie in 1e-12 to 100"),
    "not finite": ({"train": {"rotate": [0, float("nan"), 0]}}, "train.rotate = nan: must be a finite number"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_bad_table_is_refused_in_one_line_with_its_path(name):
    table, line = BAD_TABLES[name]
    assert complaint(build, Config, table).startswith(line)


@pytest.mark.parametrize("table, line", [({"lr": "x"}, 'train.lr = "x": must be a number'), (5, "train = 5: is a t")])
def test_messages_begin_with_the_table_they_are_about(table, line):
    assert complaint(build, Train, table, "train.").startswith(line)


@pytest.mark.parametrize("word, value", [
    ("train.lr=1e-3", 1e-3), ("seed=3", 3), ("raw=2024-05-01", "2024-05-01"), ("out=runs/a b", "runs/a b"),
    ('out="a"', "a"), ("train.compile=true", True), ("view.rotate=[1, 2]", [1, 2]), ("raw=", ""),
    ("data.validate={subject = [3]}", {"subject": [3]})])
def test_an_override_is_toml_or_a_bare_word(word, value):
    assert list(overrides([word]).values()) == [value]


def test_an_override_may_be_given_only_once():
    assert complaint(overrides, ["train.lr=1", "train.lr=2"]) == "train.lr= is given twice: give one value"


def test_of_many_known_names_only_the_nearest_is_told():
    line = nearest("row_7x", [f"row_{k}" for k in range(50)])
    assert line == ", did you mean 'row_7'? (known: 50, see recipes/README.md)"


# ---------------------------------------------------------------------------------------------------------------------
# Programs
# ---------------------------------------------------------------------------------------------------------------------

@pytest.fixture
def start(tmp_path):
    """Start a tiny program: start(body of main, further arguments of run, words, closed="stdout", RANK="1")."""
    def begin(body: str, how: str, *argv: str, closed: str = "", **environment: str) -> subprocess.Popen:
        text = f'''
            """Manual page.

                just tiny out=FILE
            """
            import os, signal, sys, time
            from dataclasses import dataclass
            from typing import Annotated
            from phases.common.command import run

            @dataclass(frozen=True)
            class Options:
                jobs: Annotated[int, (1, 8), "runs side by side"] = 1
                out: Annotated[str, "a file"] = ""

            def main(*given):
                {body}

            run(main{how})
        '''
        program = tmp_path / "tiny.py"
        program.write_text(textwrap.dedent(text).strip())

        # a pipe that nobody reads any more
        pipes: dict = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        read, write = os.pipe()
        os.close(read)
        if closed:
            pipes[closed] = write

        command = [sys.executable, str(program), *argv]
        begun = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)} | environment, text=True, **pipes)
        os.close(write)
        return begun
    return begin


@pytest.fixture
def outcome(start):
    """(exit code, standard output, standard error) of a tiny program; None for a closed pipe."""
    def end(*given: str, **more: str) -> tuple[int, str | None, str | None]:
        program = start(*given, **more)
        out, err = program.communicate(timeout=60)
        return program.returncode, out, err
    return end


@pytest.mark.parametrize("how, words, told", [
    ("", ["jobs=2", "x=1"], "(['jobs=2', 'x=1'],)\n"),
    (", Options", ["jobs=2"], "(Options(jobs=2, out=''),)\n"),
    (", Options, recipe=True", ["jobs=2", "x=1"], "(Options(jobs=2, out=''), ['x=1'])\n")])
def test_a_program_is_given_words_or_options(outcome, how, words, told):
    assert outcome("print(given)", how, *words) == (0, told, "")


def test_a_program_ends_with_the_code_of_its_main(outcome):
    assert outcome("return 3", "") == (3, "", "")


@pytest.mark.parametrize("body, line", [
    ("print('late')", "jobs = 9: must lie in 1 to 8"), ("raise ValueError('a\\n  b')", "a b"),
    ("open('nowhere')", "[Errno 2] No such file or directory: 'nowhere'")])
def test_bad_input_is_one_line_and_code_2(outcome, body, line):
    how, word = (", Options", "jobs=9") if "late" in body else ("", "jobs=9")
    assert outcome(body, how, word) == (2, "", f"error: {line}\n")


def test_a_bug_of_ours_shows_its_traceback(outcome):
    code, _, err = outcome("1 // 0", "")
    assert code == 1 and "ZeroDivisionError" in err


def test_of_several_processes_only_the_first_complains(outcome):
    assert outcome("raise ValueError('so')", "", RANK="1") == (2, "", "")
    assert outcome("raise ValueError('so')", "", RANK="0") == (2, "", "error: so\n")


@pytest.mark.parametrize("word", ["-h", "--help", "help"])
def test_help_prints_the_manual_page_and_the_options(outcome, word):
    code, out, err = outcome("1 // 0", ", Options, recipe=True", "jobs=x", word)
    assert (code, err) == (0, "") and out == textwrap.dedent("""\
        Manual page.

            just tiny out=FILE

        Options and their defaults (...: must be given):
            jobs=1         runs side by side; 1 to 8
            out=           a file
            key.sub=value  any field of a recipe
        """)


def test_help_of_a_program_without_options_is_its_manual(outcome):
    assert outcome("1 // 0", "", "--help")[1] == "Manual page.\n\n    just tiny out=FILE\n"


def test_help_tells_defaults_choices_and_ranges():
    page = manual(complaint, Options)
    lines = [" ".join(line.split()) for line in page.splitlines()]
    assert lines[-14:-7] == [
        "clip=... a file or a folder", "format=text of the answer; text, csv, json",
        "jobs=1 runs side by side; 1 to 1024", "sure=0.8 0 to 1", "gain=1.0", "dry=false",
        "seeds=0 comma-separated; 0 to 99"]
    assert page.startswith("One parser for command lines") and max(map(len, page.splitlines())) <= 120


@pytest.mark.parametrize("how, told", [
    ("", "interrupted: the same command goes on from here\n"), (", interrupted='stopped'", "stopped\n"),
    (", interrupted=''", "")])
def test_ctrl_c_is_code_130_and_one_line_or_none(start, how, told):
    program = start("print('here', flush=True); time.sleep(60)", how)
    assert program.stdout.readline() == "here\n"
    program.send_signal(signal.SIGINT)
    assert program.communicate(timeout=60) == ("", told) and program.returncode == 130


@pytest.mark.parametrize("body, words", [
    ("print('a line')", []), ("[print(k) for k in range(10**5)]", []), ("print('a line', flush=True)", []),
    ("sys.stdout.write(10**5 * 'x')", []), ("return 0", ["--help"])])
def test_a_reader_who_has_seen_enough_ends_it_quietly(outcome, body, words):
    assert outcome(body, "", *words, closed="stdout") == (128 + signal.SIGPIPE, None, "")


def test_an_error_that_nobody_reads_keeps_its_code(outcome):
    assert outcome("raise ValueError('so')", "", closed="stderr") == (2, "", None)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_under_the_output_is_one_line(outcome):
    code, _, err = outcome("sys.stdout = open('/dev/full', 'w'); print('a line')", "")
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.parametrize("code, left", [(0, "destroyed\n"), (1, "")])
def test_processes_that_train_are_left_after_success_only(outcome, code, left):
    fake = "import types; sys.modules['torch.distributed'] = types.SimpleNamespace(is_available=lambda: True, " \
           "is_initialized=lambda: True, destroy_process_group=lambda: print('destroyed'))"
    assert outcome(f"{fake}; return {code}", "") == (code, left, "")


def test_the_parser_loads_neither_torch_nor_numpy():
    code = "import sys, phases.common.command; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("words", [["recipe=lite_nano"], ["--help"], []])
def test_without_numpy_a_program_says_what_to_install(words):
    # -S: without the folder of installed packages
    command = [sys.executable, "-S", "-m", "phases.p1_train", *words]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 2 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "requirements.txt" in line and ".venv" in line and sys.executable in line


def test_without_numpy_the_package_itself_can_be_imported():
    command = [sys.executable, "-S", "-c", "import phases, phases.common.wording"]
    assert subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True).returncode == 0
