"""Decodes and infers files with nothing around it, one process per core: the limit as this machine reaches it now.

``python -m tests.benchmarks.bare_program MODEL SIZE``: file names as a JSON list in each line, then seconds out.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from django_visual_search import images

interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
source = interpreter.get_input_details()[0]["index"]

for line in sys.stdin:
    start = time.perf_counter()
    for path in json.loads(line):
        picture = images.load(Path(path).read_bytes(), size=int(sys.argv[2]))
        interpreter.set_tensor(source, np.asarray(picture)[None])
        interpreter.invoke()
    print(f"seconds {time.perf_counter() - start}", flush=True)
