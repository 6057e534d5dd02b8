"""Heights and lengths that every figure shares, in heads; y = 0 is just above the crown."""

from __future__ import annotations

HEAD_Y = 0.60  # middle of the head; its crown is half a head above
NECK_Y = 1.28  # where the shoulder line meets the neck: a garment's high shoulder point hangs here
JOINT_Y = 1.66  # shoulder joints
ARMPIT_Y = 2.02
HIP_Y = 3.75  # hip joints
SEEN_HIP_Y = 3.62  # where pose estimators see them: with it trunks have the proportions that MediaPipe sees on photos
CROTCH_Y = 4.02
KNEE_Y = 5.55
ANKLE_Y = 7.06
SOLE_Y = 7.42
UPPER_ARM, FOREARM = 1.32, 1.10
