"""Look for garbage less often: a quarter of a short process's time is spent on that.

Python looks while it imports modules, which are no garbage, and twice as it ends.
"""

import atexit
import gc


def look_once() -> None:
    gc.collect()  # a file that nobody closed is still complained of
    gc.freeze()


gc.set_threshold(20_000)
atexit.register(look_once)
