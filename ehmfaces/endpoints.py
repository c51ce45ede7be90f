"""Names of the public API endpoints. Shared by `ui` and `client`, so that they cannot drift apart."""

GENERATE = "generate"
MIX = "mix"
FACEPACK = "facepack"
CUTOUT = "cutout"
CHECK = "check"

ALL = (GENERATE, MIX, FACEPACK, CUTOUT, CHECK)
