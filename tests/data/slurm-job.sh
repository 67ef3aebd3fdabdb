#!/bin/bash
#SBATCH --job-name=microgpt-one
#SBATCH --ntasks=4
#SBATCH --cpus-per-task=2
#SBATCH --partition=long
#SBATCH --time=1:00:00
#SBATCH --comment='it'"'"'s mine'
#SBATCH --requeue
#SBATCH --no-kill
#SBATCH --open-mode=append
#SBATCH --output='/home/anna/my runs/one/logs/coordinator.log'
#SBATCH --chdir=/home/anna
#SBATCH --signal=B:TERM@120
# Made by "train --launcher slurm".

train=(
  python -P -m lab.command_line train
  --steps 50
  --quiet
  --data 'my names.txt'
  --launcher slurm
  --workers 4
  --run-dir 'my runs/one'
)
begin=(--resume other/checkpoint.msgpack)
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then # it has been queued again
  begin=(--resume auto)
fi

run=
warned=
# The time limit is near, or somebody ends the job, perhaps before there is anything to end.
trap 'warned=1; [ -z "$run" ] || kill -TERM "$run" 2>/dev/null' TERM
"${train[@]}" "${begin[@]}" &
run=$!
[ -z "$warned" ] || kill -TERM "$run" 2>/dev/null
wait "$run"
code=$?
while kill -0 "$run" 2>/dev/null; do # the signal has only ended the waiting
  wait "$run"
  code=$?
done

# Saved, but not done. A job that somebody has cancelled is not running any more.
if [ "$code" = 143 ] && scontrol show job "$SLURM_JOB_ID" | grep -q "JobState=RUNNING"; then
  echo "the job is queued again, and will go on from its checkpoint"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
