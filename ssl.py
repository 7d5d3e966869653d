"""From scores to a robust classifier."""

if __name__ == "ssl":  # asked for as the standard library's module, whose name this script has: hand that over
    import importlib.machinery
    import importlib.util
    import os
    import sys

    _spec = importlib.machinery.PathFinder.find_spec("ssl", [os.path.dirname(os.__file__)])
    sys.modules["ssl"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["ssl"])
