"""What the page learns from a few examples, and the files that it writes of them, in Node.js and beside numpy."""
import base64
import io
import json
import zipfile

import numpy as np
import onnx
import pytest

from phases.recordings.archives import unpacked
from phases.shipping.exported import ExportedModel, model_file
from phases.shipping.taught import feature_scale, network_gap
from phases.shipping.teaching import HEADS as HEADS_OF_TEACH
from phases.shipping.teaching import Taught, directions, fit, leave_one_out, rounds_of, teach
from skeletons import SKELETONS
from tests.helpers.acting import utd_clips
from tests.helpers.browser import node
from tests.helpers.shipped import stand_in

# ---------------------------------------------------------------------------------------------------------------------
# What the page learns
# ---------------------------------------------------------------------------------------------------------------------

LEARN = """
const { learned, answerOf, direction } = await import(root + "/teach.js");
return jobs.map(({ features, actions, scale, asked, gap }) => {
  const examples = features.map((f, i) => ({ action: actions[i], d: direction(f, scale) }));
  const head = learned(examples, gap);
  return { head, answers: head && asked.map((f) => answerOf(head, direction(f, scale))) };
});
"""
GAP = 0.9   # of a network


def in_numpy(job: dict) -> Taught:
    """What `just teach` makes of the same features."""
    actions = job["actions"]
    classes = [a for a in dict.fromkeys(actions) if a != "nothing"]
    labels = np.array([classes.index(a) if a in classes else -1 for a in actions])
    nothing = job["features"][labels < 0]
    return teach(job["features"][labels >= 0], labels[labels >= 0], len(classes), GAP, job["scale"],
                 nothing=nothing if len(nothing) else None)


def lists(job: dict) -> dict:
    """Arrays as JSON writes them."""
    return {key: np.asarray(value).tolist() for key, value in job.items()}


def test_the_page_learns_what_teach_learns():
    rng = np.random.default_rng(0)
    jobs = []
    for counts in ({"a": 1, "b": 1}, {"a": 1, "nothing": 1}, {"a": 3, "b": 5, "nothing": 4}, {"b": 12, "a": 2, "c": 3},
                   {"a": 1, "b": 4, "nothing": 2}, {"a": 4, "nothing": 3}, {"a": 7, "b": 6, "c": 8}):
        centres = {a: rng.normal(0, 1, 8) + 1 for a in counts}
        actions = [a for a, n in counts.items() for _ in range(n)]
        features = np.array([centres[a] + rng.normal(0, 0.5, 8) for a in actions])
        asked = rng.normal(0, 0.5, (30, 8)) + np.array([centres[a] for a in rng.choice(actions, 30)])
        jobs.append({"features": features, "actions": actions, "asked": asked, "scale": rng.random(8) + 0.1,
                     "gap": GAP})

    known = []
    kinds = set()
    for job, got in zip(jobs, node(LEARN, [lists(job) for job in jobs]), strict=True):
        want = in_numpy(job)
        kinds.add(want.head.kind)
        np.testing.assert_allclose(got["head"]["means"], want.means, atol=1e-6)
        assert got["head"]["threshold"] == pytest.approx(want.threshold, abs=1e-6)
        assert got["head"]["offset"] == pytest.approx(want.offsets[0] if len(want.offsets) else 0, abs=1e-6)
        p = [answer["p"] for answer in got["answers"]]
        np.testing.assert_allclose(p, want.probabilities(job["asked"]), atol=1e-4)
        is_known = want.likeness(job["asked"]) >= want.threshold
        assert [answer["known"] for answer in got["answers"]] == is_known.tolist()
        known += is_known.tolist()
    assert 0.2 < np.mean(known) < 0.95, "some are declined, some are not"
    assert len(kinds) > 1


@pytest.mark.parametrize("head", HEADS_OF_TEACH, ids=str)
def test_every_last_layer_is_that_of_teach(head):
    """Also of near copies, whose span is not as large as their number."""
    rng = np.random.default_rng(1)
    labels = np.arange(18) % 3
    u = directions(rng.normal(0, 1, (3, 40))[labels] + rng.normal(0, 0.4, (18, 40)), np.ones(40))
    u = np.concatenate([u, u[:6]])
    labels = np.concatenate([labels, labels[:6]])
    weight, bias = fit(head, u, labels, 3)
    rounds, _ = rounds_of(labels, None)
    [got] = node("""const { solution, leaveOut, spanOf, roundsOf, dot } = await import(root + "/heads.js");
        return jobs.map(({ head, u, labels }) => {
          const basis = spanOf(u), x = u.map((row) => [...basis.map((axis) => dot(row, axis)), 1]);
          const w = solution(head, x, labels, 3, () => 1);
          const logits = x.map((row) => [0, 1, 2].map((k) => dot(row, w.map((line) => line[k]))));
          return [logits, leaveOut(head, x, labels, 3, roundsOf(labels, 3))];
        });""", [{"head": list(head), "u": u.tolist(), "labels": labels.tolist()}])
    np.testing.assert_allclose(got[0], u @ weight.T + bias, atol=1e-6)
    np.testing.assert_allclose(got[1], leave_one_out(u, labels, 3, head, rounds), atol=1e-6)


def test_one_action_alone_teaches_nothing():
    ones = np.ones((3, 4)).tolist()
    job = {"features": ones, "scale": [1, 1, 1, 1], "asked": [], "gap": GAP}
    alone, idle = node(LEARN, [job | {"actions": ["a"] * 3}, job | {"actions": ["nothing"] * 3}])
    assert alone["head"] is None and idle["head"] is None


def test_left_out_examples_that_are_wrong_are_counted():
    near, far = [[1, 0.1 * i, 0] for i in range(3)], [[0.1 * i, 1, 0] for i in range(3)]
    job = {"features": [*near, *far, [0, 1, 0]], "actions": ["a"] * 3 + ["b"] * 3 + ["a"], "scale": [1, 1, 1],
           "asked": [], "gap": GAP}
    assert node(LEARN, [job])[0]["head"]["tried"] == {"right": 6, "of": 7, "confused": ["a", "b"]}


def test_the_page_knows_a_networks_scale_and_gap():
    for name in ("any", "utd_mhad.int8"):
        path = model_file(name)
        file = onnx.load(path)
        scale, gap = node("""const { Network } = await import(root + "/network.js");
            const network = new Network("m", new Uint8Array(fs.readFileSync(jobs[0])));
            return [Array.from(network.featureScale), network.gap];""", [str(path)])
        np.testing.assert_array_equal(np.float32(scale), feature_scale(file, path))
        assert gap == pytest.approx(network_gap(file, path), abs=1e-5)


def test_a_network_without_that_scale_cannot_be_taught(tmp_path):
    path = stand_in(tmp_path / "m.onnx", [], SKELETONS["ntu25"])
    said = node("""const { Network } = await import(root + "/network.js");
        try { return [new Network("m.onnx", new Uint8Array(fs.readFileSync(jobs[0]))).featureScale]; }
        catch (e) { return [e.message]; }""", [str(path)])
    assert said == ["m.onnx cannot be taught: export it again with “just phase4”."]


def test_five_examples_of_real_gestures_are_enough(data_folder):
    """Of one person in UTD-MHAD, three recordings teach six actions; those of other people are asked."""
    model = ExportedModel(model_file("utd_mhad"))
    file = onnx.load(model_file("utd_mhad"))
    taught, actions, asked, wanted = [], [], [], []
    for action in ("wave", "clap", "squat", "bowling", "draw x", "lunge"):
        features = [model.answer(clip[None]).features for clip in utd_clips(data_folder, action)]
        taught += features[:3]
        actions += [action] * 3
        asked += features[4:16]
        wanted += [action] * 12
    path = model_file("utd_mhad")
    job = {"features": taught, "actions": actions, "scale": feature_scale(file, path), "asked": asked,
           "gap": network_gap(file, path)}
    [got] = node(LEARN, [lists(job)])
    named = [got["head"]["classes"][int(np.argmax(answer["p"]))] for answer in got["answers"]]
    assert np.mean(np.array(named) == wanted) > 0.9


# ---------------------------------------------------------------------------------------------------------------------
# Files of what was learned
# ---------------------------------------------------------------------------------------------------------------------

HEADS = """
const { Network } = await import(root + "/network.js"), teach = await import(root + "/teach.js");
const { unit } = await import(root + "/heads.js");
const network = new Network("m.onnx", new Uint8Array(fs.readFileSync(jobs.network))), C = network.featureScale.length;
const axis = (i) => unit(Array.from({ length: C }, (_, c) => Number(c === i)));
const examples = jobs.actions.map((action, i) => ({ action, d: axis(i) }));
const head = teach.learned(examples, network.gap), text = teach.headFile(head, network), found = [];
for (const change of jobs.changes) {
  const parsed = JSON.parse(text);
  for (const [key, value] of Object.entries(change)) parsed[key] = value;
  try {
    const read = teach.headFrom(parsed, "x.json", [network]);
    found.push(JSON.stringify(read.head) === JSON.stringify(head) && read.base === network ? "" : "other");
  } catch (e) {
    found.push(e.message);
  }
}
return [JSON.parse(text), found];
"""


def test_what_was_learned_is_a_small_file_that_is_checked():
    changes = [{}, {"format": "LAST taught 9"}, {"network": {"recipe": "r", "form": "fp32", "dataset": "d"}},
               {"network": None}, {"means": [[1]]}, {"classes": ["a", "a"]}, {"threshold": None}, {"classes": "ab"},
               {"temperature": 0}, {"nothing": 5}, {"weight": [[1]]}]
    job = {"network": str(model_file("utd_mhad")), "actions": ["a", "b", "nothing", "a"], "changes": changes}
    written, said = node(HEADS, job)
    assert written["format"] == "LAST taught 2" and written["classes"] == ["a", "b"]
    assert written["network"]["dataset"] == "utd_mhad" and len(written["network"]["crc32"]) == 8
    assert not said[0], "as it was written"
    assert "has the format LAST taught 9" in said[1]
    assert "was taught on the network r, fp32, of d, which is not on this page" in said[2]
    assert "not on this page" in said[3]
    assert said[4:] == ["x.json is damaged: save it again on the page where it was taught."] * 7


# ---------------------------------------------------------------------------------------------------------------------
# Archives
# ---------------------------------------------------------------------------------------------------------------------

WRITE = """
const { npy, plainName } = await import(root + "/exchange.js"), { zipped } = await import(root + "/zip.js");
const x = Float32Array.from({ length: 2 * 3 * 4 * 3 }, (_, i) => i / 7);
const files = [{ name: "skeleton.json", bytes: new TextEncoder().encode("{}") },
  { name: "grüßen/01.npy", bytes: npy({ x: x.subarray(36), M: 1, L: 3, V: 4 }) },
  { name: "zwei/01.npy", bytes: npy({ x, M: 2, L: 3, V: 4 }) }];
return [Buffer.from(zipped(files)).toString("base64"), jobs.map(plainName)];
"""


def test_a_zip_of_the_page_is_read_by_pythons_zipfile_and_adopt(tmp_path):
    data, _ = node(WRITE, [])
    path = tmp_path / "x.zip"
    path.write_bytes(base64.b64decode(data))
    with zipfile.ZipFile(path) as z:
        assert z.testzip() is None and z.namelist() == ["skeleton.json", "grüßen/01.npy", "zwei/01.npy"]
        one, two = (np.load(io.BytesIO(z.read(name))) for name in z.namelist()[1:])
    want = (np.arange(72, dtype=np.float32) / 7).reshape(2, 3, 4, 3)
    np.testing.assert_allclose(two, want, rtol=1e-6)
    np.testing.assert_allclose(one, want[1], rtol=1e-6)
    assert {p.name for p in unpacked(path).iterdir()} == {"skeleton.json", "grüßen", "zwei"}


def test_names_of_actions_can_be_folders():
    _, names = node(WRITE, ["  wave  twice ", "../../etc", "a/b\\c:d", "...", "grüßen", "\n", "x" * 99])
    assert names == ["wave twice", "etc", "a b c d", "", "grüßen", "", "x" * 40]


@pytest.mark.parametrize("way", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_page_reads_other_programs_archives(tmp_path, way):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", way) as z:
        z.writestr("mine/wave/1.npy", b"abc" * 999)
        z.writestr("mine/", b"")
        z.writestr("mine/empty.txt", b"")
    whole = (tmp_path / "x.zip").read_bytes()
    damaged = whole.replace(b"abcabc", b"abcabd", 1) if way == zipfile.ZIP_STORED else whole[:60] + b"\xff" + whole[61:]
    (tmp_path / "damaged.zip").write_bytes(damaged)
    (tmp_path / "cut.zip").write_bytes(whole[:-30])
    (tmp_path / "no.zip").write_bytes(b"hello")
    names = ("x", "damaged", "cut", "no")
    found = node("""const { unzipped } = await import(root + "/zip.js"), found = [];
        for (const path of jobs) {
          try {
            const files = await unzipped(new Uint8Array(fs.readFileSync(path)), path.split("/").at(-1));
            found.push(files.map(({ name, bytes }) => [name, Buffer.from(bytes).toString()]));
          } catch (e) { found.push(e.message); }
        }
        return found;""", [str(tmp_path / f"{name}.zip") for name in names])
    assert found[0] == [["mine/wave/1.npy", "abc" * 999], ["mine/empty.txt", ""]]
    assert found[1].startswith("damaged.zip cannot be read") and "damaged" in found[1].split(":")[1]
    assert all("is no .zip archive, or is cut off" in said for said in found[2:])


READ = """
const { Network } = await import(root + "/network.js"), { examplesIn } = await import(root + "/exchange.js");
const network = new Network("m", new Uint8Array(fs.readFileSync(jobs.network)));
const bytes = (data) => new Uint8Array(Buffer.from(data, "base64"));
const files = Object.entries(jobs.files).map(([name, data]) => ({ name, bytes: bytes(data) }));
const { examples, lost, guesses, named } = examplesIn(files, network, jobs.action);
const rows = examples.map(({ action, skeleton, camera, clip: { M, L, V } }) => [action, skeleton, camera, M, L, V]);
return [rows, lost, guesses, named];
"""


def test_folders_are_actions_and_skeleton_json_says_whose_joints():
    def array(*shape: int) -> bytes:
        file = io.BytesIO()
        np.save(file, np.random.default_rng(0).normal(size=shape) + 3)
        return file.getvalue()

    about = {"skeleton": "mediapipe33", "unit": "m", "up": "y", "camera": True}
    table = (",".join(f"{axis}{v}" for v in range(25) for axis in "xy") + "\n" + ",".join(map(str, range(50)))).encode()
    files = {"mine/skeleton.json": json.dumps(about).encode(), "other/labels.csv": b"name,label\n1,sit",
             "other/sit/2.csv": table, "mine/wave/2.npy": array(9, 33, 3),
             "mine/wave/10.npy": array(5, 33, 3), "mine/.hidden/1.npy": b"", "mine/point/a.npy": array(2, 4, 33, 3),
             "mine/point/bad.npy": b"no", "mine/notes.txt": b"", "other/sit/1.npy": array(3, 25, 3),
             "lone.npy": array(3, 25, 3), "high_kick-02.npy": array(3, 25, 3)}
    job = {"network": str(model_file("utd_mhad")), "action": "",
           "files": {name: base64.b64encode(data).decode() for name, data in files.items()}}
    (high, *examples), lost, guesses, named = node(READ, job)
    assert examples == [["point", "mediapipe33", True, 2, 4, 33], ["wave", "mediapipe33", True, 1, 9, 33],
                        ["wave", "mediapipe33", True, 1, 5, 33], ["sit", "ntu25", False, 1, 3, 25],
                        ["sit", "openpose25", False, 1, 1, 25]]  # a picture's
    assert high == ["high kick", "ntu25", False, 1, 3, 25] and named == ["high kick"]
    assert "add lone.npy again" in lost[0] and [said.split(":")[0] for said in lost[1:]] == ["bad.npy cannot be read"]
    assert sorted(guesses) == ["Read as the 25 joints of ntu25, by the lengths of their bones; openpose25 has as many.",
                               "Read as the 25 joints of openpose25, by the lengths of their bones; ntu25 has as many."]
    examples, lost, _, named = node(READ, job | {"action": "jump"})
    assert named == []
    assert [example[0] for example in examples].count("jump") == 2 and len(lost) == 1


@pytest.mark.parametrize("files, named", [
    (["person1", "person2", "wave-01"], ["person", "wave"]), (["high_kick (2)"], ["high kick"]),
    (["grüßen3"], ["grüßen"]), (["a27_s3_t1", "a27_s3_t2"], []), (["S001C001P001R001A001"], []), (["0", "1"], []),
    (["x1", "x2"], []), (["anna1", "bert1", "carl1"], []), (["anna1", "bert1", "0"], []), (["wave", "squat"], [])])
def test_what_names_of_files_say(files, named):
    """All different names, or codes, name no action."""
    file = io.BytesIO()
    np.save(file, np.random.default_rng(0).normal(size=(3, 25, 3)) + 3)
    data = base64.b64encode(file.getvalue()).decode()
    job = {"network": str(model_file("utd_mhad")), "action": "", "files": {f"{name}.npy": data for name in files}}
    examples, lost, _, found = node(READ, job)
    assert sorted(found) == named == sorted({action for action, *_ in examples})
    assert bool(lost) == (len(examples) < len(files)) and all("Which action" in said for said in lost)


def test_files_of_text_are_no_clips():
    data = {"notes.csv": b"who,what\nanna,waves", "about.json": b'{"a": 1}', "x.npy": b"no"}
    job = {"network": str(model_file("utd_mhad")), "action": "",
           "files": {name: base64.b64encode(text).decode() for name, text in data.items()}}
    examples, lost, *_ = node(READ, job)
    assert not examples and [said.split(":")[0] for said in lost] == [
        "about.json is no clip", "notes.csv is no clip", "x.npy cannot be read"]
