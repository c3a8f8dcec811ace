# shellcheck shell=bash disable=SC2034
# The ablation study for steps.sh, parallel.sh and submit.sh: copy this file, say where your data
# are. Paths are those of the folder that the scripts are started in (or absolute).

data=data              # data/COHORT/ct, data/COHORT/anatomy, data/COHORT/ANNOTATION, data/test/truth
out=ablation           # everything that is made goes here
lungs=anatomy          # anatomy (the lobes of the TotalSegmentator maps) or hu
recipe=paper           # of lnq-train
train_options=()       # as (--set full_share=0.5 --device cuda)
infer_options=()       # as (--no-mirror)
folds=(0 1 2 3 4)      # their mean predicts; (all) trains one network on all cases
seed=0
shards=20              # jobs that share the cases of a step
cores=4                # of a job

# cohort, name of its labels, annotation that they are made of, whether anatomy becomes background
# (fill or -), options of lnq-weaklabel
labels="
full    standard      standard     -     --strategy full
full    refined       bouget       -     --strategy full
weak    noisy         annotations  -     --strategy noisy
weak    mask          annotations  -     --strategy mask
weak    coat          annotations  -     --strategy coat --margin 1
weak    mask+anatomy  annotations  fill  --strategy mask
tumour  none+anatomy  tumour       fill  --strategy mask --values none --background $data/tumour/tumour
"

# model, and the labels that it is trained on: Table 3, and room for an eighth
models="
1  full/standard
2  full/standard  weak/noisy
3  full/standard  weak/mask
4  full/standard  weak/coat
5  full/standard  weak/mask+anatomy
6  full/refined   weak/mask+anatomy
7  full/refined   weak/mask+anatomy  tumour/none+anatomy
"

# What sbatch is told besides, for steps without and with a GPU (--account, --qos, …).
cpu_job=(--partition=cpu --mem=12G --time=2:00:00)
gpu_job=(--partition=gpu --gpus=1 --mem=48G --time=2-00:00:00)
