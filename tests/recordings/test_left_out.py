"""Files among recordings that are no clips: adopt, phase 0 and predict count and name them in one line."""
import json

import numpy as np

from phases.recordings.left_out import left_out_words, others_beside_clips
from phases.recordings.survey import look
from tests.helpers.own_clips import class_folders, labelled_folder, write_openpose
from tests.helpers.recordings import names, phase0, write_ntu
from tests.recordings.test_metres import clip


def fill(folder, *files: str):
    """Write files of text, with the folders that they are in."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("hello\n")


def test_what_is_no_clip_beside_and_in_class_folders(tmp_path):
    raw = class_folders(tmp_path / "raw", wave=[clip(0)], point=[clip(1)])
    write_openpose(raw / "wave" / "frames", np.ones((3, 25, 2)))
    fill(raw, "notes.txt", "wave/anna.docx", "wave/deep/1.npy", "other/x.txt", ".DS_Store", "wave/.hidden",
         "wave/frames/readme.md", "Thumbs.db")
    (raw / "skeleton.json").write_text(json.dumps({"skeleton": "ntu25"}))
    assert others_beside_clips(raw, "arrays") == (
        "4 files are no clips: notes.txt, other/x.txt, wave/anna.docx, wave/deep/1.npy")


def test_what_a_table_lists_is_a_clip_wherever_it_is(tmp_path):
    raw = labelled_folder(tmp_path / "raw", [clip(i) for i in range(4)], ["wave", "point"])
    (raw / "deep" / "er").mkdir(parents=True)
    np.save(raw / "deep" / "er" / "x.npy", clip(5))
    (raw / "labels.csv").write_text((raw / "labels.csv").read_text() + "\ndeep/er/x,wave,1\n")
    assert not others_beside_clips(raw, "arrays")
    fill(raw, "deep/er/x.txt")
    assert others_beside_clips(raw, "arrays") == "1 file is no clip: deep/er/x.txt"


def test_what_is_no_text_of_ntu(tmp_path):
    raw = write_ntu(tmp_path / "raw", names(3))
    fill(raw, "missing_skeletons.txt", "sub/a.avi")
    assert others_beside_clips(raw, "ntu") == "2 files are no clips: missing_skeletons.txt, sub/a.avi"


def test_a_line_names_no_more_than_four(tmp_path):
    files = [tmp_path / f"{k}.md" for k in range(6)]
    assert left_out_words(tmp_path, files) == "6 files are no clips: 0.md, 1.md, 2.md, 3.md, ..."


def test_adopt_and_phase_0_tell_it(tmp_path, capsys):
    raw = write_ntu(tmp_path / "raw", names(3))
    fill(raw, "notes.txt")
    assert phase0("recipe=ntu60", f"raw={raw}", f"data.store={tmp_path / 'store'}")[0] == 0
    assert "  1 file is no clip: notes.txt\n" in capsys.readouterr().err

    raw = class_folders(tmp_path / "mine", wave=[clip(i) for i in range(3)], point=[clip(i) for i in range(3, 6)])
    fill(raw, "wave/notes.txt")
    assert look(raw).others == "1 file is no clip: wave/notes.txt"
