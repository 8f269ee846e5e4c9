# LAST. `just` alone lists the commands; `just phase1 recipe=lite_small train.epochs=5` overrides any field of a recipe.
set positional-arguments

here := justfile_directory()
venv := here / ".venv/bin/python"
python := if path_exists(venv) == "true" { venv } else { "python3" }

# list the commands; `just COMMAND --help` shows the manual page of one
[private]
default:
    @{{just_executable()}} --list --unsorted

# your own recordings -> a recipe, every line explained: just adopt FOLDER_OR_FILE [name=mine] [skeleton=NAME]
[no-exit-message]
adopt *args:
    @"{{python}}" -m phases.adopt "$@"

# raw skeletons -> clip store: just phase0 recipe=nw_ucla raw=FOLDER
[no-exit-message]
phase0 *args:
    @"{{python}}" -m phases.p0_preprocess "$@"

# clip stores of many data sets -> one store of one body, for a general network: just pool stores=nw_ucla,utd_mhad
[no-exit-message]
pool *args:
    @"{{python}}" -m phases.pool "$@"

# train and test one network: just phase1 recipe=lite_small [data=nw_ucla] [seed=1] [key.sub=value ...]
[no-exit-message]
phase1 *args:
    @"{{python}}" -m phases.p1_train "$@"

# distil a trained teacher into LAST-Lite: just phase2 recipe=lite_small_base [distil.teacher=RECIPE_OR_FOLDER,...]
[no-exit-message]
phase2 *args:
    @"{{python}}" -m phases.p2_distill "$@"

# pretrain LAST-Lite's encoder without labels: just phase3 recipe=maskclr_small [force=true]
[no-exit-message]
phase3 *args:
    @"{{python}}" -m phases.p3_maskclr "$@"

# export a finished run as ONNX and verify each file: just phase4 recipe=lite_small [format=tflite] [causal=true]
[no-exit-message]
phase4 *args:
    @"{{python}}" -m phases.p4_export "$@"

# name the action in a clip with an exported file: just predict model=FILE.onnx clip=FILE_OR_FOLDER, or stream=true
[no-exit-message]
predict *args:
    @"{{python}}" -m phases.predict "$@"

# your own actions from a few clips each, in seconds: just teach model=any raw=FOLDER_OR_FILE out=mine.onnx
[no-exit-message]
teach *args:
    @"{{python}}" -m phases.teach "$@"

# a web page that recognises actions from a webcam: just page model=FILE.onnx[,FILE.onnx] out=page/ [serve=8000]
[no-exit-message]
page *args:
    @"{{python}}" -m phases.page "$@"

# judge a pretrained encoder: just probe recipe=probe_linear|probe_finetune|probe_10|probe_1 init=RECIPE_OR_FOLDER
[no-exit-message]
probe *args:
    @"{{python}}" -m phases.probe "$@"

# how a network holds on what cameras deliver: just wild recipe=lite_nano data=utd_mhad [seeds=0,1,2] | model=FILE
[no-exit-message]
wild *args:
    @"{{python}}" -m phases.wild "$@"

# whether an exported file declines what it was not taught: just decline model=FILE data=utd_mhad [others=nw_ucla]
[no-exit-message]
decline *args:
    @"{{python}}" -m phases.decline "$@"

# describe a network, a skeleton or an exported file: just info recipe=lite_small | skeleton=ntu25 | model=utd_mhad
[no-exit-message]
info *args:
    @"{{python}}" -m phases.info "$@"

# draw one clip: just show clip=NAME_OR_FILE out=clip.gif [store=FOLDER] [model=FILE.onnx]
[no-exit-message]
show *args:
    @"{{python}}" -m phases.show "$@"

# many trainings, some side by side: just ablation rows=B (L, P, all, B0,lite_nano) [seeds=0,1,2] [jobs=2] [dry=true]
[no-exit-message]
ablation *args:
    @"{{python}}" -m phases.ablation "$@"

# tables from runs/ and results/: just table [data=nw_ucla] [show=L,rest] [format=csv] [out=FILE] | into=README.md
[no-exit-message]
table *args:
    @"{{python}}" -m phases.table "$@"

# one HTML page about a run, with its curves, confusions and wrong clips: just report recipe=lite_nano data=nw_ucla
[no-exit-message]
report *args:
    @"{{python}}" -m phases.report "$@"

# finished runs and exports -> results/*.json, one file a row
[no-exit-message]
collect *args:
    @"{{python}}" -m phases.collect "$@"

# the whole pipeline in minutes on clips it makes itself; everything lies under runs/demo, pictures too
demo:
    @"{{python}}" -m phases.p0_preprocess recipe=synthetic
    @"{{python}}" -m phases.p1_train recipe=lite_small data=synthetic out=runs/demo
    @"{{python}}" -m phases.p1_train recipe=lite_nano data=synthetic out=runs/demo
    @"{{python}}" -m phases.p2_distill recipe=lite_nano_small data=synthetic out=runs/demo
    @"{{python}}" -m phases.table runs=runs/demo results= show=rest
    @"{{python}}" -m phases.show clip=@each store=stores/synthetic out=runs/demo/clips.png
    @"{{python}}" -m phases.p4_export recipe=lite_nano_small data=synthetic out=runs/demo exports=runs/demo/exports \
        || [ $? = 1 ]  # a file lost a point here, and phase 4 has said so
    @"{{python}}" -m phases.predict model=runs/demo/exports/synthetic/lite_nano_small/model.int8.onnx \
        clip=stores/synthetic-raw/S001C001P006R001A003.skeleton
    @"{{python}}" -m phases.show model=runs/demo/exports/synthetic/lite_nano_small/model.int8.onnx \
        clip=stores/synthetic-raw/S001C001P006R001A003.skeleton out=runs/demo/clip.gif
    @"{{python}}" -m phases.report recipe=lite_nano_small data=synthetic out=runs/demo html=runs/demo/report.html

# measure parsing, view and network rates as ratios in one run, into results/bench.json
[no-exit-message]
bench *args:
    @OMP_WAIT_POLICY=PASSIVE "{{python}}" -m tests.tools.bench "$@"

# races for the fewest core-minutes on Northwestern-UCLA: just speedrun levers=all (each alone) | levers=nano+muon
[no-exit-message]
speedrun *args:
    @OMP_NUM_THREADS=1 "{{python}}" -m tests.tools.speedrun "$@"

# mutated inputs against every reader and loader: just fuzz [seconds=60] [seed=0] [targets=ntu,pickle] [out=FILE]
[no-exit-message]
fuzz *args:
    @OMP_NUM_THREADS=1 "{{python}}" -m tests.tools.fuzz "$@"

# every phase interrupted in every way: just torture [rounds=50] [phases=0,1] [out=FILE]; ntu=true: NTU at full size
[no-exit-message]
torture *args:
    @OMP_NUM_THREADS=1 "{{python}}" -m tests.tools.torture "$@"

# all tests, three side by side: on two cores, browsers wait
test *args:
    @"{{python}}" -m pytest -n 3 --dist worksteal "$@"

# networks, view, attention and phases on a GPU against the CPU (LAST_GPU=cpu rehearses them)
test-gpu *args:
    @"{{python}}" -m pytest -o "addopts=-q --import-mode=importlib" tests/last/test_gpu.py "$@"

# all that a GPU is needed for, in the order of its worth: just gpu [minutes=15] [tiny=true]
[no-exit-message]
gpu *args:
    @"{{python}}" -m tests.tools.gpu "$@"

# ruff
lint:
    @"{{python}}" -m ruff check .
