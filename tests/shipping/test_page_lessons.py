"""What the page learns from a few examples, and the files that it writes of them, in Node.js and beside numpy."""
import base64
import io
import json
import zipfile

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from phases.recordings.archives import unpacked
from phases.shipping.declining import class_means, cosine_of, softmax, unit_vectors
from phases.shipping.exported import ExportedModel, model_file
from skeletons import SKELETONS
from tests.helpers.acting import utd_clips
from tests.helpers.browser import node
from tests.helpers.shipped import stand_in

# ---------------------------------------------------------------------------------------------------------------------
# What the page learns
# ---------------------------------------------------------------------------------------------------------------------

LEARN = """
const { learned, answerOf, checked, direction } = await import(root + "/teach.js");
return jobs.map(({ features, actions, scale, asked }) => {
  const examples = features.map((f, i) => ({ action: actions[i], d: direction(f, scale) })), head = learned(examples);
  return { head, checked: head && checked(examples),
    answers: head && asked.map((f) => answerOf(head, direction(f, scale))) };
});
"""


def in_numpy(features: np.ndarray, actions: list[str], scale: np.ndarray, asked: np.ndarray) -> dict:
    """{means, threshold, offset, p, known}: the formulas of page/teach.js with the functions of declining.py."""
    classes = [a for a in dict.fromkeys(actions) if a != "nothing"]
    labels = np.array([classes.index(a) if a in classes else -1 for a in actions])
    u = unit_vectors(features * scale)
    own, nothing, labels = u[labels >= 0], u[labels < 0], labels[labels >= 0]
    K = len(classes)
    means = class_means(own, labels, K)

    # how far classes are apart
    together = np.concatenate([means, class_means(nothing, np.zeros(len(nothing), int), 1)]) if len(nothing) else means
    gap = 1 - (together @ together.T)[np.triu_indices(len(together), 1)].mean()

    # examples that are left out in rounds, one of each class at a time
    threshold, offset = 1 - 0.6 * gap, 0.0
    if np.bincount(labels).min() > 1:
        turn = np.zeros(len(labels), int)
        for k in range(K):
            turn[labels == k] = np.arange((labels == k).sum()) % 10
        likeness = np.zeros(len(labels))
        for r in np.unique(turn):
            likeness[turn == r] = cosine_of(own[turn == r], class_means(own[turn != r], labels[turn != r], K))
        threshold = min(threshold, 1 - 2 * (1 - np.quantile(likeness, 0.05)))
        if len(nothing) > 1:
            among = nothing @ nothing.T - 3 * np.eye(len(nothing))
            lead = (nothing @ means.T).max(1) - among.max(1)
            most = np.quantile(likeness - (own @ nothing.T).max(1), 0.015)
            offset = min(max(0.0, np.quantile(lead, 0.95)), most)

    # the answer
    v = unit_vectors(asked * scale)
    cosines = v @ means.T
    best = cosines.max(1)
    other = (v @ nothing.T).max(1) + offset if len(nothing) else np.full(len(v), -2.0)
    logits = np.concatenate([cosines, other[:, None]], 1) if len(nothing) else cosines
    return {"means": means, "threshold": threshold, "offset": offset, "p": softmax(logits * 12 / gap),
            "known": (best >= threshold) & (best > other)}


def test_the_page_learns_what_numpy_learns():
    rng = np.random.default_rng(0)
    jobs = []
    for counts in ({"a": 1, "b": 1}, {"a": 1, "nothing": 1}, {"a": 3, "b": 5, "nothing": 4}, {"b": 12, "a": 2, "c": 3},
                   {"a": 1, "b": 4, "nothing": 2}, {"a": 4, "nothing": 3}):
        centres = {a: rng.normal(0, 1, 8) + 2 for a in counts}
        actions = [a for a, n in counts.items() for _ in range(n)]
        features = np.array([centres[a] + rng.normal(0, 0.4, 8) for a in actions])
        asked = rng.normal(0, 0.5, (30, 8)) + np.array([centres[a] for a in rng.choice(actions, 30)])
        jobs.append({"features": features, "actions": actions, "scale": rng.random(8) + 0.1, "asked": asked})
    lists = [{key: np.asarray(value).tolist() for key, value in job.items()} for job in jobs]

    known = []
    for job, got in zip(jobs, node(LEARN, lists), strict=True):
        want = in_numpy(**job)
        np.testing.assert_allclose(got["head"]["means"], want["means"], atol=1e-6)
        assert [got["head"][key] for key in ("threshold", "offset")] == pytest.approx(
            [want["threshold"], want["offset"]], abs=1e-6)
        np.testing.assert_allclose([answer["p"] for answer in got["answers"]], want["p"], atol=1e-5)
        assert [answer["known"] for answer in got["answers"]] == want["known"].tolist()
        known += want["known"].tolist()
    assert 0.2 < np.mean(known) < 0.95, "some are declined, some are not"


def test_one_action_alone_teaches_nothing():
    ones = np.ones((3, 4)).tolist()
    job = {"features": ones, "scale": [1, 1, 1, 1], "asked": []}
    alone, idle = node(LEARN, [job | {"actions": ["a"] * 3}, job | {"actions": ["nothing"] * 3}])
    assert alone["head"] is None and idle["head"] is None


def test_left_out_examples_that_are_wrong_are_counted():
    near, far = [[1, 0.1 * i, 0] for i in range(3)], [[0.1 * i, 1, 0] for i in range(3)]
    job = {"features": [*near, *far, [0, 1, 0]], "actions": ["a"] * 3 + ["b"] * 3 + ["a"], "scale": [1, 1, 1],
           "asked": []}
    assert node(LEARN, [job])[0]["checked"] == {"right": 6, "of": 7}


def test_the_page_knows_a_networks_scale_of_features():
    for name in ("utd_mhad_small", "utd_mhad.int8"):
        path = model_file(name)
        want = next(numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer if t.name == "feature_scale")
        found = node("""const { Network } = await import(root + "/network.js");
            return Array.from(new Network("m", new Uint8Array(fs.readFileSync(jobs[0]))).featureScale);""", [str(path)])
        np.testing.assert_array_equal(np.float32(found), want)


def test_a_network_without_that_scale_cannot_be_taught(tmp_path):
    path = stand_in(tmp_path / "m.onnx", [], SKELETONS["ntu25"])
    said = node("""const { Network } = await import(root + "/network.js");
        try { return [new Network("m.onnx", new Uint8Array(fs.readFileSync(jobs[0]))).featureScale]; }
        catch (e) { return [e.message]; }""", [str(path)])
    assert said == ["m.onnx cannot be taught: export it again with “just phase4”."]


def test_five_examples_of_real_gestures_are_enough(data_folder):
    """Of one person in UTD-MHAD, three recordings teach six actions; those of other people are asked."""
    model = ExportedModel(model_file("utd_mhad"))
    scale = next(numpy_helper.to_array(t) for t in onnx.load(model_file("utd_mhad")).graph.initializer
                 if t.name == "feature_scale")
    taught, actions, asked, wanted = [], [], [], []
    for action in ("wave", "clap", "squat", "bowling", "draw x", "lunge"):
        features = [model.answer(clip[None]).features for clip in utd_clips(data_folder, action)]
        taught += features[:3]
        actions += [action] * 3
        asked += features[4:16]
        wanted += [action] * 12
    job = {"features": taught, "actions": actions, "scale": scale, "asked": asked}
    [got] = node(LEARN, [{key: np.asarray(value).tolist() for key, value in job.items()}])
    named = [got["head"]["classes"][int(np.argmax(answer["p"]))] for answer in got["answers"]]
    assert np.mean(np.array(named) == wanted) > 0.9


# ---------------------------------------------------------------------------------------------------------------------
# Files of what was learned
# ---------------------------------------------------------------------------------------------------------------------

HEADS = """
const { Network } = await import(root + "/network.js"), teach = await import(root + "/teach.js");
const network = new Network("m.onnx", new Uint8Array(fs.readFileSync(jobs.network))), C = network.featureScale.length;
const axis = (i) => teach.unit(Array.from({ length: C }, (_, c) => Number(c === i)));
const examples = jobs.actions.map((action, i) => ({ action, d: axis(i) }));
const head = teach.learned(examples), text = teach.headFile(head, network), found = [];
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
               {"sharpness": 0}, {"nothing": 5}]
    job = {"network": str(model_file("utd_mhad")), "actions": ["a", "b", "nothing", "a"], "changes": changes}
    written, said = node(HEADS, job)
    assert written["format"] == "LAST taught 1" and written["classes"] == ["a", "b", "nothing"]
    assert written["network"]["dataset"] == "utd_mhad" and len(written["network"]["crc32"]) == 8
    assert not said[0], "as it was written"
    assert "has the format LAST taught 9" in said[1]
    assert "was taught on the network r, fp32, of d, which is not on this page" in said[2]
    assert "not on this page" in said[3]
    assert said[4:] == ["x.json is damaged: save it again on the page where it was taught."] * 6


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
const { examples, lost } = examplesIn(files, network, jobs.action);
return [examples.map(({ action, skeleton, camera, clip: { M, L, V } }) => [action, skeleton, camera, M, L, V]), lost];
"""


def test_folders_are_actions_and_skeleton_json_says_whose_joints():
    def array(*shape: int) -> bytes:
        file = io.BytesIO()
        np.save(file, np.random.default_rng(0).normal(size=shape) + 3)
        return file.getvalue()

    about = {"skeleton": "mediapipe33", "unit": "m", "up": "y", "camera": True}
    files = {"mine/skeleton.json": json.dumps(about).encode(), "mine/wave/2.npy": array(9, 33, 3),
             "mine/wave/10.npy": array(5, 33, 3), "mine/.hidden/1.npy": b"", "mine/point/a.npy": array(2, 4, 33, 3),
             "mine/point/bad.npy": b"no", "mine/notes.txt": b"", "other/sit/1.npy": array(3, 25, 3),
             "lone.npy": array(3, 25, 3), "high_kick-02.npy": array(3, 25, 3)}
    job = {"network": str(model_file("utd_mhad")), "action": "",
           "files": {name: base64.b64encode(data).decode() for name, data in files.items()}}
    (high, *examples), lost = node(READ, job)
    assert examples == [["point", "mediapipe33", True, 2, 4, 33], ["wave", "mediapipe33", True, 1, 9, 33],
                        ["wave", "mediapipe33", True, 1, 5, 33], ["sit", "ntu25", False, 1, 3, 25]]
    assert high == ["high kick", "ntu25", False, 1, 3, 25]
    assert [said.split(":")[0] for said in lost] == ["lone.npy", "bad.npy cannot be read"]
    examples, lost = node(READ, job | {"action": "jump"})
    assert [example[0] for example in examples].count("jump") == 2 and len(lost) == 1
