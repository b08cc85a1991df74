# shellcheck shell=bash
# What every node of a job sources first: copy it, and name the copy in `launch.slurm.setup`.

# module load cuda

# The fabric. NCCL and gloo take the first interface they find, which on many clusters is the wrong one.
# export NCCL_SOCKET_IFNAME=ib0
# export GLOO_SOCKET_IFNAME=ib0
# export RLVR_HEAD_IP=$(ip -4 -o addr show ib0 | awk '{sub("/.*", "", $4); print $4}')

# Caches that all nodes share.
# export HF_HOME=/shared/huggingface
